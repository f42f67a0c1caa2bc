package queue_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/queuetest"
)

func key(context.Context, string) ([]byte, error) { return bytes.Repeat([]byte{7}, 32), nil }

func TestKeysThatCanNotSealAreRefusedAtTheStart(t *testing.T) {
	for name, k := range map[string]queue.Keys{
		"no current id":         {Key: key},
		"an id that's too long": {Current: string(bytes.Repeat([]byte("k"), 65)), Key: key},
		"no source of keys":     {Current: "k1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := queue.NewEngine(&queuetest.Memory{}, queue.WithKeys(k))
			assert.ErrorContains(t, err, "queue: Keys.")
		})
	}
}

func TestWithoutAKeyNothingIsStored(t *testing.T) {
	for name, source := range map[string]func(context.Context, string) ([]byte, error){
		"the source fails":  func(context.Context, string) ([]byte, error) { return nil, errBoom },
		"a key of 10 bytes": func(context.Context, string) ([]byte, error) { return make([]byte, 10), nil },
	} {
		t.Run(name, func(t *testing.T) {
			q := queuetest.New(queue.WithKeys(queue.Keys{Current: "k1", Key: source}))
			_, err := q.Enqueue(t.Context(), job())
			assert.ErrorIs(t, err, fault.Unavailable)
			s, err := q.Stats(t.Context())
			require.NoError(t, err)
			assert.Zero(t, s)
		})
	}
}

// FuzzOpen has whatever lies in a store read: it is a payload, or a dead letter.
func FuzzOpen(f *testing.F) {
	sealed, err := queue.NewEngine(&queuetest.Memory{}, queue.WithKeys(queue.Keys{Current: "k1", Key: key}))
	if err != nil {
		f.Fatal(err)
	}
	good, err := sealed.Records(f.Context(), time.Now(), queue.Job{ID: "a", Kind: "test", Payload: []byte("secret")})
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range [][]byte{nil, {0}, {1}, {1, 254}, {1, 255, 1}, {2}, {0, 'x'}, good[0].Payload, good[0].Payload[:10]} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		m := &queuetest.Memory{}
		q, err := queue.NewEngine(m, queue.WithKeys(queue.Keys{Current: "k1", Key: key}))
		require.NoError(t, err)
		now := time.Now()
		_, err = m.Insert(t.Context(), now, []queue.Record{{ID: "a", Kind: "test", Payload: stored, MaxAttempts: 1, EnqueuedAt: now, Rank: now.UnixMilli()}})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var got []byte
		h := func(_ context.Context, d queue.Delivery) error { got = d.Payload; return nil }
		var last queue.Event
		err = q.Run(ctx, map[string]queue.Handler{"test": h}, queue.With(func(o *queue.RunOptions) {
			o.Observe = func(e queue.Event) { last = e; cancel() }
		}))
		require.NoError(t, err)
		switch last.Type {
		case queue.Finished:
			plain := len(stored) > 0 && stored[0] == 0 && bytes.Equal(got, stored[1:])
			if !plain && (!bytes.Equal(stored, good[0].Payload) || string(got) != "secret") {
				t.Errorf("%x was read as %x", stored, got)
			}
		case queue.Died:
			dead, err := m.List(t.Context(), "", 1)
			require.NoError(t, err)
			assert.True(t, bytes.Equal(stored, dead[0].Payload), "it is kept as it was")
		default:
			t.Errorf("it ended %s: %v", last.Type, last.Err)
		}
	})
}

// other is a Store without more.
type other struct{ queue.Store }

func TestWhatAStoreCanNotDoIsUnsupported(t *testing.T) {
	q, err := queue.NewEngine(other{&queuetest.Memory{}})
	require.NoError(t, err)
	_, deadErr := q.Dead(t.Context(), "", 1)
	_, cancelErr := q.Cancel(t.Context(), "a")
	for _, err := range []error{deadErr, cancelErr, q.Replay(t.Context(), "a"), q.Discard(t.Context(), "a")} {
		assert.ErrorIs(t, err, errors.ErrUnsupported)
	}
}
