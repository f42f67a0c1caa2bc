package emailtest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

func (r *recorder) Skip(...any) { runtime.Goexit() }

// judge is what a rule says of a Subject: nothing where it is kept.
func judge(t *testing.T, says string, open func() Subject) string {
	t.Helper()
	i := slices.IndexFunc(rules, func(r rule) bool { return r.says == says })
	if i < 0 {
		t.Fatalf("there is no rule %q", says)
	}
	return hear(t, func(r *recorder) { rules[i].check(r, open) })
}

// hear is what a check says.
func hear(t *testing.T, check func(*recorder)) string {
	t.Helper()
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() { // of its own, which Fatal may end
		defer close(done)
		check(r)
	}()
	<-done
	return strings.Join(r.said, "\n")
}

// fake is an Outbox as a Subject. Its Sender is what wrap makes of it.
func fake(wrap func(*Outbox) email.Sender) Subject {
	o, unset := &Outbox{}, &Outbox{}
	unset.FailAlways(fault.New(fault.Denied, nil))
	private := Quote("pass-word-1")
	return Subject{
		Sender: wrap(o), Unset: wrap(unset), Name: "outbox", Sent: o.Sent, Heal: o.Heal, Secrets: []string{"pass-word-1"}, Lacks: []Feature{SendAt},
		Break: func(trouble Trouble) bool {
			switch trouble {
			case Unreachable, Unresolvable:
				o.FailAlways(fault.New(fault.Unavailable, nil))
			case ServerError, Reset:
				o.FailAlways(fault.New(fault.Uncertain, nil))
			case Throttled:
				o.FailAlways(fault.New(fault.RateLimited, nil))
			case BadCredentials, NoCredentials:
				o.FailAlways(fault.New(fault.Denied, nil))
			case Blocked, Unlisted:
				o.FailAlways(fault.New(fault.Rejected, &refusal{private}))
			case ResetAfter, Garbled:
				o.FailAfter(fault.New(fault.Uncertain, nil), fault.New(fault.Uncertain, nil))
			case Hang:
				o.Delay(time.Hour)
			case Slow:
				o.Delay(slowness)
			}
			return true
		},
	}
}

// refusal is a provider's error whose text quotes the mail.
type refusal struct{ text string }

func (*refusal) Error() string { return "refused" }

// sender makes a Sender of a function.
type sender func(ctx context.Context, m *email.Message) (*email.Receipt, error)

func (s sender) Send(ctx context.Context, m *email.Message) (*email.Receipt, error) { return s(ctx, m) }

// good is a Sender that keeps every rule; the broken ones differ in one thing.
func good(o *Outbox) email.Sender {
	return sender(func(ctx context.Context, m *email.Message) (*email.Receipt, error) {
		if m != nil && !m.SendAt.IsZero() {
			return nil, fault.New(fault.Unsupported, errors.New("send at"))
		}
		return o.Send(ctx, m)
	})
}

func TestAGoodSenderKeepsEveryRule(t *testing.T) {
	for _, r := range rules {
		if said := judge(t, r.says, func() Subject { return fake(good) }); said != "" {
			t.Errorf("%s: %s", r.says, said)
		}
	}
}

// passing makes a Sender that changes the mail on its way.
func passing(change func(*email.Message)) func(*Outbox) email.Sender {
	return func(o *Outbox) email.Sender {
		return sender(func(ctx context.Context, m *email.Message) (*email.Receipt, error) {
			if m == nil {
				return good(o).Send(ctx, m)
			}
			c := *m
			c.To, c.Attachments = slices.Clone(m.To), slices.Clone(m.Attachments)
			change(&c)
			return good(o).Send(ctx, &c)
		})
	}
}

// answering makes a Sender that changes what the provider answered.
func answering(change func(*email.Receipt, error) (*email.Receipt, error)) func(*Outbox) email.Sender {
	return func(o *Outbox) email.Sender {
		return sender(func(ctx context.Context, m *email.Message) (*email.Receipt, error) {
			return change(good(o).Send(ctx, m))
		})
	}
}

