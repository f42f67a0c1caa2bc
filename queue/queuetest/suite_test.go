package queuetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smilefactory/integrations/queue"
)

// recorder is a testing.TB that keeps what a rule says instead of failing.
type recorder struct {
	testing.TB
	mu   sync.Mutex
	said []string
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *recorder) Error(args ...any) { r.Errorf("%s", fmt.Sprint(args...)) }

func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...); runtime.Goexit() }

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

// judge is what a rule says of a queue: nothing where it is kept.
func judge(t *testing.T, says string, s func() flawed) string {
	t.Helper()
	check := checkOf(t, says)
	r := &recorder{}
	synctest.Test(t, func(t *testing.T) {
		r.TB = t
		done := make(chan struct{})
		go func() { // of its own, which Fatal may end
			defer close(done)
			check(r, s())
		}()
		<-done
	})
	return strings.Join(r.said, "\n")
}

func checkOf(t *testing.T, says string) func(testing.TB, flawed) {
	t.Helper()
	for _, r := range slices.Concat(heavy, rules, slow) {
		if r.says == says {
			return func(t testing.TB, f flawed) { r.check(t, f.subject(t)) }
		}
	}
	for _, r := range storeRules {
		if r.says == says {
			return func(t testing.TB, f flawed) { r.check(t, f) }
		}
	}
	t.Fatalf("there is no rule %q", says)
	return nil
}

// flawed is a Memory, and a Queue on it, of which some parts are replaced.
type flawed struct {
	*Memory
	insert  func(context.Context, time.Time, []queue.Record) ([]queue.Enqueued, error)
	claim   func(context.Context, queue.Claim) ([]queue.Claimed, error)
	settle  func(context.Context, time.Time, []queue.Settlement) ([]bool, error)
	due     func(context.Context, []string) (time.Time, error)
	count   func(context.Context, time.Time) (queue.Stats, error)
	list    func(context.Context, string, int) ([]queue.Buried, error)
	revive  func(context.Context, time.Time, []string) (bool, error)
	erase   func(context.Context, []string) error
	cancel  func(context.Context, time.Time, []string) ([]bool, error)
	woken   func() <-chan struct{}
	enqueue func(context.Context, *queue.Engine, []queue.Job) ([]queue.Enqueued, error)
	run     func(context.Context, *queue.Engine, map[string]queue.Handler, []queue.RunOption) error
	keys    func(queue.Keys) queue.Keys
}

func (f flawed) Insert(ctx context.Context, now time.Time, records []queue.Record) ([]queue.Enqueued, error) {
	if f.insert != nil {
		return f.insert(ctx, now, records)
	}
	return f.Memory.Insert(ctx, now, records)
}

func (f flawed) Claim(ctx context.Context, c queue.Claim) ([]queue.Claimed, error) {
	if f.claim != nil {
		return f.claim(ctx, c)
	}
	return f.Memory.Claim(ctx, c)
}

func (f flawed) Settle(ctx context.Context, now time.Time, all []queue.Settlement) ([]bool, error) {
	if f.settle != nil {
		return f.settle(ctx, now, all)
	}
	return f.Memory.Settle(ctx, now, all)
}

func (f flawed) Due(ctx context.Context, kinds []string) (time.Time, error) {
	if f.due != nil {
		return f.due(ctx, kinds)
	}
	return f.Memory.Due(ctx, kinds)
}

func (f flawed) Count(ctx context.Context, now time.Time) (queue.Stats, error) {
	if f.count != nil {
		return f.count(ctx, now)
	}
	return f.Memory.Count(ctx, now)
}

func (f flawed) List(ctx context.Context, after string, n int) ([]queue.Buried, error) {
	if f.list != nil {
		return f.list(ctx, after, n)
	}
	return f.Memory.List(ctx, after, n)
}

func (f flawed) Revive(ctx context.Context, now time.Time, ids []string) (bool, error) {
	if f.revive != nil {
		return f.revive(ctx, now, ids)
	}
	return f.Memory.Revive(ctx, now, ids)
}

func (f flawed) Erase(ctx context.Context, ids []string) error {
	if f.erase != nil {
		return f.erase(ctx, ids)
	}
	return f.Memory.Erase(ctx, ids)
}

func (f flawed) Cancel(ctx context.Context, now time.Time, ids []string) ([]bool, error) {
	if f.cancel != nil {
		return f.cancel(ctx, now, ids)
	}
	return f.Memory.Cancel(ctx, now, ids)
}

