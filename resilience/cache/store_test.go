package cache_test

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/cache"
)

// store is a Store in memory. Before runs first in every call.
type store struct {
	mu     sync.Mutex
	data   map[string][]byte
	ttls   map[string]time.Duration
	calls  atomic.Int64
	before func(ctx context.Context, method string) error
}

func newStore() *store { return &store{data: map[string][]byte{}, ttls: map[string]time.Duration{}} }

func (s *store) begin(ctx context.Context, method string) error {
	s.calls.Add(1)
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		return before(ctx, method)
	}
	return nil
}

func (s *store) do(before func(ctx context.Context, method string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

func (s *store) Get(ctx context.Context, key string) ([]byte, bool, error) {
	if err := s.begin(ctx, "get"); err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.data[key]
	return data, ok, nil
}

func (s *store) Set(ctx context.Context, key string, data []byte, ttl time.Duration) error {
	if err := s.begin(ctx, "set"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data[key], s.ttls[key] = data, ttl
	return nil
}

func (s *store) Delete(ctx context.Context, key string) error {
	if err := s.begin(ctx, "delete"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.data, key)
	return nil
}

func (s *store) keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.data))
}

func (s *store) change(f func([]byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.data {
		s.data[k] = f(slices.Clone(v))
	}
}

// troubles collects what OnStoreError was told.
type troubles struct {
	mu  sync.Mutex
	all []error
}

func (e *troubles) add(_ string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, err)
}

func ask(t *testing.T, c *cache.Cache[int64], u *upstream) resilience.Answer[int64] {
	t.Helper()
	a, err := c.Do(t.Context(), opRead, "k", u.answer)
	require.NoError(t, err)
	return a
}

// settle waits until the Store has what the caller has already.
func settle[T any](t *testing.T, c *cache.Cache[T]) {
	t.Helper()
	require.NoError(t, c.Close(t.Context()))
}

func TestProcessesShareWhatIsInTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, u := newStore(), &upstream{}
		a := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour, Store: s})
		assert.EqualValues(t, 1, ask(t, a, u).Value)
		settle(t, a)
		time.Sleep(20 * time.Second)

		b := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour, Store: s})
		assert.Equal(t, resilience.Answer[int64]{Value: 1, Age: 20 * time.Second}, ask(t, b, u), "found, with its age")
		calls := s.calls.Load()
		assert.EqualValues(t, 1, ask(t, b, u).Value)
		assert.Equal(t, calls, s.calls.Load(), "the second time it is in memory")

		time.Sleep(40 * time.Second)
		assert.EqualValues(t, 2, ask(t, b, u).Value, "it expires for both at the same instant")
		settle(t, b)
		assert.EqualValues(t, 2, ask(t, a, u).Value, "and a's expired one is replaced by b's new one")
		assert.EqualValues(t, 2, u.calls.Load())
		assert.Equal(t, time.Hour+time.Minute, s.ttls[s.keys()[0]], "it is stored for as long as it may be given")
	})
}

func TestAStaleAnswerMayComeFromTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, u := newStore(), &upstream{}
		a := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour, Store: s})
		ask(t, a, u)
		settle(t, a)
		time.Sleep(10 * time.Minute)
		u.err = errBad
		b := open(t, cache.Config[int64]{TTL: time.Minute, Stale: time.Hour, Store: s})
		assert.Equal(t, resilience.Answer[int64]{Value: 1, Age: 10 * time.Minute, Stale: true, Err: errBad}, ask(t, b, u))
	})
}

func TestOfTwoStaleAnswersTheNewerIsGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, u := newStore(), &upstream{}
		config := cache.Config[int64]{TTL: time.Minute, Stale: time.Hour, Store: s}
		a, b := open(t, config), open(t, config)
		ask(t, a, u)
		time.Sleep(5 * time.Minute)
		ask(t, b, u)
		settle(t, b)
		time.Sleep(5 * time.Minute)
		u.err = errBad
		got := ask(t, a, u)
		assert.EqualValues(t, 2, got.Value)
		assert.Equal(t, 5*time.Minute, got.Age)

		s.change(func([]byte) []byte { return []byte("garbage") })
		assert.EqualValues(t, 2, ask(t, a, u).Value, "memory has it now")
	})
}

func TestTheStoreSeesNoArgumentAndNoTenant(t *testing.T) {
	s, u := newStore(), &upstream{}
	c := open(t, cache.Config[int64]{Store: s})
	ctx := resilience.WithTenant(t.Context(), "ada")
	_, err := c.Do(ctx, opRead, cache.Key("secret@example.com"), u.answer)
	require.NoError(t, err)
	settle(t, c)
	require.Len(t, s.keys(), 1)
	assert.Regexp(t, `^rates\.rate:[A-Za-z0-9_-]{43}$`, s.keys()[0])
}

func TestTenantsAreApartInTheStoreToo(t *testing.T) {
	s, u := newStore(), &upstream{}
	c := open(t, cache.Config[int64]{Store: s})
	for _, tenant := range []string{"", "ada", "bob"} {
		_, err := c.Do(resilience.WithTenant(t.Context(), tenant), opRead, "k", u.answer)
		require.NoError(t, err)
	}
	settle(t, c)
	assert.Len(t, s.keys(), 3)
}