// calling is an error of one kind that is called another.
func calling(from, to fault.Kind) func(*Outbox) email.Sender {
	return answering(func(r *email.Receipt, err error) (*email.Receipt, error) {
		if fault.KindOf(err) == from && err != nil {
			f, _ := fault.As(err)
			return r, fault.New(to, f.Err)
		}
		return r, err
	})
}

// broken are Senders by the rule that each of them breaks.
var broken = map[string]map[string]func(*Outbox) email.Sender{
	"a whole mail arrives as it was written": {
		"loses the blind copy":  passing(func(m *email.Message) { m.Bcc = nil }),
		"loses the attachments": passing(func(m *email.Message) { m.Attachments = nil }),
		"spoils an umlaut":      passing(func(m *email.Message) { m.Subject = strings.ToValidUTF8("Gr\xfc\xdfe", "?") }),
		"loses the unsubscribe": passing(func(m *email.Message) { m.Unsubscribe = email.Unsubscribe{} }),
		"loses the thread":      passing(func(m *email.Message) { m.Thread = "" }),
		"mixes threads up":      passing(func(m *email.Message) { m.Thread = "order-0" }),
		"loses a tag":           passing(func(m *email.Message) { m.Tags = nil }),
		"loses metadata":        passing(func(m *email.Message) { m.Metadata = nil }),
		"gives a receipt without the provider": answering(func(r *email.Receipt, err error) (*email.Receipt, error) {
			if r != nil {
				r.Provider = ""
			}
			return r, err
		}),
		"sends twice": func(o *Outbox) email.Sender {
			return sender(func(ctx context.Context, m *email.Message) (*email.Receipt, error) {
				_, _ = good(o).Send(ctx, m)
				return good(o).Send(ctx, m)
			})
		},
	},
	"an attachment given by Open is read afresh for every attempt": {
		"reads it once":      remembering(),
		"forgets to read it": passing(func(m *email.Message) { m.Attachments[0].Open = nil }),
		"opens it and leaves it open": passing(func(m *email.Message) {
			if open := m.Attachments[0].Open; open != nil {
				_, _ = open()
			}
		}),
		"writes what it read into the message": func(o *Outbox) email.Sender {
			return sender(func(ctx context.Context, m *email.Message) (*email.Receipt, error) {
				if ready, err := m.Ready(); err == nil {
					m.Attachments = ready.Attachments
				}
				return good(o).Send(ctx, m)
			})
		},
		"leaves out what can't be read": passing(func(m *email.Message) {
			if open := m.Attachments[1].Open; open != nil {
				m.Attachments = m.Attachments[:1]
			}
		}),
		"names the file": answering(func(r *email.Receipt, err error) (*email.Receipt, error) {
			if errors.Is(err, fault.Invalid) {
				err = fmt.Errorf("%w: /home/ada/private", err)
			}
			return r, err
		}),
	},
	"sending doesn't change the message": {
		"writes the id into it": func(o *Outbox) email.Sender {
			return sender(func(ctx context.Context, m *email.Message) (*email.Receipt, error) {
				if m != nil {
					m.ID = m.WithID().ID
				}
				return good(o).Send(ctx, m)
			})
		},
		"sorts its recipients": func(o *Outbox) email.Sender {
			return sender(func(ctx context.Context, m *email.Message) (*email.Receipt, error) {
				if m != nil {
					slices.Reverse(m.Attachments)
				}
				return good(o).Send(ctx, m)
			})
		},
	},
	"a wrong message is refused before it is sent": {
		"checks nothing": passing(func(m *email.Message) { *m = *sample(1) }),
		"names no field": answering(func(r *email.Receipt, err error) (*email.Receipt, error) {
			if errors.Is(err, fault.Invalid) {
				err = fault.New(fault.Invalid, errors.New("wrong"))
			}
			return r, err
		}),
		"sends what has expired": passing(func(m *email.Message) { m.Expires = time.Time{} }),
	},
	"what the provider lacks is refused as unsupported": {
		"drops it in silence": func(o *Outbox) email.Sender { return o },
		"calls it invalid":    calling(fault.Unsupported, fault.Invalid),
	},
	"a Sender that lacks a setting says so and sends nothing": {
		"has no kinds":              answering(func(r *email.Receipt, err error) (*email.Receipt, error) { return r, opaque(err) }),
		"calls it the mail's fault": calling(fault.Denied, fault.Invalid),
	},
	"a provider's trouble has its kind": {
		"calls a wrong key an outage": calling(fault.Denied, fault.Unavailable),
		"calls throttling an outage":  calling(fault.RateLimited, fault.Unavailable),
		"calls a reset unsent":        calling(fault.Uncertain, fault.Rejected),
		"has no kinds":                answering(func(r *email.Receipt, err error) (*email.Receipt, error) { return r, opaque(err) }),
		"swallows errors": answering(func(*email.Receipt, error) (*email.Receipt, error) {
			return email.NewReceipt(sample(quoted), "outbox", "1"), nil
		}),
	},
	"a Sender makes one attempt": {
		"tries again by itself": func(o *Outbox) email.Sender {
			return sender(func(ctx context.Context, m *email.Message) (*email.Receipt, error) {
				r, err := good(o).Send(ctx, m)
				if fault.KindOf(err) == fault.Uncertain {
					r, err = good(o).Send(ctx, m)
				}
				return r, err
			})
		},
	},
	"an error says truly whether the mail may have gone": {
		"says that a lost answer is an unsent mail": calling(fault.Uncertain, fault.Unavailable),
		"tells of a success that was none": answering(func(r *email.Receipt, err error) (*email.Receipt, error) {
			if fault.KindOf(err) == fault.Denied {
				return email.NewReceipt(sample(quoted), "outbox", "1"), nil
			}
			return r, err
		}),
	},
	"an answer that makes no sense is a success or uncertain": {
		"says that nothing was done": calling(fault.Uncertain, fault.Unavailable),
	},
	"a slow answer is waited for": {
		"doesn't wait": func(o *Outbox) email.Sender {
			return sender(func(ctx context.Context, m *email.Message) (*email.Receipt, error) {
				o.Delay(0)
				return good(o).Send(ctx, m)
			})
		},
		"gives up early": func(o *Outbox) email.Sender {
			return sender(func(ctx context.Context, m *email.Message) (*email.Receipt, error) {
				ctx, cancel := context.WithTimeout(ctx, slowness/3)
				defer cancel()
				return good(o).Send(ctx, m)
			})
		},
	},
	"an error shows neither the mail nor a credential": {
		"hands the provider's text on": answering(func(r *email.Receipt, err error) (*email.Receipt, error) {
			if quoting, ok := errors.AsType[*refusal](err); ok {
				err = fault.New(fault.Rejected, errors.New(quoting.text))
			}
			return r, err
		}),
		"quotes a wrong subject": func(o *Outbox) email.Sender {
			return sender(func(ctx context.Context, m *email.Message) (*email.Receipt, error) {
				r, err := good(o).Send(ctx, m)
				if errors.Is(err, fault.Invalid) {
					err = fmt.Errorf("%w: %s", err, m.Subject)
				}
				return r, err
			})
		},
	},
	"a hanging provider is left within 50 ms of the cancellation": {
		"comes back late": func(o *Outbox) email.Sender {
			return sender(func(ctx context.Context, m *email.Message) (*email.Receipt, error) {
				r, err := good(o).Send(ctx, m)
				time.Sleep(2 * promptly)
				return r, err
			})
		},
		"takes its leaving for a success": answering(func(r *email.Receipt, err error) (*email.Receipt, error) {
			if errors.Is(err, context.Canceled) {
				return email.NewReceipt(sample(quoted), "outbox", "1"), nil
			}
			return r, err
		}),
	},
	"a deadline that ends a wait is uncertain once the mail was sent": {
		"calls it unavailable": calling(fault.Uncertain, fault.Unavailable),
		"calls it rejected":    calling(fault.Uncertain, fault.Rejected),
		"has another cause": answering(func(r *email.Receipt, err error) (*email.Receipt, error) {
			if errors.Is(err, context.DeadlineExceeded) {
				err = fault.New(fault.Uncertain, errors.New("timeout"))
			}
			return r, err
		}),
	},
	"a context that has ended sends nothing": {
		"ignores it": func(o *Outbox) email.Sender {
			return sender(func(ctx context.Context, m *email.Message) (*email.Receipt, error) {
				return good(o).Send(context.WithoutCancel(ctx), m)
			})
		},
		"calls it uncertain": calling(fault.Unavailable, fault.Uncertain),
	},
	"many mails at once are neither lost, doubled nor mixed up": {
		"loses one in a hundred": losing(100),
		"shares its receipt":     sharing(),
		"mixes the texts up":     passing(func(m *email.Message) { m.Text = "text 3 ✓" }),
		"sends one in a hundred twice": func(o *Outbox) email.Sender {
			return sender(func(ctx context.Context, m *email.Message) (*email.Receipt, error) {
				if strings.HasSuffix(m.ID, "00") {
					_, _ = good(o).Send(ctx, m)
				}
				return good(o).Send(ctx, m)
			})
		},
	},
}

