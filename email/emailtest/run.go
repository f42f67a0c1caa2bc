package emailtest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/fault"
)

// Run checks that a Sender keeps the contract of package email. Each rule is a
// subtest with a Subject of its own, which open makes and cleans up with t.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	t.Helper()
	for _, c := range []struct {
		rule  string
		check func(*testing.T, Subject)
	}{
		{"a whole mail arrives as it was written", wholeMail},
		{"sending doesn't change the message", unchanged},
		{"a wrong message is refused before it is sent", refusedBefore},
		{"what the provider lacks is refused as unsupported", lacking},
		{"a provider's trouble has its kind", troubles},
		{"a hanging provider is left when the context ends", hanging},
		{"a cancelled context sends nothing", cancelled},
		{"many mails at once are neither lost, doubled nor mixed up", manyAtOnce},
	} {
		t.Run(c.rule, func(t *testing.T) { c.check(t, open(t)) })
	}
}

// sample is a mail that uses every field that all providers have.
func sample(n int) *email.Message {
	return &email.Message{
		ID:   fmt.Sprintf("mail-%d", n),
		From: email.Address{Name: "Ada Lövelace", Address: "ada@example.com"},
		To:   []email.Address{{Name: "Grace", Address: fmt.Sprintf("to%d@example.org", n)}},
		Cc:   []email.Address{{Address: "cc@example.org"}}, Bcc: []email.Address{{Address: "bcc@example.org"}},
		ReplyTo: []email.Address{{Address: "reply@example.com"}},
		Subject: fmt.Sprintf("Grüße %d", n), Text: fmt.Sprintf("text %d ✓", n), HTML: fmt.Sprintf("<p>html %d ✓</p>", n),
		Attachments: []email.Attachment{
			{Name: "a.txt", ContentType: "text/csv", Data: fmt.Appendf(nil, "data %d", n)},
			{Name: "logo.png", ContentType: "image/png", ContentID: "logo", Data: []byte{0x89, 'P', 'N', 'G', 0, 1}},
		},
		Headers:     map[string]string{"X-Campaign": "spring"},
		Unsubscribe: email.Unsubscribe{URL: "https://example.com/u?x=1", OneClick: true},
		Locale:      "de-AT",
	}
}

func (s Subject) sample(n int) *email.Message {
	m := sample(n)
	if !slices.Contains(s.Lacks, Tags) {
		m.Tags = []string{"welcome"}
	}
	if !slices.Contains(s.Lacks, Metadata) {
		m.Metadata = map[string]string{"order": fmt.Sprint(n)}
	}
	return m
}

func wholeMail(t *testing.T, s Subject) {
	m := s.sample(1)
	receipt, err := s.Sender.Send(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	if receipt.ID != m.ID || receipt.Provider != s.Name || receipt.ProviderID == "" || receipt.Status != email.StatusAccepted ||
		len(receipt.Recipients) != 3 || receipt.Attempts != 1 {
		t.Errorf("the receipt isn't complete: %+v", receipt)
	}
	sent := s.Sent()
	if len(sent) != 1 {
		t.Fatalf("%d mails arrived, want 1", len(sent))
	}
	same(t, m, sent[0])
}

// same compares what every provider must carry.
func same(t *testing.T, want, got *email.Message) {
	t.Helper()
	for field, pair := range map[string][2]any{
		"id": {want.ID, got.ID}, "from": {want.From, got.From}, "to": {want.To, got.To}, "cc": {want.Cc, got.Cc}, "bcc": {want.Bcc, got.Bcc},
		"reply_to": {want.ReplyTo, got.ReplyTo}, "subject": {want.Subject, got.Subject}, "text": {want.Text, got.Text},
		"html": {want.HTML, got.HTML}, "attachments": {byName(want.Attachments), byName(got.Attachments)},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: sent %v, arrived %v", field, pair[0], pair[1])
		}
	}
	for _, tag := range want.Tags {
		if !slices.Contains(got.Tags, tag) {
			t.Errorf("tag %q didn't arrive", tag)
		}
	}
	for k, v := range want.Metadata {
		if got.Metadata[k] != v {
			t.Errorf("metadata %q: sent %q, arrived %q", k, v, got.Metadata[k])
		}
	}
	for k, v := range want.Headers {
		if got.Headers[k] != v {
			t.Errorf("header %s: sent %q, arrived %q", k, v, got.Headers[k])
		}
	}
}

// byName sorts: a MIME message has its inline parts before the others.
func byName(list []email.Attachment) []email.Attachment {
	return slices.SortedFunc(slices.Values(list), func(a, b email.Attachment) int { return strings.Compare(a.Name, b.Name) })
}

func unchanged(t *testing.T, s Subject) {
	m, before := s.sample(1), s.sample(1)
	m.ID, before.ID = "", ""
	if _, err := s.Sender.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m, before) {
		t.Error("the message was changed by sending")
	}
}

