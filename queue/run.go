package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// RunOption changes how a Queue is worked on.
type RunOption func(*RunOptions)

// RunOptions are what the RunOptions say, for whoever implements a Queue.
type RunOptions struct {
	// Workers is how many jobs run at once; 8.
	Workers int
	// Lease is how long a claim lasts without a sign of life; a minute. It is
	// extended while the handler runs. A job whose worker died runs again after it.
	Lease time.Duration
	// Drain is how long handlers may go on after the end; 30 seconds.
	Drain time.Duration
	// Initial and Longest bound the wait before another attempt, which doubles each
	// time and is spread by half; a second and an hour.
	Initial, Longest time.Duration
	// Poll is how often the store is asked where nothing wakes; 5 seconds.
	Poll time.Duration
	// Observe is told what became of each attempt, such as [Log]. It must be quick.
	Observe func(Event)
}

// With makes a RunOption of a change, such as
//
//	queue.With(func(o *queue.RunOptions) { o.Workers = 32 })
func With(change func(*RunOptions)) RunOption { return change }

// NewRunOptions fills in what the options leave open, and refuses what can't be.
func NewRunOptions(options ...RunOption) (RunOptions, error) {
	o := RunOptions{
		Workers: 8, Lease: time.Minute, Drain: 30 * time.Second, Initial: time.Second, Longest: time.Hour, Poll: 5 * time.Second,
		Observe: func(Event) {},
	}
	for _, change := range options {
		change(&o)
	}
	switch {
	case o.Workers < 1:
		return o, errors.New("queue: Workers must be at least 1")
	case o.Lease < time.Second || o.Lease > MaxLease:
		return o, fmt.Errorf("queue: Lease must be from 1s to %v", MaxLease)
	case o.Drain < 0 || o.Initial <= 0 || o.Longest < o.Initial || o.Poll <= 0:
		return o, errors.New("queue: Drain must not be negative, Initial and Poll positive, and Longest at least Initial")
	}
	return o, nil
}

// MaxLease is the longest lease that there is: a claim that ends later than that
// from now was made by a clock that has gone back since.
const MaxLease = time.Hour

// EventType says what an [Event] reports.
type EventType string

// What became of an attempt, and of the worker.
const (
	Finished    EventType = "finished"
	Retried     EventType = "retried" // it is tried again after Wait
	Died        EventType = "died"    // it went to the dead letters
	LeaseLost   EventType = "lease lost"
	StoreFailed EventType = "store failed" // and is asked again after Wait
)

// Event is what became of one attempt. It holds nothing of the payload.
type Event struct {
	Type     EventType
	ID, Kind string
	Attempt  int
	Took     time.Duration
	Wait     time.Duration
	Err      error
}

// Run works until ctx ends, see [Queue].
func (e *Engine) Run(ctx context.Context, handlers map[string]Handler, options ...RunOption) error {
	o, err := NewRunOptions(options...)
	if err != nil {
		return err
	}
	if len(handlers) == 0 {
		return errors.New("queue: Run needs a handler")
	}
	w := &worker{
		Engine: e, RunOptions: o, handlers: handlers, kinds: slices.Sorted(maps.Keys(handlers)),
		running: map[*running]bool{}, free: make(chan struct{}, o.Workers),
	}
	return w.run(ctx)
}

// worker is one Run.
type worker struct {
	*Engine
	RunOptions
	handlers map[string]Handler
	kinds    []string
	free     chan struct{} // a place taken for each job that runs

	mu      sync.Mutex
	running map[*running]bool
	jobs    sync.WaitGroup
}

// running is a claimed job whose handler works.
type running struct {
	Claimed
	until  time.Time
	cancel context.CancelCauseFunc
}

// The causes with which a handler's context ends.
var (
	ErrLeaseLost = errors.New("queue: the lease was lost")
	ErrDrained   = errors.New("queue: the worker's time to drain is up")
)

func (w *worker) run(ctx context.Context) error {
	// Handlers outlive ctx by the drain.
	working, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	beating, rest := context.WithCancel(working)
	var beat sync.WaitGroup
	beat.Go(func() { w.heartbeat(beating) })
	defer beat.Wait()
	defer rest()
	for ctx.Err() == nil {
		w.wait(ctx, w.claim(ctx, working))
	}
	w.drain(stop)
	return nil
}

