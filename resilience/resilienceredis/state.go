package resilienceredis

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/smilefactory/integrations/resilience"
)

// Warner is told that other processes have seen a provider fail, and until when
// it is worth being careful. [resilience.Group] is one.
type Warner interface {
	Warn(provider string, d time.Duration)
}

// StateConfig says where a State meets the others. Its zero value is of use.
type StateConfig struct {
	// Prefix begins the key and the channel. Empty means "resilience:state:". Groups
	// that share it take providers of one name for the same.
	Prefix string
	// Queue is how much news may wait for Redis; what doesn't fit is dropped and
	// counted. Zero means 64.
	Queue int
	// OnError is told of every failure of Redis, in the goroutine of Run.
	OnError func(error)
}

const (
	defaultStatePrefix = "resilience:state:"
	defaultQueue       = 64
	maxRemembered      = 1000
)

// Time limits of State, which nobody waits for.
const (
	stateTimeout = time.Second      // of a command
	stateBackoff = time.Second      // before Redis is tried again
	stateSilence = 10 * time.Second // after which the subscription is tested
)

// State tells other processes of breakers that opened here, and warns the Groups
// here of those that opened there. It is an observer of the Groups whose breakers
// it tells of, and Run does the rest in the background: no call waits for Redis.
//
//	state, err := resilienceredis.NewState(client, resilienceredis.StateConfig{})
//	group, err := resilience.New(policy, members, state)
//	go state.Run(ctx, group)
//
// While Redis is down news waits for as long as it is true, and what others tell
// is missed; on reconnecting State reads what is open then. So does a process that
// starts: an opening is remembered for as long as it lasts. Breakers of single
// keys ([resilience.Policy.PerKey]) are not told of.
type State struct {
	client redis.UniversalClient
	prefix string
	self   string
	queue  chan opening
	onErr  func(error)

	running atomic.Bool
	stats   stateCounters
}

var _ resilience.Observer = (*State)(nil)

type opening struct {
	provider string
	until    time.Time
}

// NewState checks client and config. It asks nothing of Redis yet. A Ring is
// refused: when a server of it goes or comes back, its channels move, its
// subscriptions don't, and while all are down subscribing panics.
func NewState(client redis.UniversalClient, config StateConfig) (*State, error) {
	if err := check(client); err != nil {
		return nil, err
	}
	if _, ring := client.(*redis.Ring); ring {
		return nil, errors.New("resilienceredis: State can't use a Ring as its client: subscriptions don't follow the servers that it moves channels to")
	}
	if config.Queue < 0 {
		return nil, fmt.Errorf("resilienceredis: Queue is negative: %d", config.Queue)
	}
	if config.Queue == 0 {
		config.Queue = defaultQueue
	}
	if config.Prefix == "" {
		config.Prefix = defaultStatePrefix
	}
	var self [16]byte
	_, _ = rand.Read(self[:]) // never fails
	return &State{
		client: client, prefix: config.Prefix, self: hex.EncodeToString(self[:]),
		queue: make(chan opening, config.Queue), onErr: config.OnError,
	}, nil
}

// Observe takes note of a breaker that opened. It never waits.
func (s *State) Observe(_ context.Context, e resilience.Event) {
	if e.Type != resilience.StateChanged || e.To != resilience.Open || e.Key != "" || e.Delay <= 0 {
		return
	}
	select {
	case s.queue <- opening{e.Provider, time.Now().Add(min(e.Delay, maxOpen))}:
	default:
		s.stats.dropped.Add(1)
	}
}

// Run tells and listens until ctx ends, whose error it returns. It may run once
// at a time.
func (s *State) Run(ctx context.Context, targets ...Warner) error {
	if s.running.Swap(true) {
		return errors.New("resilienceredis: State.Run is running already")
	}
	defer s.running.Store(false)
	var both sync.WaitGroup
	both.Go(func() { s.tell(ctx) })
	both.Go(func() { s.listen(ctx, targets) })
	both.Wait()
	return ctx.Err()
}

//go:embed open.lua
var openSource string

//go:embed opened.lua
var openedSource string

var (
	openScript   = redis.NewScript(openSource)
	openedScript = redis.NewScript(openedSource)
)

func (s *State) channel() string { return s.prefix + "opened" }

func (s *State) key() string { return s.prefix + "open" }

