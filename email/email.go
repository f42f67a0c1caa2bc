// Package email sends mail through any provider, with others behind it.
//
//	mail, err := email.New(sendgrid.Sender{Key: key}, email.WithBackup(ses.New(cfg)))
//	…
//	receipt, err := mail.Send(ctx, &email.Message{
//		From:    email.Address{Name: "Ada", Address: "ada@example.com"},
//		To:      []email.Address{{Address: "grace@example.org"}},
//		Subject: "Hello",
//		Text:    "How are you?",
//	})
//
// A [Sender] is one provider, or a [Client] made of several; a Client stands
// wherever a Sender does. Rules that every Sender keeps, and that
// emailtest.Run checks:
//
//   - A message is checked before anything is sent; what is wrong with it is an
//     error of kind fault.Invalid that names the field.
//   - A message is never changed by sending.
//   - What a provider can't do is an error of kind fault.Unsupported, never
//     dropped in silence; the Client then asks the next provider.
//   - A Sender takes the mail for all recipients whom it doesn't refuse for good,
//     whom the receipt names, or for none, which is an error. So a retry or a backup
//     sends nothing to anybody who has accepted, and no mail is split in silence.
//   - A Sender makes one attempt and answers in time when its context ends.
//   - An error says truly whether the mail may have gone, and holds nothing of it.
//   - It is safe for concurrent use, and each call returns a Receipt of its own.
//
// Two Senders of one name are told apart with [Named].
package email

