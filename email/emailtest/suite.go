package emailtest

import (
	"github.com/smilefactory/integrations/email"
)

// Trouble is a way in which a provider fails.
type Trouble int

// The troubles that the suite asks for. A Subject skips those that its provider
// can't have by answering false from Break.
const (
	Unreachable    Trouble = iota // no connection can be had
	ServerError                   // an internal error, such as HTTP 500
	Throttled                     // too many requests; the provider asks for 7 s where it can
	BadCredentials                // the key or password is refused
	Blocked                       // the provider understands the message and refuses it
	Hang                          // no answer, ever
	Reset                         // the connection breaks before the provider acts
	ResetAfter                    // the provider acts, then the connection breaks
	Garbled                       // the provider acts, then answers nonsense
	Slow                          // the provider acts, and answers after 150 ms
)

// Feature is what a provider may lack. A Sender must refuse a message that
// needs it with fault.Unsupported.
type Feature string

// The features that not every provider has.
const (
	Tags     Feature = "tags"
	Metadata Feature = "metadata"
	SendAt   Feature = "send at"
)

// Subject is a Sender under test and the provider behind it.
type Subject struct {
	Sender email.Sender
	// Name is the provider that receipts must name.
	Name string
	// Sent lists what the provider has taken, decoded from the wire, oldest first.
	Sent func() []*email.Message
	// Break makes the provider fail so from now on, until Heal; it reports
	// whether the provider can fail so.
	Break func(Trouble) bool
	// Heal ends the trouble.
	Heal func()
	// Lacks lists what the provider can't do.
	Lacks []Feature
	// Retries: the Sender is a Client, which repeats and fails over.
	Retries bool
}
