package emailtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/fault"
)

// outcome is what became of one mail while its provider was in trouble.
type outcome struct {
	receipt *email.Receipt
	err     error
	taken   int // how often the provider took it
	took    time.Duration
}

// meet sends one mail to a Subject in that trouble; ok is false where its
// provider can't have it.
func meet(t testing.TB, open func() Subject, trouble Trouble, change func(*email.Message)) (s Subject, o outcome, ok bool) {
	t.Helper()
	s = open()
	if !s.Break(trouble) {
		return s, o, false
	}
	m := s.sample(quoted)
	if change != nil {
		change(m)
	}
	start := time.Now()
	o.receipt, o.err = s.Sender.Send(t.Context(), m)
	o.took = time.Since(start)
	s.Heal()
	o.taken = s.count(m.ID)
	return s, o, true
}

func atMostOnce(m *email.Message) { m.AtMostOnce = true }

// answers are the troubles that end by themselves, with the kinds that their
// errors may have and how often the provider acts on one attempt.
var answers = []struct {
	trouble Trouble
	kinds   []fault.Kind
	acts    int
}{
	{Unreachable, []fault.Kind{fault.Unavailable}, 0},
	{Unresolvable, []fault.Kind{fault.Unavailable}, 0},
	{NoCredentials, []fault.Kind{fault.Denied}, 0},
	{ServerError, []fault.Kind{fault.Uncertain, fault.Unavailable}, 0},
	{Throttled, []fault.Kind{fault.RateLimited}, 0},
	{BadCredentials, []fault.Kind{fault.Denied}, 0},
	{Blocked, []fault.Kind{fault.Rejected, fault.Invalid}, 0},
	{Unlisted, []fault.Kind{fault.Rejected, fault.Invalid}, 0},
	{Reset, []fault.Kind{fault.Uncertain}, 0},
	{ResetAfter, []fault.Kind{fault.Uncertain}, 1},
	{Garbled, []fault.Kind{fault.Uncertain}, 1},
	{Slow, nil, 1},
}

func kinds(t testing.TB, open func() Subject) {
	for _, a := range answers {
		s, o, ok := meet(t, open, a.trouble, nil)
		passes := s.Retries || a.trouble == Garbled || a.trouble == Slow // it found a way, or the answer was enough
		if !ok || o.err == nil && passes {
			continue
		}
		if !slices.Contains(a.kinds, fault.KindOf(o.err)) {
			t.Errorf("%s: want kind %v, got %v", a.trouble, a.kinds, o.err)
		}
	}
}

func oneAttempt(t testing.TB, open func() Subject) {
	for _, a := range answers {
		s, o, ok := meet(t, open, a.trouble, nil)
		if ok && !s.Retries && o.taken != a.acts {
			t.Errorf("%s: the provider acted %d times on one attempt, want %d", a.trouble, o.taken, a.acts)
		}
	}
}

// truth: whoever reads the error must be able to decide whether to send again.
func truth(t testing.TB, open func() Subject) {
	for _, a := range answers {
		for name, change := range map[string]func(*email.Message){"at least once": nil, "at most once": atMostOnce} {
			_, o, ok := meet(t, open, a.trouble, change)
			switch {
			case !ok:
			case o.err == nil && o.taken == 0:
				t.Errorf("%s, %s: a success, and the mail was lost", a.trouble, name)
			case o.err != nil && o.taken > 0 && !fault.MayHaveActed(o.err):
				t.Errorf("%s, %s: the mail was taken, and the error says that nothing was done: %v", a.trouble, name, o.err)
			case change != nil && o.taken > 1:
				t.Errorf("%s, %s: the mail was taken %d times", a.trouble, name, o.taken)
			}
		}
	}
}

func garbled(t testing.TB, open func() Subject) {
	_, o, ok := meet(t, open, Garbled, atMostOnce)
	switch {
	case !ok:
		t.Skip("this provider can't answer nonsense")
	case o.taken != 1:
		t.Errorf("the mail was taken %d times, want 1", o.taken)
	case o.err != nil && fault.KindOf(o.err) != fault.Uncertain:
		t.Errorf("want a success or kind uncertain, got %v", o.err)
	}
}

// slowness is how long a provider that is Slow takes.
const slowness = 150 * time.Millisecond

func slow(t testing.TB, open func() Subject) {
	_, o, ok := meet(t, open, Slow, nil)
	switch {
	case !ok:
		t.Skip("this provider can't be slow")
	case o.err != nil:
		t.Errorf("want a success, got %v", o.err)
	case o.taken != 1:
		t.Errorf("the mail was taken %d times, want 1", o.taken)
	case o.took < slowness:
		t.Errorf("the answer of a provider that takes %v was there after %v", slowness, o.took)
	}
}

// private looks at every error, those of wrong mails included, in the forms in
// which errors are printed.
func private(t testing.TB, open func() Subject) {
	for _, a := range answers {
		s, o, ok := meet(t, open, a.trouble, nil)
		if ok && o.err != nil {
			hides(t, a.trouble.String(), o.err, s.sample(quoted), s.Secrets)
		}
	}
	s := open()
	for field, spoil := range spoiled {
		m := s.sample(quoted)
		spoil(m)
		_, err := s.Sender.Send(t.Context(), m)
		hides(t, field, err, m, s.Secrets)
	}
}

func hides(t testing.TB, when string, err error, m *email.Message, secrets []string) {
	t.Helper()
	said := fmt.Sprintf("%v\n%+v\n%#v", err, err, err)
	for what, values := range map[string][]string{
		"an address": addresses(m), "the subject": {m.Subject}, "the text": {m.Text}, "the HTML": {m.HTML}, "a credential": secrets,
	} {
		for _, v := range values {
			if v != "" && strings.Contains(said, v) {
				t.Errorf("%s: the error shows %s: %v", when, what, err)
			}
		}
	}
}

func addresses(m *email.Message) []string {
	var out []string
	for _, a := range slices.Concat([]email.Address{m.From}, m.To, m.Cc, m.Bcc, m.ReplyTo) {
		out = append(out, a.Address, a.Name)
	}
	return out
}