import (
	"context"
	"io"
	"net/mail"
	"slices"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// Sender is the contract: one attempt to hand one message to one provider.
// Errors carry a fault.Kind. A Sender may also have a method Name() string.
type Sender interface {
	Send(ctx context.Context, m *Message) (*Receipt, error)
}

// Address is a mailbox: an optional display name and an address (RFC 5322, 3.4).
type Address = mail.Address

// Message is one mail. The zero value of every field but From, the recipients,
// Subject and one of Text and HTML is a mail without that thing.
type Message struct {
	// ID is our own id of the message, the same at every provider and attempt.
	// It travels as custom argument, tag or header. 1 to 64 of [A-Za-z0-9_-];
	// a Client makes one where it is empty.
	ID string

	From    Address
	To      []Address
	Cc      []Address
	Bcc     []Address
	ReplyTo []Address

	Subject string
	Text    string
	HTML    string

	// Attachments are files, or inline images where ContentID is set.
	Attachments []Attachment
	// Thread is an opaque id of what the mail belongs to, 1 to 64 of [A-Za-z0-9_-]:
	// mails of one Thread and sender's domain share a root in References (RFC 5322,
	// 3.6.4), so that readers show them as one conversation, whatever Message-ID
	// each provider gives them.
	Thread string
	// Headers are further header fields. Those that have a field of their own
	// here, or that a provider sets (Date, Received, …), are refused.
	Headers map[string]string

	// Tags are short labels for the provider's statistics, at most 10.
	// Providers keep them long-term: no personal data.
	Tags []string
	// Metadata comes back with the provider's delivery events. The same care
	// as with Tags.
	Metadata map[string]string

	// Unsubscribe makes the List-Unsubscribe header fields (RFC 2369, RFC 8058).
	Unsubscribe Unsubscribe

	// SendAt asks the provider to deliver later. A time in the past means now.
	SendAt time.Time
	// Expires is when the mail is no longer worth sending: no attempt starts
	// after it. The error then is [ErrExpired].
	Expires time.Time
	// IdempotencyKey is a caller's key for this mail, at most 255 printable
	// ASCII characters. It reaches providers that deduplicate by it. By itself it
	// covers one call of Send, with its retries; with [WithReceipts] also others.
	IdempotencyKey string
	// AtMostOnce decides the ambiguous case: an attempt that may have reached
	// the provider. By default the mail is tried again, here or at a backup,
	// and may arrive twice; with AtMostOnce it is not, and may be lost.
	AtMostOnce bool
	// InOrder makes queued mails to the same first recipient go out in the order in
	// which they were queued. Mails that go out at once are not held back.
	InOrder bool
	// Priority, from -10 to 10, chooses among queued mails; see queue.Job.
	Priority int
	// Locale is the language of the content (BCP 47, such as "de-AT"); it
	// becomes the Content-Language header field.
	Locale string

	root string // the domain of Thread's root, where From was replaced
}

// Attachment is a file in a mail.
type Attachment struct {
	// Name is the file's name, without a path.
	Name string
	// ContentType is the media type; empty means application/octet-stream.
	ContentType string
	// ContentID makes it an inline image, for <img src="cid:…"> in HTML.
	// Without angle brackets.
	ContentID string
	// Data is the content. Senders only read it.
	Data []byte
	// Open gives the content where Data is nil: a fresh reader each time, since a
	// retry or a backup reads it again. It is read up to [MaxSize] for each attempt,
	// and when the mail is queued.
	Open func() (io.ReadCloser, error) `json:"-"`
}

// Unsubscribe says how a reader leaves the list.
type Unsubscribe struct {
	// URL is an https address; with OneClick it also takes a POST (RFC 8058).
	URL string
	// Mailto is a mail address to write to.
	Mailto string
	// OneClick adds List-Unsubscribe-Post; it needs a URL.
	OneClick bool
}

// Status is what has become of a mail, as far as is known.
type Status string

// What may have become of it.
const (
	// StatusAccepted: the provider has taken the mail for delivery.
	StatusAccepted Status = "accepted"
	// StatusScheduled: the provider has taken it for delivery at SendAt.
	StatusScheduled Status = "scheduled"
	// StatusQueued: no provider has taken it yet; it is durable and goes out later.
	StatusQueued Status = "queued"
	// StatusRefused: the provider did not take it for this recipient.
	StatusRefused Status = "refused"
)

// Receipt is the provider's answer to one message.
type Receipt struct {
	// ID is the message's own id: Message.ID, or the one made for it.
	ID string
	// Provider is who took the mail, a path ("eu/ses") where Clients are nested.
	Provider string
	// ProviderID is the provider's id of the mail, which its events carry.
	ProviderID string
	// MessageID is the mail's Message-ID header field without angle brackets, where
	// the provider leaves it to us or tells it.
	MessageID string
	// Status is that of the mail: accepted if any recipient was.
	Status Status
	// Recipients has one outcome each for To, Cc and Bcc, in this order.
	Recipients []Recipient
	// Attempts is how many attempts, at all providers, it took.
	Attempts int
	// Faults is what each provider answered last, where the mail was queued since
	// none could take it.
	Faults []*fault.Error `json:"-"`
}

func (r *Receipt) clone() *Receipt {
	if r == nil {
		return nil
	}
	c := *r
	c.Recipients, c.Faults = slices.Clone(r.Recipients), slices.Clone(r.Faults)
	return &c
}

func (r *Receipt) setStatus(s Status) {
	r.Status = s
	for i := range r.Recipients {
		r.Recipients[i].Status = s
	}
}

// Recipient is the outcome for one address.
type Recipient struct {
	Address string
	Status  Status
	// Code is the provider's reason where it refused, such as "550 5.1.1".
	Code string
}

// Answered lets a Client note who answered and after how many attempts.
func (r *Receipt) Answered(provider string, attempts int) {
	r.Provider, r.Attempts = provider, attempts
}

// NewReceipt is the receipt of a provider that took the whole mail: what every
// adapter answers on success. Where the message has no ID one is made.
func NewReceipt(m *Message, provider, providerID string) *Receipt {
	r := &Receipt{ID: m.ID, Provider: provider, ProviderID: providerID, Status: StatusAccepted, Attempts: 1}
	if m.SendAt.After(time.Now()) {
		r.Status = StatusScheduled
	}
	r.Recipients = make([]Recipient, 0, len(m.To)+len(m.Cc)+len(m.Bcc))
	for _, list := range [][]Address{m.To, m.Cc, m.Bcc} {
		for _, a := range list {
			r.Recipients = append(r.Recipients, Recipient{Address: a.Address, Status: r.Status})
		}
	}
	return r
}