func TestAnotherVersionSeesNothingOfWhatIsStored(t *testing.T) {
	s, u := newStore(), &upstream{}
	for i, version := range []string{"", "1", "2"} {
		c := open(t, cache.Config[int64]{Store: s, Version: version})
		assert.EqualValues(t, i+1, ask(t, c, u).Value)
		settle(t, c)
	}
	assert.EqualValues(t, 2, ask(t, open(t, cache.Config[int64]{Store: s, Version: "1"}), u).Value, "and doesn't disturb the old one")
	assert.Len(t, s.keys(), 3)
}

func TestWhatIsStoredIsTrustedNoFurtherThanTheConfigGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, u := newStore(), &upstream{}
		long := open(t, cache.Config[int64]{TTL: time.Hour, Store: s})
		ask(t, long, u)
		settle(t, long)
		time.Sleep(2 * time.Minute)
		assert.EqualValues(t, 2, ask(t, open(t, cache.Config[int64]{TTL: time.Minute, Store: s}), u).Value, "its TTL is ours here")
	})
}

func TestGarbageInTheStoreIsAMissAndIsRemoved(t *testing.T) {
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[(at+len(b))%len(b)] ^= 1; return b }
	}
	for name, spoil := range map[string]func([]byte) []byte{
		"nothing":              func([]byte) []byte { return nil },
		"a byte":               func([]byte) []byte { return []byte{1} },
		"another format":       flip(0),
		"a wrong checksum":     flip(1),
		"a wrong time":         flip(6),
		"a wrong life":         flip(14),
		"a wrong value":        flip(-1),
		"a value cut short":    func(b []byte) []byte { return b[:len(b)-1] },
		"something of others":  func([]byte) []byte { return []byte(`{"value": 1, "expires": "2030-01-01"}`) },
		"a megabyte of zeroes": func([]byte) []byte { return make([]byte, 1<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			s, u, told := newStore(), &upstream{}, &troubles{}
			first := open(t, cache.Config[int64]{Store: s})
			ask(t, first, u)
			settle(t, first)
			s.change(spoil)
			s.do(func(_ context.Context, method string) error {
				if method == "set" {
					return errBad // so that what is left is what it was
				}
				return nil
			})
			c := open(t, cache.Config[int64]{Store: s, OnStoreError: told.add})
			assert.EqualValues(t, 2, ask(t, c, u).Value)
			settle(t, c)
			assert.Empty(t, s.keys())
			assert.EqualValues(t, 1, c.Stats().Garbage)
			assert.Len(t, told.all, 2, "the garbage and the failed set")
		})
	}
}

func TestAValueThatCannotBeDecodedIsAMissAndIsRemoved(t *testing.T) {
	for name, decode := range map[string]func([]byte) (int64, error){
		"an error": func([]byte) (int64, error) { return 0, errBad },
		"a panic":  func([]byte) (int64, error) { panic("decode") },
	} {
		t.Run(name, func(t *testing.T) {
			s, u := newStore(), &upstream{}
			encode := func(n int64) ([]byte, error) { return strconv.AppendInt(nil, n, 10), nil }
			for i := range 2 {
				c := open(t, cache.Config[int64]{Store: s, Encode: encode, Decode: decode})
				assert.EqualValues(t, i+1, ask(t, c, u).Value)
				settle(t, c)
				assert.EqualValues(t, i, c.Stats().Garbage)
			}
		})
	}
}

func TestAValueThatCannotBeEncodedIsKeptInMemoryAlone(t *testing.T) {
	for name, encode := range map[string]func(int64) ([]byte, error){
		"an error": func(int64) ([]byte, error) { return nil, errBad },
		"a panic":  func(int64) ([]byte, error) { panic("encode") },
	} {
		t.Run(name, func(t *testing.T) {
			s, u, told := newStore(), &upstream{}, &troubles{}
			c := open(t, cache.Config[int64]{Store: s, OnStoreError: told.add, Encode: encode, Decode: func([]byte) (int64, error) { return 0, nil }})
			for range 2 {
				assert.EqualValues(t, 1, ask(t, c, u).Value)
			}
			settle(t, c)
			assert.Empty(t, s.keys())
			assert.Len(t, told.all, 1)
		})
	}
}

