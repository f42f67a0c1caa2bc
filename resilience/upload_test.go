package resilience_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// sink takes a body in pieces, with a wait before each.
type sink struct {
	asker
	every  time.Duration
	limit  int // bytes that it reads
	after  error
	got    []string
	answer time.Duration
}

func (s *sink) put(ctx context.Context, body io.Reader) error {
	var b strings.Builder
	defer func() { s.got = append(s.got, b.String()) }()
	for p := make([]byte, 1); s.limit == 0 || b.Len() < s.limit; {
		if err := steady(s.every)(ctx); err != nil {
			return err
		}
		n, err := body.Read(p)
		b.Write(p[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := steady(s.answer)(ctx); err != nil {
		return err
	}
	return s.after
}

func upload(ctx context.Context, g *resilience.Group[asker], op resilience.Op, body io.Reader) error {
	_, err := resilience.Upload(ctx, g, op, body, func(ctx context.Context, p asker, body io.Reader) (string, error) {
		return "", p.(*sink).put(ctx, body)
	})
	return err
}

// once is a body that can't rewind.
func once(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) }

func uploading() resilience.Policy {
	p := quiet()
	p.Timeout, p.Total, p.Silence = 300*time.Millisecond, time.Second, 500*time.Millisecond
	return p
}

var opPut = resilience.Op{Name: "test.put", Safety: fault.Idempotent}

func TestAnUploadMayTakeLongerThanAnyLimitAsLongAsItIsRead(t *testing.T) {
	for name, c := range map[string]struct {
		sink *sink
		want fault.Kind // Unknown for none
		took time.Duration
	}{
		"steady":                           {&sink{every: 250 * time.Millisecond}, fault.Unknown, 11 * 250 * time.Millisecond},
		"silent for too long between":      {&sink{every: 250 * time.Millisecond, limit: 4, answer: time.Hour}, fault.Uncertain, 1500 * time.Millisecond},
		"never begins to read":             {&sink{every: time.Hour}, fault.Uncertain, 300 * time.Millisecond},
		"reads all, and answers in time":   {&sink{answer: 250 * time.Millisecond}, fault.Unknown, 250 * time.Millisecond},
		"reads all, and answers too late":  {&sink{answer: time.Hour}, fault.Uncertain, 300 * time.Millisecond},
		"reads half, and answers all same": {&sink{limit: 5}, fault.Unknown, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				err := upload(t.Context(), group(t, uploading(), c.sink), opPut, strings.NewReader("0123456789"))
				if c.want == fault.Unknown {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, c.want)
					require.ErrorIs(t, err, resilience.ErrTimeout)
				}
				assert.Equal(t, c.took, time.Since(start))
			})
		})
	}
}

func TestTheTimeThatTheBodyTakesIsNotTheProviders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := iotest.OneByteReader(readerFunc(func(p []byte) (int, error) {
			time.Sleep(time.Minute)
			p[0] = 'x'
			return 1, nil
		}))
		s := &sink{}
		require.NoError(t, upload(t.Context(), group(t, uploading(), s), opPut, io.LimitReader(slow, 3)))
		assert.Equal(t, []string{"xxx"}, s.got)
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestABodyThatCannotRewindIsSentOnceAndThePrimarysWordIsTheCalls(t *testing.T) {
	for name, c := range map[string]struct {
		body     func() io.Reader
		primary  sink
		attempts int
		want     error
	}{
		"read, then refused":       {func() io.Reader { return once("abc") }, sink{after: fault.New(fault.Denied, nil)}, 1, fault.Denied},
		"read, then asked to wait": {func() io.Reader { return once("abc") }, sink{limit: 1, after: fault.New(fault.RateLimited, nil)}, 1, fault.RateLimited},
		"refused before it is":     {func() io.Reader { return once("abc") }, sink{limit: -1, after: fault.New(fault.Denied, nil)}, 2, nil},
		"one that can":             {func() io.Reader { return strings.NewReader("abc") }, sink{after: fault.New(fault.Denied, nil)}, 2, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				backup := &sink{}
				err := upload(t.Context(), group(t, uploading(), &c.primary, backup), opPut, c.body())
				if c.want != nil {
					require.ErrorIs(t, err, c.want)
				} else {
					require.NoError(t, err)
					assert.Equal(t, []string{"abc"}, backup.got)
				}
				assert.Equal(t, c.attempts, len(c.primary.got)+len(backup.got))
			})
		})
	}
}

func TestABodyBeginsAnewFromWhereItStood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := strings.NewReader("head tail")
		_, err := io.CopyN(io.Discard, body, 5)
		require.NoError(t, err)
		backup := &sink{}
		require.NoError(t, upload(t.Context(), group(t, uploading(), &sink{limit: 2, after: fault.New(fault.Unavailable, nil)}, backup), opPut, body))
		assert.Equal(t, []string{"tail"}, backup.got)
	})
}

func TestABodyThatFailsEndsTheCallAndIsNobodysFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("disk")
		backup := &sink{}
		g := group(t, uploading(), &sink{}, backup)
		err := upload(t.Context(), g, opPut, io.MultiReader(strings.NewReader("ab"), iotest.ErrReader(cause)))
		require.ErrorIs(t, err, fault.Invalid)
		require.ErrorIs(t, err, cause)
		assert.Empty(t, backup.got)
		assert.Zero(t, g.Inspect()[0].Failures)
	})
}

// As net/http does, which may go on reading after it has answered.
func TestABodyIsNotReadByAnAttemptThatIsOver(t *testing.T) {
	var kept io.Reader
	g := group(t, quiet(), &sink{})
	_, err := resilience.Upload(t.Context(), g, opPut, strings.NewReader("abc"), func(_ context.Context, _ asker, body io.Reader) (string, error) {
		kept = body
		return "", nil
	})
	require.NoError(t, err)
	_, err = kept.Read(make([]byte, 1))
	assert.ErrorContains(t, err, "over")
}