func (w *worker) drain(stop context.CancelCauseFunc) {
	done := make(chan struct{})
	go func() { w.jobs.Wait(); close(done) }()
	t := time.NewTimer(w.Drain)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		stop(ErrDrained)
		<-done
	}
}

// claim starts what can be claimed, and says how long to wait before the next
// time: zero where there may be more.
func (w *worker) claim(ctx, working context.Context) time.Duration {
	places := w.takePlaces(ctx)
	if places == 0 {
		return 0
	}
	now := w.now()
	claimed, err := w.store.Claim(ctx, Claim{Now: now, Until: now.Add(w.Lease), Kinds: w.kinds, N: places})
	for range places - len(claimed) {
		<-w.free
	}
	if err != nil {
		if ctx.Err() == nil {
			w.Observe(Event{Type: StoreFailed, Err: err, Wait: w.Poll})
		}
		w.sleep(ctx, w.Poll, nil) // what is due makes no difference now
		return 0
	}
	for _, c := range claimed {
		w.start(working, c, now.Add(w.Lease))
	}
	if len(claimed) == places {
		return 0
	}
	return w.Poll
}

// takePlaces waits for a place and takes all that are free: none once ctx has
// ended.
func (w *worker) takePlaces(ctx context.Context) int {
	select {
	case w.free <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	if ctx.Err() != nil { // both were so
		<-w.free
		return 0
	}
	for n := 1; ; n++ {
		select {
		case w.free <- struct{}{}:
		default:
			return n
		}
	}
}

// wait sleeps until a job is due, the store wakes, or d has passed.
func (w *worker) wait(ctx context.Context, d time.Duration) {
	if d == 0 || ctx.Err() != nil {
		return
	}
	var woken <-chan struct{}
	if s, ok := w.store.(Waker); ok {
		woken = s.Woken()
	}
	if due, err := w.store.Due(ctx, w.kinds); err == nil && !due.IsZero() {
		d = min(d, max(due.Sub(w.now()), 0))
	}
	w.sleep(ctx, d, woken)
}

func (w *worker) sleep(ctx context.Context, d time.Duration, woken <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-woken:
	case <-ctx.Done():
	}
}

func (w *worker) start(working context.Context, c Claimed, until time.Time) {
	ctx, cancel := context.WithCancelCause(working)
	r := &running{Claimed: c, until: until, cancel: cancel}
	w.mu.Lock()
	w.running[r] = true
	w.mu.Unlock()
	w.jobs.Go(func() {
		defer func() {
			w.mu.Lock()
			delete(w.running, r)
			w.mu.Unlock()
			cancel(nil)
			<-w.free
		}()
		w.work(ctx, r)
	})
}

// work runs one attempt and settles it.
func (w *worker) work(ctx context.Context, r *running) {
	start := w.now()
	s, err := w.attempt(ctx, r)
	ev := Event{ID: r.ID, Kind: r.Kind, Attempt: r.Attempt, Took: w.now().Sub(start), Err: err}
	switch s.Outcome {
	case Again:
		ev.Type, ev.Wait = Retried, s.At.Sub(w.now())
	case Buries:
		ev.Type = Died
	default:
		ev.Type = Finished
	}
	if w.settle(ctx, r, s) {
		ev.Type, ev.Wait = LeaseLost, 0
	}
	w.Observe(ev)
}

