package paymentsql_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/sqldb"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymentsql"
)

var crashRules = []rule{
	{"a process that is killed in a change leaves the entry as it was", killedInAChange},
	{"a process that is killed anywhere leaves a whole entry, with all that it was told is stored", killedAnywhere},
}

var dyingKey = payment.Key{Tenant: "shop", Order: "order-1"}

// dies writes attempts, each with its ids and a row of the service's own, and
// tells of each that is stored, until it is killed: in a change by itself.
func dies(ctx context.Context, databaseURL, where string) error {
	pool, err := sqldb.Open(ctx, databaseURL)
	if err != nil {
		return err
	}
	j, err := paymentsql.Open(ctx, pool)
	if err != nil {
		return err
	}
	for {
		e, err := j.Update(ctx, dyingKey, func(ctx context.Context, e *payment.Entry) error {
			n := len(e.Attempts) + 1
			e.Attempts = append(e.Attempts, payment.AttemptRecord{
				Number: n, Provider: "bank", PaymentID: fmt.Sprint("pay_", n), ChargeID: fmt.Sprint("charge_", n), State: payment.AttemptDeclined,
			})
			if err := deliver(ctx, e.Key.Order, fmt.Sprint(n)); err != nil {
				return err
			}
			if where == "change" && n > 1 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {} // it is on its way
			}
			return nil
		})
		if err != nil {
			return errors.Join(errors.New("it lives on"), err)
		}
		fmt.Fprintln(os.Stdout, e.Version)
	}
}

// killed starts a process that dies, kills it after a while where it doesn't do so
// by itself, and answers the last version of which that process was told.
func killed(t *testing.T, databaseURL, where string, after time.Duration) (told int64) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "PAYMENTSQL_DIES="+databaseURL, "PAYMENTSQL_WHERE="+where)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	for lines := bufio.NewScanner(out); lines.Scan(); {
		_, err := fmt.Sscan(lines.Text(), &told)
		require.NoError(t, err)
		if after > 0 {
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
			after = 0
		}
	}
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal())
	return told
}

// isWhole fails unless all parts of the entry are of one and the same version.
func isWhole(t *testing.T, databaseURL string) *payment.Entry {
	t.Helper()
	j, pool := open(t, databaseURL)
	e, err := j.Update(t.Context(), dyingKey, func(_ context.Context, e *payment.Entry) error { // which nobody locks any more
		assert.EqualValues(t, len(e.Attempts), e.Version)
		e.Version, e.Attempts = 0, append([]payment.AttemptRecord(nil), e.Attempts...)
		return errWhole
	})
	require.ErrorIs(t, err, errWhole)
	require.Nil(t, e)
	e, err = j.Entry(t.Context(), dyingKey)
	require.NoError(t, err)
	n := int(e.Version)
	assert.Len(t, e.Attempts, n)
	assert.Equal(t, n, count(t, pool, "select version from payment_journal"))
	assert.Equal(t, 2*n, count(t, pool, "select count(*) from payment_journal_ids"))
	assert.Equal(t, n, count(t, pool, "select count(*) from delivery"))
	for _, id := range e.IDs() {
		k, err := j.Find(t.Context(), id)
		assert.NoError(t, err)
		assert.Equal(t, dyingKey, k)
	}
	return e
}

var errWhole = errors.New("only looked at")

func killedInAChange(t *testing.T, databaseURL string) {
	open(t, databaseURL)
	assert.EqualValues(t, 1, killed(t, databaseURL, "change", 0))
	assert.EqualValues(t, 1, isWhole(t, databaseURL).Version)
}

func killedAnywhere(t *testing.T, databaseURL string) {
	open(t, databaseURL)
	var before int64
	for round := range 5 {
		told := killed(t, databaseURL, "", time.Duration(7+13*round)*time.Millisecond)
		e := isWhole(t, databaseURL)
		assert.GreaterOrEqual(t, e.Version, told, "what was told to be stored is there")
		assert.LessOrEqual(t, e.Version, told+1)
		assert.Greater(t, told, before)
		before = e.Version
	}
	t.Logf("%d versions, and five deaths", before)
}
