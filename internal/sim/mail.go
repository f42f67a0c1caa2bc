package sim

import (
	"net/mail"
	"strings"
	"time"
)

// IDKey is the name under which a mail carries its sender's own id: a custom argument at SendGrid, a tag at SES and
// Resend, metadata at Postmark, a header X-Message-Id of a raw message that has no tag.
const IDKey = "message_id"

// Mail is a mail as its provider understood it, so that the same mail sent through two providers can be compared.
type Mail struct {
	ID          string // the sender's own id, see [IDKey]; empty where the request had none
	ProviderID  string // the id that the provider answered with
	From        mail.Address
	To, Cc, Bcc []mail.Address // who gets it; nil where nobody
	ReplyTo     []mail.Address
	Subject     string
	Text, HTML  string
	Headers     map[string]string // the sender's own headers, by canonical name
	Attachments []Attachment
	Tags        []string          // SendGrid's categories; Postmark's tag; the sorted names of SES's and Resend's tags other than the id
	Metadata    map[string]string // SendGrid's custom arguments; Postmark's metadata; SES's and Resend's tags; all without the id
	SendAt      time.Time         // zero where it goes at once
	Key         string            // the request's Idempotency-Key header, which Resend alone honours
}

// Attachment is a file that goes with a mail.
type Attachment struct {
	Name      string
	Type      string // a media type without parameters
	ContentID string // without angle brackets; set where the file is shown inline
	Data      []byte
}

// ValidAddress reports whether addr is a bare address (no display name, no comment, no group) that a mail server could
// take: RFC 5321 section 4.5.3.1.1 allows 64 octets before the at sign, RFC 1035 section 2.3.4 allows 63 a label, and
// RFC 1123 section 2.1 no label that starts or ends with a hyphen.
func ValidAddress(addr string) bool {
	parsed, err := mail.ParseAddress(addr)
	if err != nil || parsed.Name != "" || parsed.Address != addr {
		return false
	}
	at := strings.LastIndexByte(addr, '@')
	local, domain := addr[:at], addr[at+1:]
	if len(local) > 64 || len(domain) > 255 {
		return false
	}
	for label := range strings.SplitSeq(domain, ".") {
		if !validLabel(label) {
			return false
		}
	}
	return true
}

func validLabel(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(label, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		return !letter && (r < '0' || r > '9') && r != '-' && r < 0x80
	})
}

// IsASCII reports whether s holds nothing but printable ASCII and spaces.
func IsASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
