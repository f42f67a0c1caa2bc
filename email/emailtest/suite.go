package emailtest

import (
	"fmt"

	"github.com/smilefactory/integrations/email"
)

// Trouble is a way in which a provider fails.
type Trouble int

// The troubles that the suite asks for. A Subject skips those that its provider
// can't have by answering false from Break.
const (
	Unreachable    Trouble = iota // no connection can be had
	Unresolvable                  // the provider's name leads nowhere
	NoCredentials                 // the source of the key or password fails
	ServerError                   // an internal error, such as HTTP 500
	Throttled                     // too many requests; the provider asks for 7 s where it can
	BadCredentials                // the key or password is refused
	Blocked                       // the provider understands the message and refuses it; its text is Quote
	Unlisted                      // it refuses the message with a code that none of its documents has
	Hang                          // the provider has the whole request and never answers
	Reset                         // the connection breaks before the provider acts
	ResetAfter                    // the provider acts, then the connection breaks
	Garbled                       // the provider acts, then answers nonsense
	Slow                          // the provider acts, and answers after 150 ms
	troubles
)

var troubleNames = [troubles]string{
	"unreachable", "unresolvable", "no credentials", "server error", "throttled", "bad credentials", "blocked", "unlisted refusal",
	"hang", "reset", "reset after acting", "garbled", "slow",
}

// String is the trouble in words.
func (t Trouble) String() string {
	if t >= 0 && t < troubles {
		return troubleNames[t]
	}
	return fmt.Sprintf("trouble %d", int(t))
}

// Feature is what a provider may lack. A Sender must refuse a message that
// needs it with fault.Unsupported.
type Feature string

// The features that not every provider has.
const (
	Tags     Feature = "tags"
	Metadata Feature = "metadata"
	SendAt   Feature = "send at"
)

// Wait is a place where a provider can keep a Sender waiting.
type Wait struct {
	// Begin makes the provider say nothing more at this place, until Heal.
	Begin func()
	// Sent: what the provider has by then may have made it act.
	Sent bool
}

// Subject is a Sender under test and the provider behind it.
type Subject struct {
	Sender email.Sender
	// Unset is the Sender without a setting that it requires, such as its key; nil
	// where none can be made.
	Unset email.Sender
	// Name is the provider that receipts must name.
	Name string
	// Sent lists what the provider has taken, decoded from the wire, oldest first.
	Sent func() []*email.Message
	// Break makes the provider fail so from now on, until Heal; it reports
	// whether the provider can fail so.
	Break func(Trouble) bool
	// Heal ends the trouble, or the wait.
	Heal func()
	// Waits are the places where the Sender waits for anything (a connection, a
	// key, each reply of a conversation), by name; beside the trouble Hang.
	Waits map[string]Wait
	// Secrets are the credentials in use, which no error may show.
	Secrets []string
	// Lacks lists what the provider can't do.
	Lacks []Feature
	// Retries: the Sender is a Client, which repeats and fails over.
	Retries bool
}

// Quote is what a provider would say that quotes the mail it refuses: addresses,
// name, subject and text of the suite's mails, and then the secrets given.
func Quote(secrets ...string) string {
	m := sample(quoted)
	return fmt.Sprintf("%s <%s> to %s: %s: %s %v", m.From.Name, m.From.Address, m.To[0].Address, m.Subject, m.Text, secrets)
}

// quoted is the number of the mail that every trouble is tried with.
const quoted = 7
