// Package crash kills a process that delivers queued mail, at named points, and
// counts at the provider's ledger what that did to the mails.
//
//	CRASH_KILLS=13 go test -v ./internal/crash
//
// The child is this test's own program: it opens the queue, sends through the
// real Client and adapter, and is killed with SIGKILL from within, at the moment
// that its environment names.
package crash_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/sendgrid"
	"github.com/smilefactory/integrations/internal/sim"
	sendgridsim "github.com/smilefactory/integrations/internal/sim/sendgrid"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/sqlite"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/secret"
)

// The points of a delivery at which the child dies.
const (
	beforeSend = "before the send"
	afterWrite = "after the write"
	afterTaken = "after the provider's 202"
	beforeAck  = "before the ack"
)

var points = []string{beforeSend, afterWrite, afterTaken, beforeAck}

const (
	workers = 4  // mails in flight at a kill
	mails   = 40 // of a round
)

func TestMain(m *testing.M) {
	if os.Getenv("CRASH_QUEUE") == "" {
		os.Exit(m.Run())
	}
	if err := child(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child delivers what is queued, and dies at the point that it was told, at the
// mail that it was told.
func child(ctx context.Context) error {
	q, err := sqlite.Open(ctx, os.Getenv("CRASH_QUEUE"))
	if err != nil {
		return err
	}
	defer q.Close(ctx)
	d := &death{point: os.Getenv("CRASH_POINT"), in: atomic.Int64{}}
	n, _ := strconv.Atoi(os.Getenv("CRASH_AFTER"))
	d.in.Store(int64(n))
	c, err := client(q, os.Getenv("CRASH_URL"), d)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // until nothing is left
		for {
			time.Sleep(20 * time.Millisecond)
			if s, err := q.Stats(ctx); err == nil && s.Ready+s.Waiting+s.Running == 0 {
				cancel()
				return
			}
		}
	}()
	return c.Run(ctx, queue.With(func(o *queue.RunOptions) {
		o.Workers, o.Lease, o.Poll = workers, time.Second, 50*time.Millisecond
	}))
}

func client(q queue.Queue, url string, d *death) (*email.Client, error) {
	p := resilience.Default
	p.Retries = 0
	return email.New(
		sendgrid.Sender{Key: secret.Literal("SG.k"), BaseURL: url, HTTPClient: &http.Client{Transport: d}},
		email.WithPolicy(p), email.WithQueueFirst(q), email.WithObserver(d),
	)
}

// death is a transport and an observer that kills its process.
type death struct {
	point string
	in    atomic.Int64 // mails until then
}

func (d *death) at(point string) {
	if d.point == point && d.in.Add(-1) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // it is on its way
	}
}

func (d *death) RoundTrip(r *http.Request) (*http.Response, error) {
	d.at(beforeSend)
	if d.point == afterWrite { // the provider may or may not come to read it
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			WroteRequest: func(httptrace.WroteRequestInfo) { d.at(afterWrite) },
		}))
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		d.at(afterTaken)
	}
	return resp, err
}

func (d *death) Observe(_ context.Context, e resilience.Event) {
	if e.Type == resilience.CallEnded && e.Err == nil {
		d.at(beforeAck)
	}
}

// TestKilledWhileDelivering: at least once loses nothing, and doubles only what
// was in flight at the kill; at most once doubles nothing, and lists what it
// can't know.
func TestKilledWhileDelivering(t *testing.T) {
	kills, err := strconv.Atoi(os.Getenv("CRASH_KILLS"))
	if err != nil {
		kills = 1
	}
	for _, once := range []bool{false, true} {
		for _, point := range points {
			policy := map[bool]string{false: "at least once", true: "at most once"}[once]
			t.Run(policy+", killed "+point, func(t *testing.T) {
				var sum result
				for range kills {
					sum.add(round(t, point, once, 1))
				}
				t.Logf("%d kills, %d mails: %d delivered, %d lost, %d twice, %d listed as unsettled", kills, kills*mails, sum.delivered, sum.lost, sum.twice, sum.listed)
			})
		}
	}
}

func TestTwoProcessesOnOneFileOneOfThemKilled(t *testing.T) {
	for _, point := range points {
		r := round(t, point, false, 2)
		t.Logf("killed %s: %d mails, %d lost, %d twice", point, mails, r.lost, r.twice)
	}
}

type result struct{ delivered, lost, twice, listed int }

func (r *result) add(o result) {
	r.delivered += o.delivered
	r.lost += o.lost
	r.twice += o.twice
	r.listed += o.listed
}

// round queues mails, lets one of the children die, and then lets another finish.
func round(t *testing.T, point string, once bool, children int) result {
	t.Helper()
	srv := sendgridsim.New(sendgridsim.Config{Key: "SG.k"})
	defer srv.Close()
	path := filepath.Join(t.TempDir(), "queue.db")
	ids := enqueue(t, path, srv.URL, once)

	srv.Always(sim.Step{Delay: 10 * time.Millisecond}) // so that the children work side by side
	doomed := start(t, path, srv.URL, point, 10/children)
	var alive []*exec.Cmd
	for range children - 1 {
		alive = append(alive, start(t, path, srv.URL, "", 0))
	}
	err := doomed.Wait()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal(), "it was to die there")
	if children == 1 {
		alive = append(alive, start(t, path, srv.URL, "", 0))
	}
	for _, c := range alive {
		require.NoError(t, c.Wait())
	}

	q, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	defer q.Close(t.Context())
	dead, err := q.Dead(t.Context(), "", 1000)
	require.NoError(t, err)
	r := result{delivered: srv.Mails.Len(), twice: len(srv.Mails.Doubled()), listed: len(dead)}
	listed := map[string]bool{}
	for _, d := range dead {
		listed[d.ID] = true
		assert.Contains(t, d.Reason, "may have been sent")
	}
	missing := slices.DeleteFunc(srv.Mails.Missing(ids...), func(id string) bool { return listed[id] })
	r.lost = len(missing)
	assert.Empty(t, missing, "neither delivered nor listed")
	if once {
		assert.Empty(t, srv.Mails.Doubled())
		assert.LessOrEqual(t, len(dead), workers, "only what was in flight")
	} else {
		assert.Empty(t, dead)
		assert.LessOrEqual(t, len(srv.Mails.Doubled()), workers, "only what was in flight")
	}
	return r
}

func enqueue(t *testing.T, path, url string, once bool) []string {
	t.Helper()
	q, err := sqlite.Open(t.Context(), path)
	require.NoError(t, err)
	c, err := client(q, url, &death{})
	require.NoError(t, err)
	var ids []string
	for n := range mails {
		r, err := c.Send(t.Context(), &email.Message{
			From: email.Address{Address: "shop@example.com"}, To: []email.Address{{Address: fmt.Sprintf("to%d@example.org", n)}},
			Subject: "Order", Text: "Thank you.", AtMostOnce: once,
		})
		require.NoError(t, err)
		ids = append(ids, r.ID)
	}
	require.NoError(t, q.Close(t.Context()))
	return ids
}

// start starts a child; with a point it dies there, at the n-th mail.
func start(t *testing.T, path, url, point string, n int) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CRASH_QUEUE="+path, "CRASH_URL="+url, "CRASH_POINT="+point, "CRASH_AFTER="+strconv.Itoa(n))
	var said strings.Builder
	cmd.Stderr = &said
	require.NoError(t, cmd.Start())
	timer := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		timer.Stop()
		if t.Failed() && said.Len() > 0 {
			t.Log(errors.New(said.String()))
		}
	})
	return cmd
}