func (f flawed) Woken() <-chan struct{} {
	if f.woken != nil {
		return f.woken()
	}
	return f.Memory.Woken()
}

// flawedQueue is an Engine of which some methods are replaced.
type flawedQueue struct {
	*queue.Engine
	of flawed
}

func (q flawedQueue) Enqueue(ctx context.Context, jobs ...queue.Job) ([]queue.Enqueued, error) {
	if q.of.enqueue != nil {
		return q.of.enqueue(ctx, q.Engine, jobs)
	}
	return q.Engine.Enqueue(ctx, jobs...)
}

func (q flawedQueue) Run(ctx context.Context, handlers map[string]queue.Handler, options ...queue.RunOption) error {
	if q.of.run != nil {
		return q.of.run(ctx, q.Engine, handlers, options)
	}
	return q.Engine.Run(ctx, handlers, options...)
}

func (f flawed) subject(t testing.TB) Subject {
	return Subject{
		Queue: flawedQueue{engine(t, f), f},
		Keyed: func(k queue.Keys) queue.Queue {
			if f.keys != nil {
				k = f.keys(k)
			}
			return flawedQueue{engine(t, f, queue.WithKeys(k)), f}
		},
	}
}

// locked makes a change of a Memory from outside.
func (m *Memory) locked(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// What several broken queues do.

func changing(change func(*queue.Record)) func(*Memory) flawed {
	return func(m *Memory) flawed {
		return flawed{Memory: m, insert: func(ctx context.Context, now time.Time, records []queue.Record) ([]queue.Enqueued, error) {
			records = slices.Clone(records)
			for i := range records {
				change(&records[i])
			}
			return m.Insert(ctx, now, records)
		}}
	}
}

func settling(change func(m *Memory, now time.Time, s *queue.Settlement)) func(*Memory) flawed {
	return func(m *Memory) flawed {
		return flawed{Memory: m, settle: func(ctx context.Context, now time.Time, all []queue.Settlement) ([]bool, error) {
			all = slices.Clone(all)
			for i := range all {
				change(m, now, &all[i])
			}
			return m.Settle(ctx, now, all)
		}}
	}
}

// claiming changes what is asked for, and the jobs before they are looked at.
func claiming(change func(m *Memory, c *queue.Claim)) func(*Memory) flawed {
	return func(m *Memory) flawed {
		return flawed{Memory: m, claim: func(ctx context.Context, c queue.Claim) ([]queue.Claimed, error) {
			m.locked(func() { change(m, &c) })
			return m.Claim(ctx, c)
		}}
	}
}

func counting(change func(*queue.Stats)) func(*Memory) flawed {
	return func(m *Memory) flawed {
		return flawed{Memory: m, count: func(ctx context.Context, now time.Time) (queue.Stats, error) {
			s, err := m.Count(ctx, now)
			change(&s)
			return s, err
		}}
	}
}

func running(change func(*queue.RunOptions), wrap func(queue.Handler) queue.Handler) func(*Memory) flawed {
	return func(m *Memory) flawed {
		return flawed{Memory: m, run: func(ctx context.Context, e *queue.Engine, handlers map[string]queue.Handler, options []queue.RunOption) error {
			handlers = maps.Clone(handlers)
			for kind, h := range handlers {
				handlers[kind] = wrap(h)
			}
			return e.Run(ctx, handlers, append(options, change)...)
		}}
	}
}

func asIs(h queue.Handler) queue.Handler { return h }

// oneByOne inserts what it can.
func oneByOne(m *Memory) flawed {
	return flawed{Memory: m, insert: func(ctx context.Context, now time.Time, records []queue.Record) (out []queue.Enqueued, err error) {
		for _, r := range records {
			e, failed := m.Insert(ctx, now, []queue.Record{r})
			out, err = append(out, e...), errors.Join(err, failed)
		}
		return out, err
	}}
}

// overtaking claims what is behind the head of a key.
func overtaking(m *Memory) flawed {
	return flawed{Memory: m, claim: func(ctx context.Context, c queue.Claim) ([]queue.Claimed, error) {
		keys := map[string]string{}
		m.locked(func() {
			for _, j := range m.jobs {
				keys[j.ID], j.Key = j.Key, ""
			}
		})
		out, err := m.Claim(ctx, c)
		m.locked(func() {
			for _, j := range m.jobs {
				j.Key = keys[j.ID]
			}
		})
		for i := range out {
			out[i].Key = keys[out[i].ID]
		}
		return out, err
	}}
}

func anyToken(m *Memory, _ time.Time, s *queue.Settlement) {
	m.locked(func() {
		for _, j := range m.jobs {
			if j.ID == s.ID {
				s.Token = j.Token
			}
		}
	})
}

// forgetful drops dedupe keys when a job is done.
func forgetful(m *Memory, _ time.Time, s *queue.Settlement) {
	m.locked(func() {
		if s.Outcome == queue.Done {
			m.dedupe = nil
		}
	})
}

func tooEarly(_ *Memory, now time.Time, s *queue.Settlement) {
	if s.Outcome == queue.Again {
		s.At = now
	}
}

func neverExtends(m *Memory) flawed {
	return flawed{Memory: m, settle: func(ctx context.Context, now time.Time, all []queue.Settlement) ([]bool, error) {
		lost := make([]bool, len(all))
		for i, s := range all {
			if s.Outcome != queue.Extend {
				l, err := m.Settle(ctx, now, []queue.Settlement{s})
				if err != nil {
					return nil, err
				}
				lost[i] = l[0]
			}
		}
		return lost, nil
	}}
}

func losesDead(_ *Memory, _ time.Time, s *queue.Settlement) {
	if s.Outcome == queue.Buries {
		s.Outcome = queue.Done
	}
}

// emptiesDead keeps dead letters without their payload.
func emptiesDead(m *Memory, _ time.Time, s *queue.Settlement) {
	m.locked(func() {
		for _, j := range m.jobs {
			if j.ID == s.ID && s.Outcome == queue.Buries {
				j.Payload = []byte{0}
			}
		}
	})
}

// keepsHead lets a dead head block its key.
func keepsHead(m *Memory) flawed {
	return flawed{Memory: m, settle: func(ctx context.Context, now time.Time, all []queue.Settlement) ([]bool, error) {
		lost, err := m.Settle(ctx, now, all)
		m.locked(func() {
			for i, s := range all {
				if s.Outcome == queue.Buries && !lost[i] {
					m.jobs = slices.Insert(m.jobs, 0, &live{Claimed: m.dead[len(m.dead)-1].Claimed, until: now.Add(1000 * time.Hour)})
					m.jobs[0].Expires = time.Time{}
				}
			}
		})
		return lost, err
	}}
}

func newestFirst(m *Memory) flawed {
	return flawed{Memory: m, list: func(ctx context.Context, after string, n int) ([]queue.Buried, error) {
		out, err := m.List(ctx, after, n)
		slices.Reverse(out)
		return out, err
	}}
}

func revivesSome(m *Memory) flawed {
	return flawed{Memory: m, revive: func(ctx context.Context, now time.Time, ids []string) (bool, error) {
		all := true
		for _, id := range ids {
			ok, err := m.Revive(ctx, now, []string{id})
			if err != nil {
				return false, err
			}
			all = all && ok
		}
		return all, nil
	}}
}

// reviving changes the job that was revived.
func reviving(change func(m *Memory, j *live)) func(*Memory) flawed {
	return func(m *Memory) flawed {
		return flawed{Memory: m, revive: func(ctx context.Context, now time.Time, ids []string) (bool, error) {
			ok, err := m.Revive(ctx, now, ids)
			m.locked(func() {
				if ok {
					change(m, m.jobs[len(m.jobs)-1])
				}
			})
			return ok, err
		}}
	}
}

func ignoringTheEnd(m *Memory) flawed {
	return flawed{
		Memory: m,
		insert: func(ctx context.Context, now time.Time, records []queue.Record) ([]queue.Enqueued, error) {
			return m.Insert(context.WithoutCancel(ctx), now, records)
		},
		settle: func(ctx context.Context, now time.Time, all []queue.Settlement) ([]bool, error) {
			return m.Settle(context.WithoutCancel(ctx), now, all)
		},
	}
}

func lastFirst(m *Memory, _ *queue.Claim) { slices.Reverse(m.jobs) }

// broken are queues by the rule that each of them breaks.
var broken = map[string]map[string]func(*Memory) flawed{
	"of jobs that many enqueue and many run none is lost and none runs twice": {
		"loses one of many":      changing(func(r *queue.Record) { r.Kind = strings.Repeat(r.Kind, 1+int(lastOf(r.ID)/'Z')) }),
		"runs one of many twice": claimsTwice,
	},
	"a minute of waiting is worth a step of priority": {
		"has strict priorities": changing(func(r *queue.Record) { r.Rank = (r.Rank - r.EnqueuedAt.UnixMilli()) * 1e6 }),
	},
	"a job arrives as it was enqueued": {
		"loses the key":          changing(func(r *queue.Record) { r.Key = "" }),
		"loses the priority":     changing(func(r *queue.Record) { r.Rank = r.EnqueuedAt.UnixMilli() }),
		"spoils the payload":     changing(func(r *queue.Record) { r.Payload = []byte(strings.ToValidUTF8(string(r.Payload[:3]), "")) }),
		"loses the expiry":       changing(func(r *queue.Record) { r.Expires = time.Time{} }),
		"loses the dedupe key":   changing(func(r *queue.Record) { r.DedupeKey = "" }),
		"loses the time it came": changing(func(r *queue.Record) { r.EnqueuedAt = time.Time{} }),
	},
	"a job of no more than a kind arrives with the defaults": {
		"tries once": changing(func(r *queue.Record) { r.MaxAttempts = 1 }),
	},
	"enqueueing is all or none": {"enqueues what it can": oneByOne},
	"a wrong job is refused, its field is named, and nothing is stored": {
		"mends it": func(m *Memory) flawed {
			return flawed{Memory: m, enqueue: func(ctx context.Context, e *queue.Engine, jobs []queue.Job) ([]queue.Enqueued, error) {
				jobs = slices.Clone(jobs)
				for i := range jobs {
					jobs[i].Priority = min(jobs[i].Priority, 10)
				}
				return e.Enqueue(ctx, jobs...)
			}}
		},
	},
	"an id is unique": {
		"replaces the first": func(m *Memory) flawed {
			return flawed{Memory: m, insert: func(ctx context.Context, now time.Time, records []queue.Record) ([]queue.Enqueued, error) {
				for _, r := range records {
					m.locked(func() { m.forget(r.ID, true) })
				}
				return m.Insert(ctx, now, records)
			}}
		},
	},
	"a dedupe key with the same payload is a duplicate, also when the first is done": {"forgets what is done": settling(forgetful)},
	"a dedupe key with another payload is a conflict":                                {"doesn't compare": changing(func(r *queue.Record) { r.DedupeHash = [32]byte{} })},
	"a dedupe key counts within its kind": {
		"has one for all kinds": func(m *Memory) flawed {
			return flawed{Memory: m, insert: func(ctx context.Context, now time.Time, records []queue.Record) ([]queue.Enqueued, error) {
				out, err := m.Insert(ctx, now, records)
				for i, r := range records {
					if err == nil && i > 0 && r.DedupeKey == records[0].DedupeKey {
						out[i] = queue.Enqueued{ID: records[0].ID, Duplicate: true}
					}
				}
				return out, err
			}}
		},
	},
	"a dedupe key is forgotten after its time": {
		"keeps it for ever": changing(func(r *queue.Record) { r.DedupeUntil = r.DedupeUntil.Add(1000 * time.Hour) }),
	},
	"a delayed job doesn't come early": {
		"looks ahead":     claiming(func(_ *Memory, c *queue.Claim) { c.Now = c.Now.Add(time.Second) }),
		"loses the delay": changing(func(r *queue.Record) { r.NotBefore = time.Time{} }),
	},
	"a context that has ended enqueues nothing": {"enqueues all the same": ignoringTheEnd},
	"an expired job never runs and is a dead letter": {
		"runs it":  changing(func(r *queue.Record) { r.Expires = time.Time{} }),
		"drops it": settling(losesDead),
	},
	"a job that expires while it waits for its next attempt dies then": {
		"waits for the attempt": claiming(func(m *Memory, _ *queue.Claim) {
			for _, j := range m.jobs {
				j.Expires = time.Time{}
			}
		}),
	},
	"a failed attempt is repeated after waits that grow": {
		"repeats at once":   settling(tooEarly),
		"forgets the error": settling(func(_ *Memory, _ time.Time, s *queue.Settlement) { s.Reason = "" }),
	},
	"a handler can say how long to wait": {"repeats at once": settling(tooEarly)},
	"a handler can make its error final": {"drops it": settling(losesDead)},
	"after the last attempt a job is a dead letter that says why": {
		"says nothing": settling(func(_ *Memory, _ time.Time, s *queue.Settlement) { s.Reason = "" }),
	},
	"a panic and a Goexit are errors of the job": {
		"takes a panic for done": running(func(*queue.RunOptions) {}, func(h queue.Handler) queue.Handler {
			return func(ctx context.Context, d queue.Delivery) error {
				defer func() { _ = recover() }()
				return h(ctx, d)
			}
		}),
		"stores what was panicked with": running(func(*queue.RunOptions) {}, func(h queue.Handler) queue.Handler {
			return func(ctx context.Context, d queue.Delivery) (err error) {
				defer func() {
					if p := recover(); p != nil {
						err = fmt.Errorf("panic: %v", p)
					}
				}()
				return h(ctx, d)
			}
		}),
	},
	"a job of a kind without a handler is left alone": {
		"takes all kinds": claiming(func(_ *Memory, c *queue.Claim) { c.Kinds = append(slices.Clone(c.Kinds), "other") }),
	},
	"when a worker dies its job runs again, and the attempt is counted": {
		"never takes it back": claiming(func(_ *Memory, c *queue.Claim) { c.Until = c.Now.Add(queue.MaxLease) }),
		"doesn't count":       claiming(neverCounts),
	},
	"a job that kills its workers is a dead letter in the end": {"counts nothing": claiming(neverCounts)},
	"who has lost the lease settles nothing":                   {"asks for no token": settling(anyToken)},
	"a job may take longer than its lease":                     {"extends nothing": neverExtends},
	"jobs of one key run one after the other, in their order":  {"overtakes": overtaking},
	"a head that fails blocks its key and nobody else":         {"overtakes": overtaking},
	"a delayed head isn't overtaken in its key":                {"overtakes": overtaking},
	"the highest priority comes first": {
		"takes the oldest": changing(func(r *queue.Record) { r.Rank = 0 }),
		"takes the lowest": changing(func(r *queue.Record) { r.Rank = 2*r.EnqueuedAt.UnixMilli() - r.Rank }),
	},
	"without priorities and keys the first comes first": {"takes the last": claiming(lastFirst)},
	"there is no priority within a key": {
		"looks at it": claiming(func(m *Memory, _ *queue.Claim) {
			slices.SortStableFunc(m.jobs, func(a, b *live) int { return int(a.Rank - b.Rank) })
		}),
	},
	"dead letters are listed oldest first, in pages": {
		"newest first": newestFirst,
		"knows no pages": func(m *Memory) flawed {
			return flawed{Memory: m, list: func(ctx context.Context, after string, _ int) ([]queue.Buried, error) {
				return m.List(ctx, after, 1000)
			}}
		},
	},
	"a replayed job is as new": {
		"keeps the attempts": reviving(func(_ *Memory, j *live) { j.Attempt = 1 }),
		"keeps the expiry":   reviving(func(_ *Memory, j *live) { j.Expires = time.Now().Add(time.Hour) }),
		"puts it in front":   reviving(func(m *Memory, _ *live) { slices.Reverse(m.jobs) }),
	},
	"replaying what isn't dead is not found, and replays nothing": {"replays what it can": revivesSome},
	"a discarded dead letter is gone": {
		"keeps it": func(m *Memory) flawed {
			return flawed{Memory: m, erase: func(context.Context, []string) error { return nil }}
		},
		"discards the living": func(m *Memory) flawed {
			return flawed{Memory: m, erase: func(ctx context.Context, ids []string) error {
				_, err := m.Cancel(ctx, time.Time{}, ids)
				return err
			}}
		},
	},
	"a job that doesn't run can be cancelled, a dead letter too": {"cancels nothing": saysCancelled},
	"a cancelled head releases the next of its key":              {"cancels nothing": saysCancelled},
	"payloads are sealed and opened, and plain ones stay readable": {
		"cuts them": changing(func(r *queue.Record) { r.Payload = r.Payload[:max(1, len(r.Payload)-1)] }),
	},
	"after a change of keys the old one still opens": {
		"has one key": func(m *Memory) flawed {
			return flawed{Memory: m, keys: func(k queue.Keys) queue.Keys { return ring(k.Current) }}
		},
	},
	"a job without its key is a dead letter until the key is back": {"keeps no payload": settling(emptiesDead)},
	"while the keys can't be had nothing dies": {
		"takes them for lost": func(m *Memory) flawed {
			return flawed{Memory: m, keys: func(k queue.Keys) queue.Keys {
				of := k.Key
				k.Key = func(ctx context.Context, id string) ([]byte, error) {
					key, err := of(ctx, id)
					if err != nil {
						err = errors.New("lost")
					}
					return key, err
				}
				return k
			}}
		},
	},
	"a worker that ends lets its handlers finish and starts none": {
		"leaves them": func(m *Memory) flawed {
			return flawed{Memory: m, run: func(ctx context.Context, e *queue.Engine, handlers map[string]queue.Handler, options []queue.RunOption) error {
				go func() { _ = e.Run(ctx, handlers, options...) }()
				<-ctx.Done()
				return nil
			}}
		},
		"ends them": running(func(o *queue.RunOptions) { o.Drain = 0 }, asIs),
	},
	"a handler that is too long for the drain is told so, and its job comes again": {
		"is told at once": running(func(o *queue.RunOptions) { o.Drain = 0 }, asIs),
		"is told another reason": running(func(*queue.RunOptions) {}, func(h queue.Handler) queue.Handler {
			return func(ctx context.Context, d queue.Delivery) error {
				other, cancel := context.WithCancel(context.WithoutCancel(ctx))
				defer context.AfterFunc(ctx, cancel)()
				return h(other, d)
			}
		}),
	},
	"a worker that is idle ends at once": {
		"finishes its poll": func(m *Memory) flawed {
			return flawed{Memory: m, run: func(ctx context.Context, e *queue.Engine, handlers map[string]queue.Handler, options []queue.RunOption) error {
				defer time.Sleep(3 * time.Second)
				return e.Run(ctx, handlers, options...)
			}}
		},
	},
	"wrong options are refused": {
		"mends them": running(func(o *queue.RunOptions) { o.Workers, o.Poll = max(o.Workers, 1), max(o.Poll, 1) }, asIs),
	},
	"a job wakes a worker that doesn't poll": {
		"wakes nobody": func(m *Memory) flawed {
			return flawed{Memory: m, woken: func() <-chan struct{} { return nil }}
		},
	},
	"stats count what is ready, waiting, running and dead": {
		"takes running ones for ready": counting(func(s *queue.Stats) { s.Ready, s.Running = s.Ready+s.Running, 0 }),
		"has no oldest":                counting(func(s *queue.Stats) { s.Oldest = time.Time{} }),
	},
	"stats count what is behind a head as waiting": {
		"takes it for ready": counting(func(s *queue.Stats) { s.Ready, s.Waiting = s.Ready+s.Waiting, 0 }),
	},
	"a head that is buried releases the next of its key":                             {"keeps it": keepsHead},
	"a head without attempts left releases the next of its key":                      {"keeps it": keepsHead},
	"a head that expires releases the next of its key":                               {"keeps it": keepsHead},
	"a record comes back whole":                                                      {"loses a delay": changing(func(r *queue.Record) { r.NotBefore = time.Time{} })},
	"insertion is all or none":                                                       {"inserts what it can": oneByOne},
	"a dedupe key is known until its time, for its kind, whatever became of the job": {"forgets what is done": settling(forgetful)},
	"the lowest rank is claimed first, and the first of equals": {
		"takes the last": claiming(func(m *Memory, _ *queue.Claim) {
			slices.SortFunc(m.jobs, func(a, b *live) int { return strings.Compare(b.ID, a.ID) })
		}),
		"takes the highest": changing(func(r *queue.Record) { r.Rank = -r.Rank }),
	},
	"no more jobs than asked for are claimed, and none of another kind": {
		"takes one more":  claiming(func(_ *Memory, c *queue.Claim) { c.N++ }),
		"takes all kinds": claiming(func(_ *Memory, c *queue.Claim) { c.Kinds = []string{"a", "b", "c"} }),
	},
	"a leased job is nobody else's until the lease ends; then its attempt is the next": {
		"leases nothing":      claiming(func(_ *Memory, c *queue.Claim) { c.Until = c.Now }),
		"counts nothing":      claiming(neverCounts),
		"leases for too long": claiming(func(_ *Memory, c *queue.Claim) { c.Until = c.Until.Add(time.Second) }),
	},
	"a lease longer than any is one that has ended": {
		"believes it": claiming(func(m *Memory, c *queue.Claim) {
			for _, j := range m.jobs {
				if j.running && j.until.After(c.Now.Add(queue.MaxLease)) {
					j.until = c.Now.Add(queue.MaxLease)
				}
			}
		}),
	},
	"a job without a delay is due at any time":                                    {"is due when it came": changing(dueWhenItCame)},
	"a clock that goes back an hour loses nothing, and all comes within the hour": {"is due when it came": changing(dueWhenItCame)},
	"only the head of a key can be claimed":                                       {"overtakes": overtaking},
	"a settlement ends the lease as it says": {
		"forgets the error": settling(func(_ *Memory, _ time.Time, s *queue.Settlement) { s.Reason = "" }),
		"repeats at once":   settling(tooEarly),
	},
	"a new job of an old id has tokens of its own": {
		"counts from one": func(m *Memory) flawed {
			return flawed{Memory: m, claim: func(ctx context.Context, c queue.Claim) ([]queue.Claimed, error) {
				out, err := m.Claim(ctx, c)
				m.locked(func() {
					for _, j := range m.jobs {
						j.Token = int64(j.Attempt)
					}
				})
				for i := range out {
					out[i].Token = int64(out[i].Attempt)
				}
				return out, err
			}}
		},
	},
	"who settles with another token has lost, whatever others of the batch do": {"asks for no token": settling(anyToken)},
	"an extended lease lasts as long":                                          {"extends nothing": neverExtends},
	"an expired head can be claimed whatever it waits for":                     {"waits": changing(func(r *queue.Record) { r.Expires = time.Time{} })},
	"a job without attempts left can be claimed": {
		"leaves it": func(m *Memory) flawed {
			return flawed{Memory: m, claim: func(ctx context.Context, c queue.Claim) ([]queue.Claimed, error) {
				out, err := m.Claim(ctx, c)
				return slices.DeleteFunc(out, func(c queue.Claimed) bool { return c.Attempt > c.MaxAttempts }), err
			}}
		},
	},
	"due is when the next job of these kinds can be claimed": {
		"looks at all kinds": func(m *Memory) flawed {
			return flawed{Memory: m, due: func(ctx context.Context, _ []string) (time.Time, error) {
				return m.Due(ctx, []string{"a", "b", "c", "d", "e"})
			}}
		},
	},
	"each state is counted": {"takes ended leases for running": counting(func(s *queue.Stats) { s.Ready, s.Running = min(s.Ready, 3), s.Running+s.Ready-min(s.Ready, 3) })},
	"a dead letter is kept as it was": {
		"loses its last error": settling(func(m *Memory, _ time.Time, s *queue.Settlement) {
			m.locked(func() {
				for _, j := range m.jobs {
					if s.Outcome == queue.Buries {
						j.LastError = ""
					}
				}
			})
		}),
		"loses its payload": settling(emptiesDead),
	},
	"dead letters come oldest first, in pages; behind one that is gone they begin anew": {"newest first": newestFirst},
	"a revived job is new, behind its key, and no old token settles it": {
		"keeps the last error":   reviving(func(_ *Memory, j *live) { j.LastError = "boom" }),
		"begins its tokens anew": reviving(func(m *Memory, _ *live) { m.tokens = 0 }),
	},
	"reviving is all or none": {"revives what it can": revivesSome},
	"a job that doesn't run is cancelled, and nothing of it is left": {
		"cancels nothing": saysCancelled,
		"cancels what runs": func(m *Memory) flawed {
			return flawed{Memory: m, cancel: func(ctx context.Context, now time.Time, ids []string) ([]bool, error) {
				m.locked(func() {
					for _, j := range m.jobs {
						j.running = false
					}
				})
				return m.Cancel(ctx, now, ids)
			}}
		},
		"leaves the dead": func(m *Memory) flawed {
			return flawed{Memory: m, cancel: func(ctx context.Context, now time.Time, ids []string) ([]bool, error) {
				dead := slices.Clone(m.dead)
				done, err := m.Cancel(ctx, now, ids)
				m.locked(func() { m.dead = dead })
				return done, err
			}}
		},
		"keeps its id": func(m *Memory) flawed {
			return flawed{Memory: m, cancel: func(ctx context.Context, now time.Time, ids []string) ([]bool, error) {
				done, err := m.Cancel(ctx, now, ids)
				m.locked(func() {
					for _, id := range ids {
						m.ids[id] = true
					}
				})
				return done, err
			}}
		},
		"forgets its dedupe key": func(m *Memory) flawed {
			return flawed{Memory: m, cancel: func(ctx context.Context, now time.Time, ids []string) ([]bool, error) {
				m.locked(func() { m.dedupe = map[dedupeKey]first{} })
				return m.Cancel(ctx, now, ids)
			}}
		},
	},
	"a cancelled head releases the next of its key, and nobody else": {
		"cancels nothing": saysCancelled,
		"cancels the key": func(m *Memory) flawed {
			return flawed{Memory: m, cancel: func(ctx context.Context, now time.Time, ids []string) ([]bool, error) {
				done, err := m.Cancel(ctx, now, ids)
				m.locked(func() {
					m.jobs = slices.DeleteFunc(m.jobs, func(j *live) bool { return j.Key == "k" && done[0] && ids[0] == "k1" })
				})
				return done, err
			}}
		},
		"releases what waits behind another": func(m *Memory) flawed {
			return flawed{Memory: m, cancel: func(ctx context.Context, now time.Time, ids []string) ([]bool, error) {
				done, err := m.Cancel(ctx, now, ids)
				m.locked(func() {
					for _, j := range m.jobs {
						if !j.running {
							j.Key = ""
						}
					}
				})
				return done, err
			}}
		},
	},
	"many who claim at once never get the same job":                                            {"gives one of many twice": claimsTwice},
	"a call whose context has ended does nothing":                                              {"does it all the same": ignoringTheEnd},
	"a payload that was changed, exchanged or of an unknown version is a dead letter and kept": {"keeps no payload": settling(emptiesDead)},
}

// ofTheEngine are rules that no Store can break.
var ofTheEngine = []string{
	"a worker whose lease can't be extended ends its handler when it is over",
	"what is stored doesn't show a sealed payload",
}

func lastOf(s string) byte { return s[len(s)-1] }

func neverCounts(m *Memory, _ *queue.Claim) {
	for _, j := range m.jobs {
		j.Attempt = 0
	}
}

func dueWhenItCame(r *queue.Record) {
	if r.NotBefore.IsZero() {
		r.NotBefore = r.EnqueuedAt
	}
}

// claimsTwice gives a job to two, now and then.
func claimsTwice(m *Memory) flawed {
	return flawed{Memory: m, claim: func(ctx context.Context, c queue.Claim) ([]queue.Claimed, error) {
		out, err := m.Claim(ctx, c)
		m.locked(func() {
			for _, j := range m.jobs {
				if j.running && j.Attempt == 1 && j.Token%50 == 0 {
					j.running, j.until = false, time.Time{}
				}
			}
		})
		return out, err
	}}
}

func saysCancelled(m *Memory) flawed {
	return flawed{Memory: m, cancel: func(_ context.Context, _ time.Time, ids []string) ([]bool, error) {
		return slices.Repeat([]bool{true}, len(ids)), nil
	}}
}

func TestTheSuiteFailsABrokenQueue(t *testing.T) {
	for rule, queues := range broken {
		for name, breaks := range queues {
			t.Run(rule+"/"+name, func(t *testing.T) {
				if judge(t, rule, func() flawed { return breaks(&Memory{}) }) == "" {
					t.Error("the suite lets it pass")
				}
			})
		}
	}
}

func TestEveryRuleHasAQueueThatBreaksIt(t *testing.T) {
	says := []string{}
	for _, r := range slices.Concat(heavy, rules, slow) {
		says = append(says, r.says)
	}
	for _, r := range storeRules {
		says = append(says, r.says)
	}
	for _, rule := range says {
		if len(broken[rule]) == 0 && !slices.Contains(ofTheEngine, rule) {
			t.Errorf("no broken queue shows that the suite checks that %s", rule)
		}
	}
}

func TestAQueueThatLacksAFeatureIsSkipped(t *testing.T) {
	r := rule{says: "a rule", needs: []Feature{Aging, Order}}
	for _, lacks := range [][]Feature{nil, {WakeUp}, {Order}} {
		t.Run(fmt.Sprint(lacks), func(t *testing.T) {
			s := &skipper{TB: t}
			r.skip(s, Subject{Lacks: lacks})
			if want := slices.Contains(lacks, Order); s.skipped != want {
				t.Errorf("skipped: %v, should be %v", s.skipped, want)
			}
		})
	}
}

type skipper struct {
	testing.TB
	skipped bool
}

func (s *skipper) Skip(...any) { s.skipped = true }
