package emailtest

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/fault"
)

func wholeMail(t testing.TB, open func() Subject) {
	s := open()
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

// same compares what every provider must carry, and reports whether it is the same.
func same(t testing.TB, want, got *email.Message) bool {
	t.Helper()
	ok := true
	differ := func(format string, args ...any) {
		t.Helper()
		t.Errorf(format, args...)
		ok = false
	}
	for field, pair := range map[string][2]any{
		"id": {want.ID, got.ID}, "from": {want.From, got.From}, "to": {want.To, got.To}, "cc": {want.Cc, got.Cc}, "bcc": {want.Bcc, got.Bcc},
		"reply_to": {want.ReplyTo, got.ReplyTo}, "subject": {want.Subject, got.Subject}, "text": {want.Text, got.Text},
		"html": {want.HTML, got.HTML}, "attachments": {byName(want.Attachments), byName(got.Attachments)},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			differ("%s: sent %v, arrived %v", field, pair[0], pair[1])
		}
	}
	for _, tag := range want.Tags {
		if !slices.Contains(got.Tags, tag) {
			differ("tag %q didn't arrive", tag)
		}
	}
	for k, v := range want.Metadata {
		if got.Metadata[k] != v {
			differ("metadata %q: sent %q, arrived %q", k, v, got.Metadata[k])
		}
	}
	for k, v := range want.HeaderFields() {
		if arrived, carried := header(got, k); carried && arrived != v {
			differ("header %s: sent %q, arrived %q", k, v, arrived)
		}
	}
	return ok
}

// header finds a header field as it arrived: among the headers, or, where the
// Subject reads it back into the message's own field, there. Content-Language is
// part of the MIME structure, which not every Subject decodes.
func header(got *email.Message, name string) (value string, carried bool) {
	for k, v := range got.HeaderFields() {
		if k == name {
			return v, true
		}
	}
	return "", name != "Content-Language"
}

// byName sorts: a MIME message has its inline parts before the others.
func byName(list []email.Attachment) []email.Attachment {
	return slices.SortedFunc(slices.Values(list), func(a, b email.Attachment) int { return strings.Compare(a.Name, b.Name) })
}

// opened sends while the provider is in trouble, and twice when it is well. Each
// time the file says something else.
func opened(t testing.TB, open func() Subject) {
	s, file := open(), new(file)
	m := s.sample(quoted)
	m.Attachments[0].Data, m.Attachments[0].Open = nil, file.open
	if s.Break(ServerError) {
		_, _ = s.Sender.Send(t.Context(), m)
		s.Heal()
	}
	for n := range 2 {
		m.ID = s.sample(n).ID
		if _, err := s.Sender.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		if s.count(m.ID) != 1 {
			t.Fatalf("%d mails arrived, want 1", s.count(m.ID))
		}
		want := s.sample(quoted)
		want.ID, want.Attachments[0].Data = m.ID, file.content()
		same(t, want, s.sent(m.ID))
	}
	if m.Attachments[0].Data != nil {
		t.Error("the message was changed by sending")
	}
	if n := file.left(); n != 0 {
		t.Errorf("%d readers were not closed", n)
	}
	unreadable(t, s)
}

// unreadable: what can't be opened, or read to its end, is refused before anything
// is sent.
func unreadable(t testing.TB, s Subject) {
	t.Helper()
	before := len(s.Sent())
	gone := errors.New("/home/ada/private: no such file")
	for _, open := range []func() (io.ReadCloser, error){
		func() (io.ReadCloser, error) { return nil, gone },
		func() (io.ReadCloser, error) { return io.NopCloser(iotest.ErrReader(gone)), nil },
	} {
		m := s.sample(quoted)
		m.Attachments[1].Data, m.Attachments[1].Open = nil, open
		_, err := s.Sender.Send(t.Context(), m)
		wrong, ok := errors.AsType[*email.FieldError](err)
		if !errors.Is(err, fault.Invalid) || !ok || wrong.Field != "attachments[1]" || strings.Contains(err.Error(), "private") {
			t.Errorf("want an error of kind invalid that names attachments[1] and not its file, got %v", err)
		}
	}
	if len(s.Sent()) != before {
		t.Error("a mail was sent without its attachment")
	}
}