func TestAStoreThatIsDownFailsNoCallAndIsLeftAloneForAWhile(t *testing.T) {
	for name, trouble := range map[string]func(context.Context) error{
		"errors": func(context.Context) error { return errBad },
		"hangs":  func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"ignores its context": func(context.Context) error {
			time.Sleep(time.Minute)
			return nil
		},
		"panics":                func(context.Context) error { panic("store") },
		"ends its goroutine":    func(context.Context) error { runtime.Goexit(); return nil },
		"says it was cancelled": func(context.Context) error { return context.Canceled },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, u, told := newStore(), &upstream{}, &troubles{}
				s.do(func(ctx context.Context, _ string) error { return trouble(ctx) })
				c := open(t, cache.Config[int64]{Store: s, OnStoreError: told.add})
				start := time.Now()
				const calls = 1000
				for i := range calls {
					_, err := c.Do(t.Context(), opRead, strconv.Itoa(i), u.answer)
					require.NoError(t, err)
				}
				settle(t, c)
				took := time.Since(start)
				t.Logf("%d calls took %v more, the store was called %d times, %+v", calls, took, s.calls.Load(), c.Stats())
				assert.LessOrEqual(t, took, 300*time.Millisecond, "three times its timeout")
				failed := s.calls.Load()
				assert.LessOrEqual(t, failed, int64(6), "three failures, and those that were on their way")
				assert.EqualValues(t, failed, c.Stats().StoreErrors)
				assert.Len(t, told.all, int(failed))
				assert.EqualValues(t, calls, u.calls.Load())

				time.Sleep(5*time.Second + 1)
				_, err := c.Do(t.Context(), opRead, "again", u.answer)
				require.NoError(t, err)
				settle(t, c)
				assert.Equal(t, failed+1, s.calls.Load(), "one call tries again")

				s.do(nil)
				time.Sleep(5*time.Second + 1)
				for i := range 10 {
					_, err := c.Do(t.Context(), opRead, "well"+strconv.Itoa(i), u.answer)
					require.NoError(t, err)
				}
				settle(t, c)
				assert.Len(t, s.keys(), 10, "it is used again without a restart")
				time.Sleep(time.Hour) // for those that ignore their context
			})
		})
	}
}

func TestCallersDoNotWaitUntilTheStoreHasTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, u := newStore(), &upstream{}
		s.do(func(_ context.Context, method string) error {
			if method == "set" {
				time.Sleep(50 * time.Millisecond)
			}
			return nil
		})
		c := open(t, cache.Config[int64]{Store: s})
		start := time.Now()
		ask(t, c, u)
		assert.Zero(t, time.Since(start))
		settle(t, c)
		assert.Len(t, s.keys(), 1)
	})
}

func TestAStoreThatNeverReturnsKeepsFewGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, u := newStore(), &upstream{}
		forever := make(chan struct{})
		s.do(func(context.Context, string) error { <-forever; return errBad })
		c := open(t, cache.Config[int64]{Store: s})
		for i := range 1000 {
			time.Sleep(10 * time.Second) // each time it is tried again
			_, err := c.Do(t.Context(), opRead, strconv.Itoa(i), u.answer)
			require.NoError(t, err)
		}
		assert.EqualValues(t, 64, s.calls.Load())
		close(forever)
		settle(t, c)
	})
}

func TestAValueThatTheStoreRefusesSaysNothingOfTheStore(t *testing.T) {
	s, u := newStore(), &upstream{}
	s.do(func(_ context.Context, method string) error {
		if method == "set" {
			return fault.New(fault.Invalid, errors.New("too large"))
		}
		return nil
	})
	c := open(t, cache.Config[int64]{Store: s})
	for i := range 10 {
		_, err := c.Do(t.Context(), opRead, strconv.Itoa(i), u.answer)
		require.NoError(t, err)
		settle(t, c)
	}
	assert.EqualValues(t, 20, s.calls.Load())
	assert.EqualValues(t, 10, c.Stats().StoreErrors)
}

func TestInvalidateReachesTheStoreAndSaysWhereItDoesNot(t *testing.T) {
	s, u := newStore(), &upstream{}
	c := open(t, cache.Config[int64]{Store: s})
	ask(t, c, u)
	settle(t, c)
	require.NoError(t, c.Invalidate(t.Context(), opRead, "k"))
	assert.Empty(t, s.keys())
	s.do(func(context.Context, string) error { return errBad })
	assert.ErrorIs(t, c.Invalidate(t.Context(), opRead, "k"), errBad)
}

func TestAnAnswerOnItsWayToTheStoreIsOvertakenByAnInvalidation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, u := newStore(), &upstream{}
		s.do(func(_ context.Context, method string) error {
			if method == "set" {
				time.Sleep(50 * time.Millisecond)
			}
			return nil
		})
		c := open(t, cache.Config[int64]{Store: s})
		ask(t, c, u)
		time.Sleep(10 * time.Millisecond)
		require.NoError(t, c.Invalidate(t.Context(), opRead, "k"))
		settle(t, c)
		assert.Empty(t, s.keys())
		assert.EqualValues(t, 2, ask(t, c, u).Value)
		settle(t, c)
		assert.Len(t, s.keys(), 1)
	})
}

func TestMistakesNameNoArgument(t *testing.T) {
	s, u, told := newStore(), &upstream{}, &troubles{}
	c := open(t, cache.Config[int64]{Store: s, OnStoreError: told.add})
	_, err := c.Do(t.Context(), opRead, "secret@example.com", u.answer)
	require.NoError(t, err)
	settle(t, c)
	s.change(func([]byte) []byte { return []byte("secret@example.com") })
	_, err = open(t, cache.Config[int64]{Store: s, OnStoreError: told.add}).Do(t.Context(), opRead, "secret@example.com", u.answer)
	require.NoError(t, err)
	require.Len(t, told.all, 1)
	assert.NotContains(t, told.all[0].Error(), "secret")
}
