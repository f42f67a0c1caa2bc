package paymenttest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

func TestTheJournalInMemoryKeepsEveryRule(t *testing.T) {
	RunJournal(t, func(*testing.T) payment.Journal { return &payment.MemoryJournal{} })
}

// listener is a testing.TB that keeps what a rule says instead of failing.
type listener struct {
	testing.TB
	mu   sync.Mutex
	said []string
}

func (l *listener) Errorf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, fmt.Sprintf(format, args...))
}

func (l *listener) Fatalf(format string, args ...any) { l.Errorf(format, args...); runtime.Goexit() }

// judge is what a rule says of a journal: nothing where it is kept.
func judge(t *testing.T, says string, open func() payment.Journal) string {
	t.Helper()
	i := slices.IndexFunc(journalRules, func(r journalRule) bool { return r.says == says })
	if i < 0 {
		t.Fatalf("there is no rule %q", says)
	}
	l := &listener{}
	synctest.Test(t, func(t *testing.T) {
		l.TB = t
		done := make(chan struct{})
		go func() { // of its own, which Fatalf may end
			defer close(done)
			journalRules[i].check(&journalTest{TB: l, Journal: open(), patience: time.Minute})
		}()
		<-done
		time.Sleep(2 * time.Hour) // until the stuck ones have ended too
	})
	return strings.Join(l.said, "\n")
}

type change = func(context.Context, *payment.Entry) error

// flawed is a journal in memory of which some parts are replaced.
type flawed struct {
	payment.MemoryJournal
	update  func(f *flawed, ctx context.Context, k payment.Key, do change) (*payment.Entry, error)
	entry   func(f *flawed, k payment.Key) (*payment.Entry, error)
	find    func(f *flawed, id payment.ProviderID) (payment.Key, error)
	due     func(f *flawed, until time.Time, n int) ([]payment.Key, error)
	durable func() bool
}

func (f *flawed) Update(ctx context.Context, k payment.Key, do change) (*payment.Entry, error) {
	if f.update != nil {
		return f.update(f, ctx, k, do)
	}
	return f.MemoryJournal.Update(ctx, k, do)
}

func (f *flawed) Entry(ctx context.Context, k payment.Key) (*payment.Entry, error) {
	if f.entry != nil {
		return f.entry(f, k)
	}
	return f.MemoryJournal.Entry(ctx, k)
}

func (f *flawed) Find(ctx context.Context, id payment.ProviderID) (payment.Key, error) {
	if f.find != nil {
		return f.find(f, id)
	}
	return f.MemoryJournal.Find(ctx, id)
}

func (f *flawed) Due(ctx context.Context, until time.Time, n int) ([]payment.Key, error) {
	if f.due != nil {
		return f.due(f, until, n)
	}
	return f.MemoryJournal.Due(ctx, until, n)
}

func (f *flawed) Durable() bool { return f.durable != nil && f.durable() }

// Shorter ways to the parts.

func (f *flawed) change(k payment.Key, do func(e *payment.Entry)) (*payment.Entry, error) {
	return f.MemoryJournal.Update(context.Background(), k, func(_ context.Context, e *payment.Entry) error {
		do(e)
		return nil
	})
}

func (f *flawed) read(k payment.Key) (*payment.Entry, error) {
	return f.MemoryJournal.Entry(context.Background(), k)
}

func (f *flawed) look(id payment.ProviderID) (payment.Key, error) {
	return f.MemoryJournal.Find(context.Background(), id)
}

func (f *flawed) list(until time.Time, n int) ([]payment.Key, error) {
	return f.MemoryJournal.Due(context.Background(), until, n)
}

// before changes what a change gets, and after what is stored of it.
func before(do func(e *payment.Entry)) func() payment.Journal {
	return updating(func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
		return f.MemoryJournal.Update(ctx, k, func(ctx context.Context, e *payment.Entry) error {
			do(e)
			return c(ctx, e)
		})
	})
}

func after(do func(was, is *payment.Entry)) func() payment.Journal {
	return updating(func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
		return f.MemoryJournal.Update(ctx, k, func(ctx context.Context, e *payment.Entry) error {
			was := e.Clone()
			err := c(ctx, e)
			if err == nil {
				do(was, e)
			}
			return err
		})
	})
}

