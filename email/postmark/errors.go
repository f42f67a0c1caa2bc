package postmark

import (
	"net/http"
	"strconv"
	"time"

	"github.com/smilefactory/integrations/email/internal/redact"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
)

// kinds of Postmark's error codes: developer documentation, "API overview", API
// error codes, groups Authentication, Global and Sending, and those that are only
// in former editions of that table. A code of another group is read by its status.
var kinds = map[int]fault.Kind{
	10:  fault.Denied,      // no valid token, or one of the wrong type
	100: fault.Unavailable, // "The Postmark API is offline for maintenance": nothing was taken
	101: fault.Uncertain,   // "an error that shouldn't have occurred"
	300: fault.Invalid,     // what is wrong with a mail: an address, no body; limits are checked before
	// The next two are about the form of the request, not about the mail.
	402: fault.Unsupported, // "Invalid JSON"
	403: fault.Unsupported, // "Invalid request field(s)"
	406: fault.Rejected,    // every recipient is on the suppression list
	410: fault.Unsupported, // more than 500 messages in a batch
	411: fault.Unsupported, // "Attachment file type not allowed": another may take it
	412: fault.Denied,      // the account is pending approval: it may send within its own domain alone
	413: fault.Denied,      // "This account is not approved to send email"
	422: fault.Denied,      // "Invalid Server or Account"
	// Streams and addresses are settings of the Sender and its account.
	1235: fault.Denied, // "The stream provided does not exist on this server"
	1236: fault.Denied, // "Sending is not supported for this stream type"
	1480: fault.Denied, // "not authorized to send emails from your current IP address"
	// Of bulk sending.
	11: fault.Invalid,
	12: fault.NotFound,
	13: fault.Invalid,
	14: fault.Denied,
	// Former editions.
	400: fault.Denied,      // "Sender Signature not found"
	401: fault.Denied,      // "Sender signature not confirmed"
	405: fault.Exhausted,   // "Not allowed to send": the account has run out of credits
	409: fault.Unsupported, // "JSON required": of the form
	429: fault.RateLimited, // "Rate Limit Exceeded"
}

// statuses are those of "API overview", HTTP response codes, where the answer has
// no code of Postmark's. All others are read by fault.FromStatus.
var statuses = map[int]fault.Kind{
	// The one path that is asked for always exists at Postmark, and always takes a
	// POST. BaseURL leads elsewhere: the mail is fine, so a backup may take it.
	http.StatusNotFound:              fault.Denied,
	http.StatusMethodNotAllowed:      fault.Denied,
	http.StatusRequestEntityTooLarge: fault.Unsupported, // "exceeded Postmark's size limit": another may take it
	http.StatusUnsupportedMediaType:  fault.Unsupported, // "missing the expected request headers": of the form
}

// Error is Postmark's answer to a mail that it did not take.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Code is Postmark's own, such as 406 for an inactive recipient; 0 where the
	// answer has none.
	Code int
	// Message is Postmark's own text, without anything of the mail.
	Message string
}

// Error is the status, Postmark's code and its text.
func (e *Error) Error() string {
	out := "postmark: status " + strconv.Itoa(e.Status)
	if e.Code != 0 {
		out += ", code " + strconv.Itoa(e.Code)
	}
	switch {
	case e.Message != "":
		out += ": " + e.Message
	case http.StatusText(e.Status) != "":
		out += ": " + http.StatusText(e.Status)
	}
	return out
}

func (e *Error) kind() fault.Kind {
	if k, ok := kinds[e.Code]; ok {
		return k
	}
	if k, ok := statuses[e.Status]; ok {
		return k
	}
	if e.Status >= 500 { // 501 included: no answer of the server's own trouble is proof that nothing was done
		return fault.Uncertain
	}
	return fault.FromStatus(e.Status)
}

func (e *Error) code() string {
	if e.Code != 0 {
		return strconv.Itoa(e.Code)
	}
	return strconv.Itoa(e.Status)
}

// refusal turns an answer into a fault. Postmark's texts quote the request, so what
// is private in it is taken out. Postmark documents no header that says for how long
// to stay away; proxies send Retry-After.
func refusal(a *transport.Answer, said answer, private []string, now time.Time) error {
	cause := &Error{Status: a.Status, Code: said.ErrorCode, Message: redact.Text(said.Message, maxMessage, private...)}
	f := fault.New(cause.kind(), cause)
	f.Code = cause.code()
	if f.Kind == fault.RateLimited {
		f.RetryAfter = fault.RetryAfter(a.Header, now)
	}
	return f
}

const (
	maxID      = 128 // characters of an id
	maxMessage = 300 // characters of a message
)
