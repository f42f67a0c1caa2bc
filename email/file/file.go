// Package file writes mails into a maildir instead of sending them, for
// development: every mail client can open it.
//
//	mail, err := email.New(file.Sender{Dir: "mail"})
//
//	mutt -f mail
//
// Each mail is a file of its own in Dir/new, complete when it appears: it is written
// in Dir/tmp, flushed to the disk and then moved. It shows more than a recipient
// would see: blind copies are in the header field Bcc, tags in X-Tag, metadata in
// X-Metadata-…, a time to come in X-Send-At, and the message's id in X-Message-Id.
//
// A full disk or a folder that can't be written to is fault.Unavailable, since
// nothing was delivered.
package file

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/internal/limits"
	"github.com/smilefactory/integrations/email/internal/mime"
	"github.com/smilefactory/integrations/fault"
)

const provider = "file"

// Sender is a folder as an email.Sender. It is safe for concurrent use, also by
// several processes.
type Sender struct {
	// Dir is the maildir. It is made at the first mail, for its owner alone. Required.
	Dir string
}

// Name is "file".
func (Sender) Name() string { return provider }

// Check reports whether Dir is missing.
func (s Sender) Check() error {
	if s.Dir == "" {
		return errors.New("file: Dir is required")
	}
	return nil
}

// Send writes m into the maildir. The receipt's ProviderID is the file's name, to
// which a mail client adds flags when it moves the file to Dir/cur.
func (s Sender) Send(ctx context.Context, m *email.Message) (*email.Receipt, error) {
	m, err := m.Ready()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	raw, err := render(m, now)
	if err != nil {
		return nil, err
	}
	if err := s.Check(); err != nil {
		return nil, fault.New(fault.Denied, err)
	}
	name := fileName(m.ID, now)
	if err := (maildir{s.Dir, create}).deliver(ctx, name, raw); err != nil {
		return nil, err
	}
	r := email.NewReceipt(m, provider, name)
	r.MessageID = messageID(m)
	return r, nil
}

// fileName is unique, also among processes and machines that share a folder, and
// the file names of one machine are in the order of time. The id is [A-Za-z0-9_-].
func fileName(id string, now time.Time) string {
	return fmt.Sprintf("%d.M%06dR%s-%s.%s", now.Unix(), now.Nanosecond()/1000, rand.Text(), id, host())
}

// host is this machine's name without what a file's name must not have.
func host() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "localhost"
	}
	name = strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, name)
	return name[:min(len(name), maxHost)]
}

const maxHost = 64

// The header fields that say what isn't part of a mail.
const (
	idHeader       = "X-Message-Id"
	tagHeader      = "X-Tag"
	metadataPrefix = "X-Metadata-"
	sendAtHeader   = "X-Send-At"
)

// render is the mail as a maildir has it: with LF alone at the ends of lines.
func render(m *email.Message, now time.Time) ([]byte, error) {
	if err := unsupported(m); err != nil {
		return nil, err
	}
	raw, err := mime.Write(m, mime.Options{MessageID: messageID(m), Fields: fields(m, now)})
	if err != nil {
		return nil, fault.New(fault.Invalid, fmt.Errorf("file: %w", err))
	}
	return []byte(strings.ReplaceAll(string(raw), "\r\n", "\n")), nil
}

// messageID is that of the mail, without angle brackets.
func messageID(m *email.Message) string {
	from := email.ASCIIDomain(m.From).Address
	return m.ID + from[strings.LastIndexByte(from, '@'):]
}

func fields(m *email.Message, now time.Time) []mime.Field {
	out := []mime.Field{{Name: idHeader, Value: m.ID}}
	if len(m.Bcc) > 0 {
		list := make([]string, len(m.Bcc))
		for i, a := range m.Bcc {
			a = email.ASCIIDomain(a)
			list[i] = a.String()
		}
		out = append(out, mime.Field{Name: "Bcc", Value: strings.Join(list, ", ")})
	}
	if len(m.Tags) > 0 {
		out = append(out, mime.Field{Name: tagHeader, Value: strings.Join(m.Tags, ", ")})
	}
	for _, key := range slices.Sorted(maps.Keys(m.Metadata)) {
		out = append(out, mime.Field{Name: metadataPrefix + key, Value: m.Metadata[key]})
	}
	if m.SendAt.After(now) {
		out = append(out, mime.Field{Name: sendAtHeader, Value: m.SendAt.Format(time.RFC1123Z)})
	}
	return out
}

// maxLine is of a header field (RFC 5322, 2.1.1), in octets.
const maxLine = 998

// unsupported: a header field that is set here, and metadata that makes a line too
// long.
func unsupported(m *email.Message) error {
	var found limits.Broken
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		own := slices.ContainsFunc([]string{idHeader, tagHeader, sendAtHeader}, func(s string) bool { return strings.EqualFold(s, name) }) ||
			strings.HasPrefix(strings.ToLower(name), strings.ToLower(metadataPrefix))
		found.Require(!own, "headers["+name+"]", "is set by this provider")
	}
	for _, key := range slices.Sorted(maps.Keys(m.Metadata)) {
		found.Require(len(metadataPrefix)+len(key)+len(": ")+len(m.Metadata[key]) <= maxLine, "metadata["+key+"]",
			"makes a line of more than 998 octets (RFC 5322, 2.1.1)")
	}
	return found.Unsupported()
}
