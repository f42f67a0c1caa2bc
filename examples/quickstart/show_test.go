package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/queue"
)

// TestMain is the worker too, as main is.
func TestMain(m *testing.M) {
	if os.Getenv(queueFile) == "" {
		goleak.VerifyTestMain(m)
		return
	}
	if err := run(context.Background(), os.Stdout, nil, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func TestTheShowLosesNothingAndSaysSo(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, show(t.Context(), &out, quick()))
	said := out.String()
	for _, want := range []string{
		"\n24 sent = 24 delivered, 0 lost, 0 twice\n",
		`a receipt that says "queued"`,
		" is killed (",
		"\n  20 queued = 20 delivered, 0 lost, 0 twice\n",
		"\n  of 20 mails 0 are lost, 3 arrived twice, 0 are dead letters\n",
		"\n  of 20 mails 0 are lost, 0 arrived twice, 4 are dead letters\n",
		"it may have been sent, and must not be sent twice",
		"3 of them had gone, 1 had not",
	} {
		assert.Contains(t, said, want)
	}
	assert.Equal(t, 3, strings.Count(said, " mails in flight\n"))
	assert.GreaterOrEqual(t, strings.Count(said, ", with 4 mails in flight\n"), 2) // what the worker has in vain comes and goes
	for line := range strings.Lines(said) {
		assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), 80, line)
	}
}

func TestAPartEndsWhenItsSpectatorLeaves(t *testing.T) {
	for _, part := range parts {
		require.Error(t, part.play(canceled(t), io.Discard, quick()), part.title)
	}
}

// What isn't as promised is an error, so that CI sees it.
func TestABrokenPromiseIsAnError(t *testing.T) {
	unheard := []string{"a", "b"}
	listed := []queue.Dead{{Delivery: queue.Delivery{Job: queue.Job{ID: "a"}}}, {Delivery: queue.Delivery{Job: queue.Job{ID: "b"}}}}
	for name, tt := range map[string]struct {
		outcome
		once bool
		want string
	}{
		"a lost mail":                                {outcome{lost: []string{"c"}}, false, "1 mails are lost"},
		"a lost mail that goes at most once":         {outcome{lost: []string{"c"}, dead: listed}, true, "1 mails are lost"},
		"a duplicate of a mail that was settled":     {outcome{twice: []string{"a", "c"}}, false, "wasn't in flight"},
		"a duplicate of a mail that must go once":    {outcome{twice: []string{"a"}, dead: listed}, true, "must not"},
		"a mail that may have gone and isn't listed": {outcome{dead: listed[:1]}, true, "isn't listed"},
		"a mail that may go again and is given up":   {outcome{dead: listed[:1]}, false, "given up"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, tt.check(tt.once, unheard), tt.want)
		})
	}
	require.NoError(t, outcome{twice: unheard}.check(false, unheard))
	require.NoError(t, outcome{dead: listed}.check(true, unheard))

	require.NoError(t, outcome{delivered: unheard}.checkOnce(2))
	require.Error(t, outcome{delivered: unheard}.checkOnce(3))
	require.Error(t, outcome{delivered: unheard, twice: unheard[:1]}.checkOnce(2))
}

func TestAWorkerWithoutAQueueFails(t *testing.T) {
	require.Error(t, work(t.Context(), strings.NewReader(""), env(map[string]string{queueFile: t.TempDir()})))
}
