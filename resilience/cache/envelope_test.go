package cache

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhatIsSealedComesBack(t *testing.T) {
	for _, payload := range []string{"", "null", `{"a":1}`} {
		e := envelope{time.Unix(1_700_000_000, 123), 90 * time.Second, []byte(payload)}
		got, err := unseal(seal(e))
		require.NoError(t, err)
		assert.True(t, e.made.Equal(got.made))
		assert.Equal(t, e.life, got.life)
		assert.Equal(t, payload, string(got.payload))
	}
}

// What is decoded is what was encoded, or nothing.
func FuzzUnseal(f *testing.F) {
	good := seal(envelope{time.Unix(1_700_000_000, 0), time.Minute, []byte(`"value"`)})
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte{})
	f.Add([]byte{format})
	f.Add(bytes.Repeat([]byte{format}, header))
	f.Add(seal(envelope{time.Unix(0, -1), -time.Minute, nil}))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := unseal(data)
		if err != nil {
			assert.Zero(t, e)
			return
		}
		assert.Positive(t, e.life)
		assert.Equal(t, data, seal(e))
	})
}

// A stored entry of any content is an answer of this Config, or a miss: it never
// lives longer than it may, and breaks nothing.
func FuzzDecoded(f *testing.F) {
	c, err := New(Config[map[string]any]{TTL: time.Minute, Stale: time.Hour, Store: nothing{}})
	require.NoError(f, err)
	for _, at := range []time.Time{time.Now(), time.Unix(0, 0), time.Now().Add(time.Hour), time.Unix(1<<40, 0), time.Unix(0, math.MinInt64)} {
		for _, payload := range []string{`{}`, `{"a":[1,null]}`, `[]`, `{"a"`, "\xff"} {
			f.Add(at.UnixNano(), int64(time.Hour), []byte(payload))
		}
	}
	f.Fuzz(func(t *testing.T, made, life int64, payload []byte) {
		e, err := c.decoded(seal(envelope{time.Unix(0, made), time.Duration(life), payload}))
		if err != nil {
			return
		}
		now := c.now()
		assert.LessOrEqual(t, e.made, now, "nothing comes from the future")
		assert.LessOrEqual(t, e.life, time.Minute)
		assert.False(t, c.usable(e, now+int64(time.Hour+time.Minute)))
	})
}

type nothing struct{ Store }