// answering changes what Update answers.
func answering(do func(f *flawed, e *payment.Entry, err error) (*payment.Entry, error)) func() payment.Journal {
	return updating(func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
		e, err := f.MemoryJournal.Update(ctx, k, c)
		return do(f, e, err)
	})
}

func updating(do func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error)) func() payment.Journal {
	return func() payment.Journal { return &flawed{update: do} }
}

func finding(do func(f *flawed, id payment.ProviderID) (payment.Key, error)) func() payment.Journal {
	return func() payment.Journal { return &flawed{find: do} }
}

func listing(do func(f *flawed, until time.Time, n int) ([]payment.Key, error)) func() payment.Journal {
	return func() payment.Journal { return &flawed{due: do} }
}

// mapping takes some keys for others.
func mapping(as func(k payment.Key) payment.Key) func() payment.Journal {
	return func() payment.Journal {
		return &flawed{
			update: func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
				return f.MemoryJournal.Update(ctx, as(k), c)
			},
			entry: func(f *flawed, k payment.Key) (*payment.Entry, error) { return f.read(as(k)) },
		}
	}
}

// despite stores some of what a change did that failed.
func despite(what func(e, spoilt *payment.Entry)) func() payment.Journal {
	return updating(func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
		var spoilt *payment.Entry
		e, err := f.MemoryJournal.Update(ctx, k, func(ctx context.Context, e *payment.Entry) error {
			err := c(ctx, e)
			spoilt = e.Clone()
			return err
		})
		if err != nil && spoilt != nil {
			_, _ = f.change(k, func(e *payment.Entry) { what(e, spoilt) })
		}
		return e, err
	})
}

func whole(e, spoilt *payment.Entry) { *e = *spoilt }

// racing reads, lets others do the same, and writes then.
func racing(onlyKnown bool) func() payment.Journal {
	return updating(func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
		e, err := f.read(k)
		if err != nil && onlyKnown {
			return f.MemoryJournal.Update(ctx, k, c)
		}
		if err != nil {
			e = &payment.Entry{Key: k}
		}
		time.Sleep(time.Millisecond)
		if err := c(ctx, e); err != nil {
			return nil, err
		}
		return f.change(k, func(is *payment.Entry) { *is = *e })
	})
}

// dying does something where a change doesn't return.
func dying(do func(f *flawed, k payment.Key, e *payment.Entry)) func() payment.Journal {
	return updating(func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
		var spoilt *payment.Entry
		returned := false
		defer func() {
			if !returned {
				do(f, k, spoilt)
			}
		}()
		e, err := f.MemoryJournal.Update(ctx, k, func(ctx context.Context, e *payment.Entry) error {
			spoilt = e
			return c(ctx, e)
		})
		returned = true
		return e, err
	})
}

// stuck keeps its lock where a change panics.
type stuck struct {
	flawed
	lock chan struct{}
}

func (s *stuck) Update(ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
	select {
	case s.lock <- struct{}{}:
	case <-time.After(time.Hour): // a real one would wait for ever
		return nil, errors.New("locked")
	}
	e, err := s.MemoryJournal.Update(ctx, k, c)
	<-s.lock
	return e, err
}

// sharing answers one and the same part to all.
func sharing(share func(to, from *payment.Entry)) func() payment.Journal {
	return func() payment.Journal {
		var last *payment.Entry
		return &flawed{
			update: func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
				return f.MemoryJournal.Update(ctx, k, func(ctx context.Context, e *payment.Entry) error {
					if last != nil {
						share(e, last)
					}
					err := c(ctx, e)
					if err == nil {
						last = e
					}
					return err
				})
			},
			entry: func(f *flawed, k payment.Key) (*payment.Entry, error) {
				e, err := f.read(k)
				if err == nil {
					share(e, last)
				}
				return e, err
			},
		}
	}
}

// noting finds only what note says, by its own table.
func noting(note func(e *payment.Entry, isNew bool) []payment.ProviderID) func() payment.Journal {
	return func() payment.Journal {
		ids := map[payment.ProviderID]payment.Key{}
		return &flawed{
			update: func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
				return f.MemoryJournal.Update(ctx, k, func(ctx context.Context, e *payment.Entry) error {
					isNew := e.Version == 0
					err := c(ctx, e)
					if err == nil {
						for _, id := range note(e, isNew) {
							ids[id] = k
						}
					}
					return err
				})
			},
			find: func(_ *flawed, id payment.ProviderID) (payment.Key, error) {
				if k, ok := ids[id]; ok {
					return k, nil
				}
				return payment.Key{}, fault.New(fault.NotFound, nil)
			},
		}
	}
}