// file counts how often it was opened, and says so.
type file struct {
	mu           sync.Mutex
	times, inUse int
}

func (f *file) open() (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.times++
	f.inUse++
	return &reader{Reader: strings.NewReader(opening(f.times)), file: f}, nil
}

func opening(n int) string { return fmt.Sprintf("opening %d", n) }

// content is what it said last.
func (f *file) content() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return []byte(opening(f.times))
}

func (f *file) left() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.inUse
}

type reader struct {
	io.Reader
	file *file
}

func (r *reader) Close() error {
	r.file.mu.Lock()
	defer r.file.mu.Unlock()
	r.file.inUse--
	return nil
}

func unchanged(t testing.TB, open func() Subject) {
	s := open()
	m, before := s.sample(1), s.sample(1)
	m.ID, before.ID = "", ""
	if _, err := s.Sender.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(m, before) {
		t.Error("the message was changed by sending")
	}
}

// spoiled are mails with one thing wrong each, by the field that an error must name.
var spoiled = map[string]func(*email.Message){
	"to":                      func(m *email.Message) { m.To, m.Cc, m.Bcc = nil, nil, nil },
	"from.address":            func(m *email.Message) { m.From.Address = "nobody" },
	"to[0].name":              func(m *email.Message) { m.To[0].Name = "x\r\nBcc: y@example.com" },
	"subject":                 func(m *email.Message) { m.Subject = "a\nb" },
	"headers":                 func(m *email.Message) { m.Headers = map[string]string{"X\r\nBcc": "y"} },
	"unsubscribe.url":         func(m *email.Message) { m.Unsubscribe.URL = "https://x/\r\nBcc: y" },
	"attachments[0].name":     func(m *email.Message) { m.Attachments[0].Name = "a\x00b" },
	"attachments[1].content_": func(m *email.Message) { m.Attachments[1].ContentID = "a\r\nb" },
}

func refusedBefore(t testing.TB, open func() Subject) {
	s := open()
	for field, spoil := range spoiled {
		m := s.sample(1)
		spoil(m)
		_, err := s.Sender.Send(t.Context(), m)
		wrong, ok := errors.AsType[*email.FieldError](err)
		if !errors.Is(err, fault.Invalid) || !ok || !strings.HasPrefix(wrong.Field, field) {
			t.Errorf("%s: want an error of kind invalid that names it, got %v", field, err)
		}
	}
	if _, err := s.Sender.Send(t.Context(), nil); !errors.Is(err, fault.Invalid) {
		t.Errorf("no message at all: want an error of kind invalid, got %v", err)
	}
	expired := s.sample(1)
	expired.Expires = time.Now().Add(-time.Second)
	if _, err := s.Sender.Send(t.Context(), expired); !errors.Is(err, email.ErrExpired) || fault.Decide(err, fault.AtLeastOnce).Count {
		t.Errorf("an expired mail: want ErrExpired, which counts against nobody, got %v", err)
	}
	if n := len(s.Sent()); n != 0 {
		t.Errorf("%d wrong mails were sent", n)
	}
}

func lacking(t testing.TB, open func() Subject) {
	s := open()
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
	if n := len(s.Sent()); n != 0 {
		t.Errorf("%d mails were sent without what the provider lacks", n)
	}
}

func unset(t testing.TB, open func() Subject) {
	s := open()
	if s.Unset == nil {
		t.Skip("this Sender can't be made without its settings")
	}
	if _, err := s.Unset.Send(t.Context(), s.sample(1)); !errors.Is(err, fault.Denied) {
		t.Errorf("want an error of kind denied, got %v", err)
	}
	if n := len(s.Sent()); n != 0 {
		t.Errorf("%d mails were sent", n)
	}
}
