package emailtest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smilefactory/integrations/email"
)

func TestReceiptsInMemoryKeepEveryRule(t *testing.T) {
	RunReceipts(t, func(*testing.T) email.Receipts { return &email.MemoryReceipts{} })
}

// store is a store in memory with one thing changed.
type store struct {
	email.MemoryReceipts
	before func(*asked)
	after  func(asked, email.Known) email.Known
	end    func(s *store, key string, r *email.Receipt) error
	drop   func(s *store, key string) error
}

// asked is what a store is asked in Begin.
type asked struct {
	key               string
	hash              [32]byte
	now, stale, until time.Time
}

func (s *store) Begin(ctx context.Context, key string, hash [32]byte, now, stale, until time.Time) (email.Known, error) {
	a := asked{key, hash, now, stale, until}
	if s.before != nil {
		s.before(&a)
	}
	known, err := s.MemoryReceipts.Begin(ctx, a.key, a.hash, a.now, a.stale, a.until)
	if s.after != nil {
		known = s.after(asked{key, hash, now, stale, until}, known)
	}
	return known, err
}

func (s *store) End(ctx context.Context, key string, r *email.Receipt) error {
	if s.end != nil {
		return s.end(s, key, r)
	}
	return s.MemoryReceipts.End(ctx, key, r)
}

func (s *store) Drop(ctx context.Context, key string) error {
	if s.drop != nil {
		return s.drop(s, key)
	}
	return s.MemoryReceipts.Drop(ctx, key)
}

// asking changes the question, answering the answer, ending the receipt.
func asking(change func(*asked)) func() email.Receipts {
	return func() email.Receipts { return &store{before: change} }
}

func knowing(change func(asked, email.Known) email.Known) func() email.Receipts {
	return func() email.Receipts { return &store{after: change} }
}

func ending(change func(*email.Receipt)) func() email.Receipts {
	return func() email.Receipts {
		return &store{end: func(s *store, key string, r *email.Receipt) error {
			c := *r
			change(&c)
			return s.MemoryReceipts.End(context.Background(), key, &c)
		}}
	}
}

// brokenStores are stores by the rule that each of them breaks.
var brokenStores = map[string]map[string]func() email.Receipts{
	"a key is new once, and then known with the hash of its mail": {
		"knows nothing":       knowing(func(asked, email.Known) email.Known { return email.Known{} }),
		"forgets the hash":    knowing(func(_ asked, k email.Known) email.Known { k.Hash = [32]byte{}; return k }),
		"knows what is new":   knowing(func(a asked, _ email.Known) email.Known { return email.Known{Known: true, Hash: a.hash} }),
		"keeps half the hash": asking(func(a *asked) { clear(a.hash[2:]) }),
	},
	"an equal key of another mail is known by the first mail's hash": {
		"answers what it was asked": knowing(func(a asked, k email.Known) email.Known {
			if k.Known {
				k.Hash = a.hash
			}
			return k
		}),
		"keeps key and hash as one": asking(func(a *asked) { a.key += string(a.hash[:]) }),
		"hides the receipt of another mail": knowing(func(a asked, k email.Known) email.Known {
			if k.Hash != a.hash {
				k.Receipt = nil
			}
			return k
		}),
	},
	"a receipt is kept whole": {
		"loses the Message-ID":      ending(func(r *email.Receipt) { r.MessageID = "" }),
		"loses a recipient's code":  ending(func(r *email.Receipt) { r.Recipients = append([]email.Recipient{}, r.Recipients...); blank(r) }),
		"loses the recipients":      ending(func(r *email.Receipt) { r.Recipients = nil }),
		"counts one attempt":        ending(func(r *email.Receipt) { r.Attempts = 1 }),
		"calls everything accepted": ending(func(r *email.Receipt) { r.Status = email.StatusAccepted }),
		"writes ASCII":              ending(func(r *email.Receipt) { r.ProviderID = strings.ReplaceAll(r.ProviderID, "é", "?") }),
		"takes no empty one": func() email.Receipts {
			return &store{end: func(s *store, key string, r *email.Receipt) error {
				if r.ID == "" {
					return errors.New("no id")
				}
				return s.MemoryReceipts.End(context.Background(), key, r)
			}}
		},
	},
	"a receipt is each caller's own": {"hands out one for all": sharedReceipts},
	"a key that was dropped is new": {
		"drops nothing": func() email.Receipts { return &store{drop: func(*store, string) error { return nil }} },
		"ends it without a receipt": func() email.Receipts {
			return &store{drop: func(s *store, key string) error {
				return s.MemoryReceipts.End(context.Background(), key, &email.Receipt{})
			}}
		},
	},
	"a key is new again once its time is over": {
		"keeps it for ever":  asking(func(a *asked) { a.until = a.until.AddDate(100, 0, 0) }),
		"keeps it an hour":   asking(func(a *asked) { a.until = a.now.Add(time.Hour) }),
		"keeps it too long":  asking(func(a *asked) { a.until = a.until.Add(time.Minute) }),
		"counts from itself": asking(func(a *asked) { a.now, a.until = time.Now(), time.Now().Add(kept) }),
	},
	"a mail that has been on its way for too long is taken over once, by an equal one": {
		"never":     asking(func(a *asked) { a.stale = time.Time{} }),
		"too early": asking(func(a *asked) { a.stale = a.stale.Add(time.Minute) }),
		"by whoever asks next": knowing(func(a asked, k email.Known) email.Known {
			k.Abandoned = k.Known && k.Receipt == nil && a.now.After(began.Add(abandoned))
			return k
		}),
		"as a new key": knowing(func(_ asked, k email.Known) email.Known {
			if k.Abandoned {
				return email.Known{}
			}
			return k
		}),
		"for another day": takingAnew,
	},
	"a mail whose receipt is there is not taken over": {
		"takes it over": knowing(func(a asked, k email.Known) email.Known { k.Abandoned = k.Known && a.stale.After(began); return k }),
	},
	"keys don't get into each other's way": {
		"one key for all":     asking(func(a *asked) { a.key = "" }),
		"the key's beginning": asking(func(a *asked) { a.key = a.key[:63] }),
		"either case":         asking(func(a *asked) { a.key = strings.ToLower(a.key) }),
		"drops all": func() email.Receipts {
			return &store{drop: func(s *store, _ string) error {
				for n := range 20 {
					_ = s.MemoryReceipts.Drop(context.Background(), key(n))
				}
				return nil
			}}
		},
	},
	"what ends a key that isn't there changes nothing": {
		"is an error": func() email.Receipts {
			return &store{end: func(*store, string, *email.Receipt) error { return errors.New("no such key") }}
		},
		"notes it": func() email.Receipts {
			return &store{end: func(s *store, key string, r *email.Receipt) error {
				_, _ = s.MemoryReceipts.Begin(context.Background(), key, oneHash, began, began, began.Add(kept))
				return s.MemoryReceipts.End(context.Background(), key, r)
			}}
		},
	},
	"of many who ask at once one finds a new key": {
		"looks first and notes then": func() email.Receipts { return &racing{looked: map[string]chan struct{}{}} },
	},
}