// brokenJournals are, for each rule, journals that break it.
var brokenJournals = map[string]map[string]func() payment.Journal{
	"a key that is new comes with a zero entry, and is there then": {
		"without its key": before(func(e *payment.Entry) { e.Key = payment.Key{} }),
		"with a version":  before(func(e *payment.Entry) { e.Version++ }),
		"with a date":     before(func(e *payment.Entry) { e.Created = suiteTime }),
		"with its fields": after(func(_, is *payment.Entry) { is.Created = time.Time{} }),
		"answers nothing": answering(func(_ *flawed, _ *payment.Entry, err error) (*payment.Entry, error) { return nil, err }),
		"isn't there then": func() payment.Journal {
			return &flawed{entry: func(*flawed, payment.Key) (*payment.Entry, error) { return nil, fault.New(fault.NotFound, nil) }}
		},
	},
	"every write raises the version by one, also one that changes nothing": {
		"by two": after(func(_, is *payment.Entry) { is.Version++ }),
		"not where nothing is other": after(func(was, is *payment.Entry) {
			is.Version -= int64(map[bool]int{true: 1}[was.Version > 0 && differ(is, was) == ""])
		}),
		"answers the one before": answering(func(_ *flawed, e *payment.Entry, err error) (*payment.Entry, error) {
			if e != nil {
				e.Version--
			}
			return e, err
		}),
	},
	"an entry keeps its key, whatever a change makes of it": {
		"answers the other": answering(func(_ *flawed, e *payment.Entry, err error) (*payment.Entry, error) {
			e.Key = key("order-2")
			return e, err
		}),
		"is stored under the other": updating(func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
			e := &payment.Entry{Key: k}
			if err := c(ctx, e); err != nil {
				return nil, err
			}
			return f.change(e.Key, func(is *payment.Entry) { *is = *e })
		}),
	},
	"a change gets what the one before it stored": {
		"gets a zero entry":       before(func(e *payment.Entry) { *e = payment.Entry{Key: e.Key} }),
		"gets no refunds":         before(func(e *payment.Entry) { e.Refunds = nil }),
		"gets another version":    before(func(e *payment.Entry) { e.Version += 3 }),
		"keeps what it took away": after(func(was, is *payment.Entry) { is.Events = append(is.Events, was.Events...) }),
	},
	"an error of a change comes back unchanged, and leaves everything as it was": {
		"is wrapped": answering(func(_ *flawed, e *payment.Entry, err error) (*payment.Entry, error) {
			if err != nil {
				err = fmt.Errorf("update: %w", err)
			}
			return e, err
		}),
		"is Unavailable where it was Canceled": answering(func(_ *flawed, e *payment.Entry, err error) (*payment.Entry, error) {
			if errors.Is(err, fault.Canceled) {
				err = fault.New(fault.Unavailable, err)
			}
			return e, err
		}),
		"is forgotten": answering(func(_ *flawed, e *payment.Entry, _ error) (*payment.Entry, error) { return e, nil }),
		"comes with an entry": answering(func(_ *flawed, _ *payment.Entry, err error) (*payment.Entry, error) {
			return &payment.Entry{Version: 1}, err
		}),
		"is stored":                 despite(whole),
		"leaves an empty entry":     despite(func(*payment.Entry, *payment.Entry) {}),
		"leaves when it is due":     despite(func(e, spoilt *payment.Entry) { e.Due = spoilt.Due }),
		"leaves ids, and the entry": despite(func(e, spoilt *payment.Entry) { e.Attempts = spoilt.Attempts }),
	},
	"a change that panics, or ends its goroutine, leaves everything as it was, and nobody waits for it": {
		"is stored": dying(func(f *flawed, k payment.Key, spoilt *payment.Entry) {
			_, _ = f.change(k, func(e *payment.Entry) { *e = *spoilt })
		}),
		"leaves an empty entry": dying(func(f *flawed, k payment.Key, _ *payment.Entry) { _, _ = f.change(k, func(*payment.Entry) {}) }),
		"keeps the lock":        func() payment.Journal { return &stuck{lock: make(chan struct{}, 1)} },
		"swallows the panic": updating(func(f *flawed, ctx context.Context, k payment.Key, c change) (_ *payment.Entry, err error) {
			defer func() {
				if recover() != nil {
					err = errors.New("it panicked")
				}
			}()
			return f.MemoryJournal.Update(ctx, k, c)
		}),
		"panics with another value": updating(func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
			defer func() {
				if recover() != nil {
					panic("another")
				}
			}()
			return f.MemoryJournal.Update(ctx, k, c)
		}),
	},
	"of 20 who begin an entry at once one finds it new, and each sees those before it": {
		"reads first and writes then": racing(false),
	},
	"of 1,000 changes at once none is lost": {
		"reads first and writes then": racing(true),
		"answers what another one stored": answering(func(f *flawed, e *payment.Entry, err error) (*payment.Entry, error) {
			time.Sleep(time.Millisecond)
			if err == nil {
				return f.read(e.Key)
			}
			return e, err
		}),
	},
	"tenants and orders are apart": {
		"one tenant":      mapping(func(k payment.Key) payment.Key { return payment.Key{Order: k.Order} }),
		"one order":       mapping(func(k payment.Key) payment.Key { return payment.Key{Tenant: k.Tenant} }),
		"put together":    mapping(func(k payment.Key) payment.Key { return payment.Key{Order: k.Tenant + k.Order} }),
		"put by a hyphen": mapping(func(k payment.Key) payment.Key { return payment.Key{Order: k.Tenant + "-" + k.Order} }),
		"in either case":  mapping(func(k payment.Key) payment.Key { return payment.Key{Tenant: k.Tenant, Order: strings.ToLower(k.Order)} }),
		"a wild card": mapping(func(k payment.Key) payment.Key {
			return payment.Key{Tenant: k.Tenant, Order: strings.TrimSuffix(k.Order, "_")}
		}),
		"only some are due": listing(func(f *flawed, until time.Time, n int) ([]payment.Key, error) {
			keys, err := f.list(until, n)
			return slices.DeleteFunc(keys, func(k payment.Key) bool { return k.Tenant == "" }), err
		}),
	},
	"what isn't there is NotFound, and reading makes nothing": {
		"is nothing": func() payment.Journal {
			return &flawed{entry: func(f *flawed, k payment.Key) (*payment.Entry, error) { e, _ := f.read(k); return e, nil }}
		},
		"is a zero entry": func() payment.Journal {
			return &flawed{entry: func(_ *flawed, k payment.Key) (*payment.Entry, error) { return &payment.Entry{Key: k}, nil }}
		},
		"is made": func() payment.Journal {
			return &flawed{entry: func(f *flawed, k payment.Key) (*payment.Entry, error) {
				e, err := f.read(k)
				if err != nil {
					_, _ = f.change(k, func(*payment.Entry) {})
				}
				return e, err
			}}
		},
		"is Unavailable": finding(func(f *flawed, id payment.ProviderID) (payment.Key, error) {
			k, err := f.look(id)
			if err != nil {
				err = fault.New(fault.Unavailable, err)
			}
			return k, err
		}),
		"is found without an id": noting(func(e *payment.Entry, _ bool) []payment.ProviderID { return append(e.IDs(), payment.ProviderID{}) }),
	},
	"an entry is found by every id of its attempts and refunds, at that provider": {
		"not by its payments": noting(func(e *payment.Entry, _ bool) []payment.ProviderID {
			e = e.Clone()
			e.Attempts[0].PaymentID = ""
			return e.IDs()
		}),
		"not by its refunds": noting(func(e *payment.Entry, _ bool) []payment.ProviderID {
			e = e.Clone()
			e.Refunds = nil
			return e.IDs()
		}),
		"by the last of them": noting(func(e *payment.Entry, _ bool) []payment.ProviderID { return e.IDs()[len(e.IDs())-1:] }),
		"at every provider": finding(func(f *flawed, id payment.ProviderID) (payment.Key, error) {
			id.Provider = strings.TrimPrefix(id.Provider, "eu/")
			return f.look(id)
		}),
		"by its beginning": finding(func(f *flawed, id payment.ProviderID) (payment.Key, error) {
			id.ID = strings.TrimSuffix(id.ID, "_")
			return f.look(id)
		}),
	},
	"an id that is added later is found too, unless its change failed": {
		"only the first ones": noting(func(e *payment.Entry, isNew bool) []payment.ProviderID {
			if !isNew {
				return nil
			}
			return e.IDs()
		}),
		"of a change that failed": func() payment.Journal {
			ids := map[payment.ProviderID]payment.Key{}
			return &flawed{
				update: func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
					return f.MemoryJournal.Update(ctx, k, func(ctx context.Context, e *payment.Entry) error {
						err := c(ctx, e)
						for _, id := range e.IDs() {
							ids[id] = k
						}
						return err
					})
				},
				find: func(_ *flawed, id payment.ProviderID) (payment.Key, error) {
					if k, ok := ids[id]; ok {
						return k, nil
					}
					return payment.Key{}, fault.New(fault.NotFound, nil)
				},
			}
		},
		"only those of the last change": func() payment.Journal {
			var last []payment.ProviderID
			return &flawed{
				update: func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
					return f.MemoryJournal.Update(ctx, k, func(ctx context.Context, e *payment.Entry) error {
						was := e.IDs()
						err := c(ctx, e)
						if err == nil {
							last = slices.DeleteFunc(e.IDs(), func(id payment.ProviderID) bool { return slices.Contains(was, id) })
						}
						return err
					})
				},
				find: func(f *flawed, id payment.ProviderID) (payment.Key, error) {
					if slices.Contains(last, id) {
						return f.look(id)
					}
					return payment.Key{}, fault.New(fault.NotFound, nil)
				},
			}
		},
	},
	"what is due is listed soonest first, and no more than was asked for": {
		"by name": listing(func(f *flawed, until time.Time, n int) ([]payment.Key, error) {
			keys, err := f.list(until, n)
			slices.SortFunc(keys, func(a, b payment.Key) int { return strings.Compare(a.Order, b.Order) })
			return keys, err
		}),
		"latest first": listing(func(f *flawed, until time.Time, n int) ([]payment.Key, error) {
			keys, err := f.list(until, n)
			slices.Reverse(keys)
			return keys, err
		}),
		"all of them":    listing(func(f *flawed, until time.Time, _ int) ([]payment.Key, error) { return f.list(until, 100) }),
		"at least one":   listing(func(f *flawed, until time.Time, n int) ([]payment.Key, error) { return f.list(until, max(n, 1)) }),
		"whenever it is": listing(func(f *flawed, until time.Time, n int) ([]payment.Key, error) { return f.list(until.Add(time.Hour), n) }),
		"limited before it is put in order": listing(func(f *flawed, until time.Time, n int) ([]payment.Key, error) {
			all, err := f.list(until, 100)
			some := slices.Clone(all)
			slices.SortFunc(some, func(a, b payment.Key) int { return strings.Compare(a.Order, b.Order) })
			some = some[:min(n, len(some))]
			return slices.DeleteFunc(all, func(k payment.Key) bool { return !slices.Contains(some, k) }), err
		}),
	},
	"an entry is due from its time on, not before, and never without one": {
		"not at its time": listing(func(f *flawed, until time.Time, n int) ([]payment.Key, error) { return f.list(until.Add(-1), n) }),
		"a little before": listing(func(f *flawed, until time.Time, n int) ([]payment.Key, error) {
			return f.list(until.Add(time.Millisecond), n)
		}),
		"rounded down": listing(func(f *flawed, until time.Time, n int) ([]payment.Key, error) {
			return f.list(until.Add(time.Millisecond-1), n)
		}),
		"by the clock alone": listing(func(f *flawed, until time.Time, n int) ([]payment.Key, error) {
			y, m, d := until.Date()
			return f.list(time.Date(y, m, d, until.Hour(), until.Minute(), until.Second(), until.Nanosecond(), time.UTC), n)
		}),
		"without one": after(func(_, is *payment.Entry) {
			if is.Due.IsZero() {
				is.Due = time.Time{}.Add(1)
			}
		}),
		"lists what is not at all due": listing(func(f *flawed, until time.Time, n int) ([]payment.Key, error) {
			keys, err := f.list(until, n)
			if _, missing := f.read(key("never")); missing == nil && len(keys) > 0 {
				keys = append(keys, key("never"))
			}
			return keys, err
		}),
	},
	"an entry is due when the last change said, and not when an earlier one did": {
		"as the first one said": after(func(was, is *payment.Entry) {
			if was.Version > 0 {
				is.Due = was.Due
			}
		}),
		"when it once had a time": after(func(was, is *payment.Entry) {
			if is.Due.IsZero() {
				is.Due = was.Due
			}
		}),
		"but once": listing(func() func(f *flawed, until time.Time, n int) ([]payment.Key, error) {
			told := map[payment.Key]bool{}
			return func(f *flawed, until time.Time, n int) ([]payment.Key, error) {
				keys, err := f.list(until, n)
				keys = slices.DeleteFunc(keys, func(k payment.Key) bool { return told[k] })
				for _, k := range keys {
					told[k] = true
				}
				return keys, err
			}
		}()),
	},
	"every field comes back as it was, times to the millisecond": {
		"times to the second": after(func(_, is *payment.Entry) { is.Updated = is.Updated.Truncate(time.Second) }),
		"times without their zone": after(func(_, is *payment.Entry) {
			for i := range is.Attempts {
				a := &is.Attempts[i]
				a.Began, a.HeldUntil, a.Settled = withoutZone(a.Began), withoutZone(a.HeldUntil), withoutZone(a.Settled)
			}
		}),
		"a zero time as 1970": after(func(_, is *payment.Entry) {
			is.Attempts[1].HeldUntil = orElse(is.Attempts[1].HeldUntil, time.Unix(0, 0))
		}),
		"large numbers as floats":  after(func(_, is *payment.Entry) { is.Order.Amount.Minor = int64(float64(is.Order.Amount.Minor)) }),
		"text without its accents": after(func(_, is *payment.Entry) { is.Order.Description = strings.ReplaceAll(is.Order.Description, "é", "e") }),
		"text without line ends":   after(func(_, is *payment.Entry) { is.Attempts[1].Reason = strings.TrimSpace(is.Attempts[1].Reason) }),
		"no decline as an empty one": after(func(_, is *payment.Entry) {
			if is.Attempts[0].Decline == nil {
				is.Attempts[0].Decline = &payment.Decline{}
			}
		}),
		"an empty decline as none": after(func(_, is *payment.Entry) {
			if d := is.Attempts[1].Decline; d != nil && *d == (payment.Decline{}) {
				is.Attempts[1].Decline = nil
			}
		}),
	},
	"an entry of 200 attempts and refunds comes back, and is found by each of their ids": {
		"100 of each": after(func(_, is *payment.Entry) { is.Refunds = is.Refunds[:min(100, len(is.Refunds))] }),
		"found by the first hundred": noting(func(e *payment.Entry, _ bool) []payment.ProviderID {
			ids := e.IDs()
			return ids[:min(100, len(ids))]
		}),
	},
	"an entry is each caller's own": {
		"one for all":       sharing(func(to, from *payment.Entry) { *to = *from; to.Version = 1 }),
		"one order's map":   sharing(func(to, from *payment.Entry) { to.Order.Methods = from.Order.Methods }),
		"one map of payees": sharing(func(to, from *payment.Entry) { to.Order.Payees = from.Order.Payees }),
		"one attempt":       sharing(func(to, from *payment.Entry) { to.Attempts = from.Attempts }),
		"one attempt's map": sharing(func(to, from *payment.Entry) { to.Attempts[1].Methods = from.Attempts[1].Methods }),
		"one decline":       sharing(func(to, from *payment.Entry) { to.Attempts[0].Decline = from.Attempts[0].Decline }),
		"one refund":        sharing(func(to, from *payment.Entry) { to.Refunds = from.Refunds }),
		"one event":         sharing(func(to, from *payment.Entry) { to.Events = from.Events }),
	},
	"a context that has ended is Unavailable, and nothing is stored": {
		"it isn't looked at": updating(func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
			return f.MemoryJournal.Update(context.WithoutCancel(ctx), k, c)
		}),
		"it is stored all the same": updating(func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
			if ctx.Err() != nil {
				_, _ = f.MemoryJournal.Update(context.WithoutCancel(ctx), k, c)
			}
			return f.MemoryJournal.Update(ctx, k, c)
		}),
		"it is Canceled": answering(func(_ *flawed, e *payment.Entry, err error) (*payment.Entry, error) {
			if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
				err = fault.New(fault.Canceled, err)
			}
			return e, err
		}),
	},
	"where a context ends meanwhile, what is said is true": {
		"it is stored, and said not to be": updating(func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
			e, err := f.MemoryJournal.Update(ctx, k, c)
			if ctx.Err() != nil {
				return nil, fault.New(fault.Unavailable, ctx.Err())
			}
			return e, err
		}),
		"it is said to be stored": updating(func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
			var kept *payment.Entry
			e, err := f.MemoryJournal.Update(ctx, k, func(c2 context.Context, e *payment.Entry) error {
				err := c(c2, e)
				kept = e
				return errors.Join(err, ctx.Err())
			})
			if ctx.Err() != nil {
				return kept, nil
			}
			return e, err
		}),
		"it is Canceled": updating(func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
			e, err := f.MemoryJournal.Update(ctx, k, c)
			if ctx.Err() != nil {
				return nil, fault.New(fault.Canceled, ctx.Err())
			}
			return e, err
		}),
	},
	"a change has the values of its caller's context": {
		"one of its own": updating(func(f *flawed, ctx context.Context, k payment.Key, c change) (*payment.Entry, error) {
			return f.MemoryJournal.Update(ctx, k, func(_ context.Context, e *payment.Entry) error { return c(context.Background(), e) })
		}),
	},
	"whether it is durable doesn't change": {
		"it does": func() payment.Journal {
			var asked atomic.Bool
			return &flawed{durable: func() bool { return asked.Swap(true) }}
		},
	},
}