func TestTheSuiteFailsABrokenSender(t *testing.T) {
	for rule, senders := range broken {
		for name, wrap := range senders {
			t.Run(rule+"/"+name, func(t *testing.T) {
				if judge(t, rule, func() Subject { return fake(wrap) }) == "" {
					t.Error("the suite lets it pass")
				}
			})
		}
	}
}

// opaque is an error without a kind.
func opaque(err error) error {
	if err == nil {
		return nil
	}
	return errors.New("failed")
}

// remembering keeps what it has read of the first message's files.
func remembering() func(*Outbox) email.Sender {
	return func(o *Outbox) email.Sender {
		var read []email.Attachment
		return sender(func(ctx context.Context, m *email.Message) (*email.Receipt, error) {
			ready, err := m.Ready()
			if err != nil {
				return nil, err
			}
			if read == nil {
				read = ready.Attachments
			}
			c := *ready
			c.Attachments = read
			return good(o).Send(ctx, &c)
		})
	}
}

func losing(oneIn int) func(*Outbox) email.Sender {
	return func(o *Outbox) email.Sender {
		var mu sync.Mutex
		n := 0
		return sender(func(ctx context.Context, m *email.Message) (*email.Receipt, error) {
			mu.Lock()
			defer mu.Unlock()
			if n++; n%oneIn == 0 {
				return email.NewReceipt(m, "outbox", "1"), nil
			}
			return good(o).Send(ctx, m)
		})
	}
}

// sharing writes every answer into one receipt.
func sharing() func(*Outbox) email.Sender {
	return func(o *Outbox) email.Sender {
		var mu sync.Mutex
		var shared email.Receipt
		return sender(func(ctx context.Context, m *email.Message) (*email.Receipt, error) {
			mu.Lock()
			defer mu.Unlock()
			r, err := good(o).Send(ctx, m)
			if r != nil {
				shared = *r
			}
			return &shared, err
		})
	}
}

func TestEveryRuleHasASenderThatBreaksIt(t *testing.T) {
	for _, r := range rules {
		if len(broken[r.says]) == 0 {
			t.Errorf("no broken Sender shows that the suite checks that %s", r.says)
		}
	}
}

func TestATroubleHasAName(t *testing.T) {
	names := map[string]bool{}
	for trouble := range troubles + 1 {
		names[trouble.String()] = true
	}
	if len(names) != int(troubles)+1 {
		t.Errorf("two troubles have one name: %v", names)
	}
}