// blank takes the recipients' codes away.
func blank(r *email.Receipt) {
	for i := range r.Recipients {
		r.Recipients[i].Code = ""
	}
}

// sharedReceipts keeps the caller's pointer and gives it to all.
func sharedReceipts() email.Receipts {
	var last *email.Receipt
	return &store{
		end: func(s *store, key string, r *email.Receipt) error {
			last = r
			return s.MemoryReceipts.End(context.Background(), key, r)
		},
		after: func(_ asked, k email.Known) email.Known {
			if k.Receipt != nil {
				k.Receipt = last
			}
			return k
		},
	}
}

// takingAnew gives a mail that is taken over its whole time again.
func takingAnew() email.Receipts {
	s := &store{}
	s.after = func(a asked, k email.Known) email.Known {
		if k.Abandoned {
			_ = s.MemoryReceipts.Drop(context.Background(), a.key)
			_, _ = s.MemoryReceipts.Begin(context.Background(), a.key, a.hash, a.now, a.stale, a.until)
		}
		return k
	}
	return s
}

// racing looks, and notes what it found new after another has looked too.
type racing struct {
	store
	mu     sync.Mutex
	looked map[string]chan struct{}
}

func (r *racing) Begin(ctx context.Context, key string, hash [32]byte, now, stale, until time.Time) (email.Known, error) {
	r.mu.Lock()
	second, ok := r.looked[key]
	switch {
	case !ok:
		second = make(chan struct{})
		r.looked[key] = second
		r.mu.Unlock()
		<-second
		return email.Known{}, nil
	case second != nil:
		r.looked[key] = nil
		close(second)
		defer r.mu.Unlock()
		_, err := r.store.Begin(ctx, key, hash, now, stale, until)
		return email.Known{}, err
	}
	r.mu.Unlock()
	return r.store.Begin(ctx, key, hash, now, stale, until)
}

// judgeStore is what a rule says of a store: nothing where it is kept.
func judgeStore(t *testing.T, says string, open func() email.Receipts) string {
	t.Helper()
	for _, r := range storeRules {
		if r.says == says {
			return hear(t, func(tb *recorder) { r.check(tb, notebook{open()}) })
		}
	}
	t.Fatalf("there is no rule %q", says)
	return ""
}

func TestTheSuiteFailsABrokenStore(t *testing.T) {
	for rule, stores := range brokenStores {
		for name, open := range stores {
			t.Run(rule+"/"+name, func(t *testing.T) {
				if judgeStore(t, rule, open) == "" {
					t.Error("the suite lets it pass")
				}
			})
		}
	}
}

func TestEveryRuleHasAStoreThatBreaksIt(t *testing.T) {
	for _, r := range storeRules {
		if len(brokenStores[r.says]) == 0 {
			t.Errorf("no broken store shows that the suite checks that %s", r.says)
		}
	}
}