// attempt says what becomes of a claimed job, and runs its handler where it may
// run.
func (w *worker) attempt(ctx context.Context, r *running) (Settlement, error) {
	s := Settlement{ID: r.ID, Token: r.Token}
	bury := func(reason string, err error) (Settlement, error) {
		if s.Outcome, s.Reason = Buries, reason; err != nil {
			s.Reason += ": " + cut(err.Error())
		}
		return s, cmpErr(err, reason)
	}
	switch now := w.now(); {
	case !r.Expires.IsZero() && !now.Before(r.Expires):
		return bury(ReasonExpired, lastError(r.LastError))
	case r.Attempt > r.MaxAttempts:
		reason := ReasonAttempts
		if r.LastError == "" {
			reason = ReasonWorkerDied
		}
		return bury(reason, lastError(r.LastError))
	}
	d, err := w.open(ctx, r.Claimed)
	switch {
	case errors.Is(err, fault.Unavailable): // the keys can't be had now
		// The attempt is named, so that a handler can tell it from one that died.
		s.Outcome, s.At, s.Reason = Again, w.now().Add(w.backoff(r.Attempt)), cut(fmt.Sprintf("attempt %d: %v", r.Attempt, err))
		return s, err
	case err != nil:
		return bury(ReasonUnreadable, err)
	}
	err = call(ctx, w.handlers[r.Kind], d)
	v, _ := errors.AsType[*verdict](err)
	switch {
	case err == nil:
		return s, nil
	case v != nil && v.bury:
		return bury(ReasonBuried, err)
	case r.Attempt >= r.MaxAttempts:
		return bury(ReasonAttempts, err)
	}
	wait := w.backoff(r.Attempt)
	if v != nil {
		wait = v.wait
	}
	s.Outcome, s.At, s.Reason = Again, w.now().Add(wait), cut(err.Error())
	return s, err
}

func lastError(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}

func cmpErr(err error, reason string) error {
	if err != nil {
		return err
	}
	return errors.New("queue: " + reason)
}

// cut bounds what is stored of an error.
func cut(s string) string {
	const most = 1000
	if len(s) > most {
		return s[:most]
	}
	return s
}

// call runs a handler; a panic or runtime.Goexit in it is an error of the job and
// no end of the worker.
func call(ctx context.Context, h Handler, d Delivery) error {
	result := make(chan error, 1)
	go func() { // Goexit would end the goroutine that settles
		err := errors.New("queue: the handler ended its goroutine")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("queue: the handler panicked: %T", p) // its value may hold anything
			}
			result <- err
		}()
		err = h(ctx, d)
	}()
	return <-result
}

// backoff is the wait after that attempt: doubled each time, spread by half.
func (w *worker) backoff(attempt int) time.Duration {
	d := w.Longest
	if doublings := attempt - 1; w.Initial <= w.Longest>>doublings {
		d = w.Initial << doublings
	}
	return d/2 + rand.N(d/2+1) //nolint:gosec // spreading, not secrecy
}

// settle tells the store, again and again while the lease lasts. It reports
// whether the lease was lost.
func (w *worker) settle(ctx context.Context, r *running, s Settlement) (lost bool) {
	ctx = context.WithoutCancel(ctx) // what was done must be noted, also at the end of a drain
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, w.Poll) {
		now := w.now()
		all, err := w.store.Settle(ctx, now, []Settlement{s})
		if err == nil {
			return all[0]
		}
		w.Observe(Event{Type: StoreFailed, ID: r.ID, Kind: r.Kind, Attempt: r.Attempt, Err: err, Wait: wait})
		w.mu.Lock()
		until := r.until
		w.mu.Unlock()
		if !now.Add(wait).Before(until) {
			return true // it will run again
		}
		time.Sleep(wait) //nolint:forbidigo // bounded by the lease
	}
}

// heartbeat extends the leases of what runs.
func (w *worker) heartbeat(ctx context.Context) {
	t := time.NewTicker(w.Lease / 3)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			w.extend(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (w *worker) extend(ctx context.Context) {
	now := w.now()
	until := now.Add(w.Lease)
	var beats []Settlement
	var held []*running
	w.mu.Lock()
	for r := range w.running {
		held = append(held, r)
		beats = append(beats, Settlement{ID: r.ID, Token: r.Token, Outcome: Extend, At: until})
	}
	w.mu.Unlock()
	if len(beats) == 0 {
		return
	}
	lost, err := w.store.Settle(ctx, now, beats)
	if err != nil && ctx.Err() == nil {
		w.Observe(Event{Type: StoreFailed, Err: err, Wait: w.Lease / 3})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, r := range held {
		switch {
		case err == nil && !lost[i]:
			r.until = until
		case err == nil, !now.Before(r.until): // somebody else may have it
			r.cancel(ErrLeaseLost)
		}
	}
}