func refusedBefore(t *testing.T, s Subject) {
	for field, spoil := range map[string]func(*email.Message){
		"to":                      func(m *email.Message) { m.To, m.Cc, m.Bcc = nil, nil, nil },
		"from.address":            func(m *email.Message) { m.From.Address = "nobody" },
		"to[0].name":              func(m *email.Message) { m.To[0].Name = "x\r\nBcc: y@example.com" },
		"subject":                 func(m *email.Message) { m.Subject = "a\nb" },
		"headers":                 func(m *email.Message) { m.Headers = map[string]string{"X\r\nBcc": "y"} },
		"unsubscribe.url":         func(m *email.Message) { m.Unsubscribe.URL = "https://x/\r\nBcc: y" },
		"attachments[0].name":     func(m *email.Message) { m.Attachments[0].Name = "a\x00b" },
		"attachments[1].content_": func(m *email.Message) { m.Attachments[1].ContentID = "a\r\nb" },
	} {
		m := s.sample(1)
		spoil(m)
		_, err := s.Sender.Send(t.Context(), m)
		wrong, ok := errors.AsType[*email.FieldError](err)
		if !errors.Is(err, fault.Invalid) || !ok || !strings.HasPrefix(wrong.Field, field) {
			t.Errorf("%s: want an error of kind invalid that names it, got %v", field, err)
		}
	}
	expired := s.sample(1)
	expired.Expires = time.Now().Add(-time.Second)
	if _, err := s.Sender.Send(t.Context(), expired); !errors.Is(err, email.ErrExpired) {
		t.Errorf("an expired mail: want ErrExpired, got %v", err)
	}
	if n := len(s.Sent()); n != 0 {
		t.Errorf("%d wrong mails were sent", n)
	}
}

func lacking(t *testing.T, s Subject) {
	for _, f := range s.Lacks {
		m := sample(1)
		switch f {
		case Tags:
			m.Tags = []string{"a"}
		case Metadata:
			m.Metadata = map[string]string{"a": "b"}
		case SendAt:
			m.SendAt = time.Now().Add(time.Hour)
		}
		if _, err := s.Sender.Send(t.Context(), m); !errors.Is(err, fault.Unsupported) || !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: want unsupported, got %v", f, err)
		}
	}
}

func troubles(t *testing.T, s Subject) {
	for _, c := range []struct {
		name    string
		trouble Trouble
		kinds   []fault.Kind
		acted   int
	}{
		{"unreachable", Unreachable, []fault.Kind{fault.Unavailable}, 0},
		{"server error", ServerError, []fault.Kind{fault.Uncertain, fault.Unavailable}, 0},
		{"throttled", Throttled, []fault.Kind{fault.RateLimited}, 0},
		{"bad credentials", BadCredentials, []fault.Kind{fault.Denied}, 0},
		{"blocked", Blocked, []fault.Kind{fault.Rejected, fault.Invalid}, 0},
		{"reset", Reset, []fault.Kind{fault.Uncertain}, 0},
		{"reset after acting", ResetAfter, []fault.Kind{fault.Uncertain}, 1},
	} {
		before := len(s.Sent())
		if !s.Break(c.trouble) {
			continue
		}
		_, err := s.Sender.Send(t.Context(), s.sample(int(c.trouble)+10))
		s.Heal()
		if s.Retries {
			if err == nil {
				continue // it found a way
			}
		} else if n := len(s.Sent()) - before; n != c.acted {
			t.Errorf("%s: the provider acted %d times on one attempt, want %d", c.name, n, c.acted)
		}
		if !slices.Contains(c.kinds, fault.KindOf(err)) {
			t.Errorf("%s: want kind %v, got %v", c.name, c.kinds, err)
		}
	}
}

func hanging(t *testing.T, s Subject) {
	if !s.Break(Hang) {
		t.Skip("this provider can't hang")
	}
	defer s.Heal()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	start := time.Now()
	if _, err := s.Sender.Send(ctx, s.sample(1)); err == nil {
		t.Error("a provider that never answers was taken for a success")
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("it took %v to leave", d)
	}
}

func cancelled(t *testing.T, s Subject) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Sender.Send(ctx, s.sample(1)); err == nil {
		t.Error("a cancelled context was taken for a success")
	}
	if n := len(s.Sent()); n != 0 {
		t.Errorf("%d mails were sent", n)
	}
}

const (
	senders = 16
	each    = 500
)

func manyAtOnce(t *testing.T, s Subject) {
	n := each
	if testing.Short() {
		n = 20
	}
	var wg sync.WaitGroup
	for g := range senders {
		wg.Go(func() {
			for i := range n {
				m := s.sample(g*n + i)
				receipt, err := s.Sender.Send(t.Context(), m)
				if err != nil {
					t.Error(err)
					return
				}
				if receipt.ID != m.ID {
					t.Errorf("the receipt of %s is for %s", m.ID, receipt.ID)
				}
			}
		})
	}
	wg.Wait()
	seen := make(map[string]*email.Message, senders*n)
	for _, m := range s.Sent() {
		if seen[m.ID] != nil {
			t.Errorf("%s arrived twice", m.ID)
		}
		seen[m.ID] = m
	}
	for i := range senders * n {
		want := s.sample(i)
		got := seen[want.ID]
		if got == nil {
			t.Fatalf("%s was lost", want.ID)
		}
		if same(t, want, got); t.Failed() {
			return
		}
	}
}
