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
	end    func(s *store, key string, token int64, r *email.Receipt) error
	drop   func(s *store, key string, token int64) error
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

func (s *store) End(ctx context.Context, key string, token int64, r *email.Receipt) error {
	if s.end != nil {
		return s.end(s, key, token, r)
	}
	return s.MemoryReceipts.End(ctx, key, token, r)
}

func (s *store) Drop(ctx context.Context, key string, token int64) error {
	if s.drop != nil {
		return s.drop(s, key, token)
	}
	return s.MemoryReceipts.Drop(ctx, key, token)
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
		return &store{end: func(s *store, key string, token int64, r *email.Receipt) error {
			c := *r
			change(&c)
			return s.MemoryReceipts.End(context.Background(), key, token, &c)
		}}
	}
}

// endingAs changes who says what at the end; holds is the token of the key's holder.
func endingAs(change func(holds int64, token *int64, r **email.Receipt)) func() email.Receipts {
	return func() email.Receipts {
		s := &store{}
		holders := map[string]int64{}
		s.after = func(a asked, k email.Known) email.Known {
			if k.Token > 0 {
				holders[a.key] = k.Token
			}
			return k
		}
		s.end = func(s *store, key string, token int64, r *email.Receipt) error {
			change(holders[key], &token, &r)
			return s.MemoryReceipts.End(context.Background(), key, token, r)
		}
		return s
	}
}

// forgetting is a store that drops a key whoever says so, where it may.
func forgetting(may func(k email.Known) bool) func() email.Receipts {
	return func() email.Receipts {
		return &store{drop: func(s *store, key string, token int64) error {
			if !may(s.look(key)) {
				return s.MemoryReceipts.Drop(context.Background(), key, token)
			}
			s.forget(key)
			return nil
		}}
	}
}

// look is what is known of a key that is there, late and by a mail that isn't its.
func (s *store) look(key string) email.Known {
	known, _ := s.MemoryReceipts.Begin(context.Background(), key, [32]byte{31: 1}, late, began, late.Add(kept))
	return known
}

// forget lets a key run out.
func (s *store) forget(key string) {
	past := late.Add(2 * kept)
	known, _ := s.MemoryReceipts.Begin(context.Background(), key, oneHash, past, past, past)
	_ = s.MemoryReceipts.Drop(context.Background(), key, known.Token)
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
			return &store{end: func(s *store, key string, token int64, r *email.Receipt) error {
				if r.ID == "" {
					return errors.New("no id")
				}
				return s.MemoryReceipts.End(context.Background(), key, token, r)
			}}
		},
	},
	"a receipt is each caller's own": {"hands out one for all": sharedReceipts},
	"a key that was dropped is new": {
		"drops nothing": func() email.Receipts { return &store{drop: func(*store, string, int64) error { return nil }} },
		"ends it without a receipt": func() email.Receipts {
			return &store{drop: func(s *store, key string, token int64) error {
				return s.MemoryReceipts.End(context.Background(), key, token, &email.Receipt{})
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
				return email.Known{Token: k.Token}
			}
			return k
		}),
		"for another day": takingAnew,
	},
	"a mail whose receipt is there is not taken over": {
		"takes it over": knowing(func(a asked, k email.Known) email.Known { k.Abandoned = k.Known && a.stale.After(began); return k }),
	},
	"whoever gets a key gets a token, higher than all before": {
		"has none": knowing(func(_ asked, k email.Known) email.Known { k.Token = 0; return k }),
		"begins anew with each key": func() email.Receipts {
			had := map[string]int64{}
			return &store{after: func(a asked, k email.Known) email.Known {
				if k.Token > 0 {
					had[a.key]++
					k.Token = had[a.key]
				}
				return k
			}}
		},
		"keeps it with the key": func() email.Receipts {
			had := map[string]int64{}
			return &store{after: func(a asked, k email.Known) email.Known {
				if k.Token > 0 {
					if had[a.key] == 0 {
						had[a.key] = k.Token
					}
					k.Token = had[a.key]
				}
				return k
			}}
		},
	},
	"who has lost a key can't drop it, nor one that has ended": {
		"asks for no token":      forgetting(func(k email.Known) bool { return k.Receipt == nil }),
		"drops what has ended":   forgetting(func(k email.Known) bool { return k.Receipt != nil }),
		"drops whatever is said": forgetting(func(email.Known) bool { return true }),
	},
	"the first receipt stays, also one that comes late": {
		"loses one that comes late": endingAs(func(holds int64, token *int64, _ **email.Receipt) {
			if *token != holds {
				*token = 0
			}
		}),
		"keeps the last": func() email.Receipts {
			s := &store{}
			last := map[string]*email.Receipt{}
			s.end = func(s *store, key string, token int64, r *email.Receipt) error {
				last[key] = r
				return s.MemoryReceipts.End(context.Background(), key, token, r)
			}
			s.after = func(a asked, k email.Known) email.Known {
				if k.Receipt != nil {
					k.Receipt = last[a.key]
				}
				return k
			}
			return s
		},
	},
	"a receipt that comes late is kept though the key was dropped by who took it over": {
		"has forgotten the key": forgetting(func(k email.Known) bool { return k.Receipt == nil }),
	},
	"a receipt is not kept for what the key stands for by now": {
		"keeps it whoever says so": endingAs(func(holds int64, token *int64, _ **email.Receipt) { *token = holds }),
	},
	"a mail that may have gone is unsettled until a receipt comes": {
		"settles it with an empty receipt": endingAs(func(_ int64, _ *int64, r **email.Receipt) {
			if *r == nil {
				*r = &email.Receipt{}
			}
		}),
		"says nothing": endingAs(func(_ int64, token *int64, r **email.Receipt) {
			if *r == nil {
				*token = 0
			}
		}),
		"is dropped": forgetting(func(k email.Known) bool { return k.Unsettled }),
		"is taken over": knowing(func(a asked, k email.Known) email.Known {
			k.Abandoned = k.Abandoned || k.Unsettled && a.stale.After(late)
			return k
		}),
	},
	"keys don't get into each other's way": {
		"one key for all":     asking(func(a *asked) { a.key = "" }),
		"the key's beginning": asking(func(a *asked) { a.key = a.key[:63] }),
		"either case":         asking(func(a *asked) { a.key = strings.ToLower(a.key) }),
		"drops all": func() email.Receipts {
			return &store{drop: func(s *store, _ string, _ int64) error {
				for n := range 20 {
					s.forget(key(n))
				}
				return nil
			}}
		},
	},
	"what ends a key that isn't there changes nothing": {
		"is an error": func() email.Receipts {
			return &store{end: func(*store, string, int64, *email.Receipt) error { return errors.New("no such key") }}
		},
		"notes it": func() email.Receipts {
			return &store{end: func(s *store, key string, token int64, r *email.Receipt) error {
				_, _ = s.MemoryReceipts.Begin(context.Background(), key, oneHash, began, began, began.Add(kept))
				return s.MemoryReceipts.End(context.Background(), key, token, r)
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
		end: func(s *store, key string, token int64, r *email.Receipt) error {
			last = r
			return s.MemoryReceipts.End(context.Background(), key, token, r)
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
			s.forget(a.key)
			anew, _ := s.MemoryReceipts.Begin(context.Background(), a.key, a.hash, a.now, a.stale, a.until)
			k.Token = anew.Token
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
		return email.Known{Token: 1}, nil
	case second != nil:
		r.looked[key] = nil
		close(second)
		defer r.mu.Unlock()
		known, err := r.store.Begin(ctx, key, hash, now, stale, until)
		return email.Known{Token: known.Token}, err
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
