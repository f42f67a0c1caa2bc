package emailtest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/smilefactory/integrations/email"
)

// rule is one sentence of the contract. Its check opens a Subject for each
// situation that must not see what an earlier one left behind.
type rule struct {
	says  string
	check func(t testing.TB, open func() Subject)
}

var rules = []rule{
	{"a whole mail arrives as it was written", wholeMail},
	{"an attachment given by Open is read afresh for every attempt", opened},
	{"sending doesn't change the message", unchanged},
	{"a wrong message is refused before it is sent", refusedBefore},
	{"what the provider lacks is refused as unsupported", lacking},
	{"a Sender that lacks a setting says so and sends nothing", unset},
	{"a provider's trouble has its kind", kinds},
	{"a Sender makes one attempt", oneAttempt},
	{"an error says truly whether the mail may have gone", truth},
	{"an answer that makes no sense is a success or uncertain", garbled},
	{"a slow answer is waited for", slow},
	{"an error shows neither the mail nor a credential", private},
	{"a hanging provider is left within 50 ms of the cancellation", leaving},
	{"a deadline that ends a wait is uncertain once the mail was sent", deadlines},
	{"a context that has ended sends nothing", ended},
	{"many mails at once are neither lost, doubled nor mixed up", manyAtOnce},
}

// Run checks that a Sender keeps the contract of package email. Each rule is a
// subtest; open makes a Subject of its own for it, more than one where a rule
// needs several, and cleans up with t.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	t.Helper()
	for _, r := range rules {
		t.Run(r.says, func(t *testing.T) { r.check(t, func() Subject { return open(t) }) })
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
			{Name: "a.csv", ContentType: "text/csv", Data: fmt.Appendf(nil, "data %d", n)},
			{Name: "logo.png", ContentType: "image/png", ContentID: "logo", Data: []byte{0x89, 'P', 'N', 'G', 0, 1}},
		},
		Headers:     map[string]string{"X-Campaign": "spring"},
		Unsubscribe: email.Unsubscribe{URL: "https://example.com/u?x=1", OneClick: true},
		Locale:      "de-AT",
		Thread:      fmt.Sprintf("order-%d", n),
	}
}

// sample has the labels too, where the provider has a place for them.
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

// count is how often the provider has taken the mail of that id.
func (s Subject) count(id string) int {
	n := 0
	for _, m := range s.Sent() {
		if m.ID == id {
			n++
		}
	}
	return n
}

// sent is a mail of that id, which the provider has taken.
func (s Subject) sent(id string) *email.Message {
	all := s.Sent()
	return all[slices.IndexFunc(all, func(m *email.Message) bool { return m.ID == id })]
}