func (s *State) tell(ctx context.Context) {
	for {
		select {
		case o := <-s.queue:
			s.publish(ctx, o)
		case <-ctx.Done():
			return
		}
	}
}

// publish tries until it is told, is over, or ctx ends.
func (s *State) publish(ctx context.Context, o opening) {
	for {
		left := time.Until(o.until).Milliseconds()
		if left <= 0 {
			s.stats.dropped.Add(1)
			return
		}
		err := s.open(ctx, o.provider, left)
		if err == nil {
			s.stats.published.Add(1)
			return
		}
		s.failed(ctx, "publish", err)
		if !sleep(ctx, stateBackoff) {
			return
		}
	}
}

func (s *State) open(ctx context.Context, provider string, ms int64) error {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	m := message{Version: messageVersion, From: s.self, Provider: provider}
	member := m.encode()
	m.Milliseconds = ms
	return openScript.Run(ctx, s.client, []string{s.key()}, member, ms, maxRemembered, s.channel(), m.encode()).Err()
}

// listen subscribes, and does so again when the connection is lost.
func (s *State) listen(ctx context.Context, targets []Warner) {
	for ctx.Err() == nil {
		if err := s.subscribe(ctx, targets); err != nil {
			s.failed(ctx, "subscribe", err)
			sleep(ctx, stateBackoff)
		}
	}
}

// subscribe hears until the connection is lost, or ctx ends.
func (s *State) subscribe(ctx context.Context, targets []Warner) error {
	sub := s.client.Subscribe(ctx) // to nothing, and makes no connection yet
	end := func() { _ = sub.Close() }
	defer end()
	defer context.AfterFunc(ctx, end)() // a read doesn't heed ctx
	if err := sub.Subscribe(ctx, s.channel()); err != nil {
		return err
	}
	for tested := false; ; {
		got, err := sub.ReceiveTimeout(ctx, stateSilence)
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() && !tested && ctx.Err() == nil {
			tested = true
			err = sub.Ping(ctx)
		} else if err == nil {
			tested = false
		}
		if err != nil {
			return err
		}
		switch got := got.(type) {
		case *redis.Subscription: // now nothing is missed any more
			if err := s.recall(ctx, targets); err != nil {
				return err
			}
		case *redis.Message:
			s.hear(got.Payload, 0, targets)
		}
	}
}

// recall warns of what is open already.
func (s *State) recall(ctx context.Context, targets []Warner) error {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	all, err := openedScript.Run(ctx, s.client, []string{s.key()}, maxRemembered).StringSlice()
	if err != nil {
		return err
	}
	for i := 0; i+1 < len(all); i += 2 {
		ms, _ := strconv.ParseInt(all[i+1], 10, 64) // zero is refused below
		s.hear(all[i], ms, targets)
	}
	return nil
}

// hear takes a message of another process. What is remembered has its time
// apart.
func (s *State) hear(data string, ms int64, targets []Warner) {
	m, err := parse(data)
	if err == nil && m.Milliseconds == 0 {
		m.Milliseconds = min(ms, maxOpen.Milliseconds())
	}
	switch {
	case err != nil || m.Milliseconds <= 0:
		s.stats.invalid.Add(1)
		return
	case m.From == s.self:
		return
	}
	s.stats.heard.Add(1)
	for _, t := range targets {
		t.Warn(m.Provider, time.Duration(m.Milliseconds)*time.Millisecond)
	}
}

func (s *State) failed(ctx context.Context, what string, err error) {
	if ctx.Err() != nil { // Run's: it was told to end
		return
	}
	s.stats.failed.Add(1)
	if s.onErr != nil {
		s.onErr(failed(what, err))
	}
}

// StateStats counts what a State did since NewState.
type StateStats struct {
	// Published openings were told to the others; Dropped ones were not, as the
	// queue was full or they were over before Redis could be reached.
	Published, Dropped uint64
	// Heard are warnings of other processes, Invalid messages that none of us sent.
	Heard, Invalid uint64
	// Failed are failures of Redis.
	Failed uint64
}

type stateCounters struct{ published, dropped, heard, invalid, failed atomic.Uint64 }

// Stats is a look at the counts.
func (s *State) Stats() StateStats {
	c := &s.stats
	return StateStats{
		Published: c.published.Load(), Dropped: c.dropped.Load(),
		Heard: c.heard.Load(), Invalid: c.invalid.Load(), Failed: c.failed.Load(),
	}
}