func withoutZone(t time.Time) time.Time {
	y, m, d := t.Date()
	return time.Date(y, m, d, t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

func orElse(t, otherwise time.Time) time.Time {
	if t.IsZero() {
		return otherwise
	}
	return t
}

func TestTheSuiteFailsABrokenJournal(t *testing.T) {
	for rule, journals := range brokenJournals {
		for _, name := range slices.Sorted(maps.Keys(journals)) {
			t.Run(rule+"/"+name, func(t *testing.T) {
				if judge(t, rule, journals[name]) == "" {
					t.Error("the suite lets it pass")
				}
			})
		}
	}
}

func TestEveryRuleHasAJournalThatBreaksIt(t *testing.T) {
	for _, r := range journalRules {
		if len(brokenJournals[r.says]) == 0 {
			t.Errorf("no broken journal shows that the suite checks that %s", r.says)
		}
	}
}

// TestTheSuiteMissesEveryField has a journal for each field of an entry, and of
// all that is in it, which loses that field.
func TestTheSuiteMissesEveryField(t *testing.T) {
	fields := fieldsOf(reflect.ValueOf(fullEntry(t, key("order-1"))).Elem(), "", func(e reflect.Value) reflect.Value { return e })
	for _, path := range []string{".Order.ID", ".Order.Fee.Rounding", ".Attempts[1].Decline.Code", ".Attempts[0].Identity.Live", ".Refunds[1].Refund.Amount.Currency", ".Refunds[0].Whole", ".Lease.Until", ".Events[1]"} {
		if fields[path] == nil {
			t.Errorf("%s isn't tried", path)
		}
	}
	for path, of := range fields {
		lose := func(e *payment.Entry) {
			defer func() { _ = recover() }() // an entry that hasn't got it
			of(reflect.ValueOf(e).Elem()).SetZero()
		}
		said := judge(t, "every field comes back as it was, times to the millisecond", func() payment.Journal {
			return &flawed{entry: func(f *flawed, k payment.Key) (*payment.Entry, error) {
				e, err := f.read(k)
				lose(e)
				return e, err
			}}
		})
		if said == "" {
			t.Errorf("the suite doesn't miss %s", path)
		}
	}
}

// fieldsOf are ways from an entry to each of its fields, and to theirs.
func fieldsOf(v reflect.Value, path string, way func(reflect.Value) reflect.Value) map[string]func(reflect.Value) reflect.Value {
	out := map[string]func(reflect.Value) reflect.Value{}
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			break
		}
		for i := range v.NumField() {
			maps.Copy(out, fieldsOf(v.Field(i), path+"."+v.Type().Field(i).Name, func(e reflect.Value) reflect.Value { return way(e).Field(i) }))
		}
		return out
	case reflect.Pointer:
		maps.Copy(out, fieldsOf(v.Elem(), path, func(e reflect.Value) reflect.Value { return way(e).Elem() }))
		out[path+" itself"] = way
		return out
	case reflect.Slice:
		for i := range v.Len() {
			maps.Copy(out, fieldsOf(v.Index(i), fmt.Sprintf("%s[%d]", path, i), func(e reflect.Value) reflect.Value { return way(e).Index(i) }))
		}
	default:
	}
	out[path] = way
	return out
}
