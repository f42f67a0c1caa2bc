package sendgrid

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sendgrid/rest"

	"github.com/smilefactory/integrations/email/internal/redact"
	"github.com/smilefactory/integrations/fault"
)

// kinds of the statuses of SendGrid's v3 API reference, "Status codes" and "Mail
// Send errors". All others are read by fault.FromStatus.
var kinds = map[int]fault.Kind{
	http.StatusBadRequest:   fault.Invalid, // "Mail Send errors": a parameter is missing or wrong
	http.StatusUnauthorized: fault.Denied,  // "you do not have authorization": the key is wrong; see creditsSpent
	http.StatusForbidden:    fault.Denied,  // the key lacks mail.send, or From isn't a verified Sender Identity
	// The one path that is asked for always exists at SendGrid, and always takes
	// a POST. BaseURL leads elsewhere: the mail is fine, so a backup may take it.
	http.StatusNotFound:              fault.Denied,
	http.StatusMethodNotAllowed:      fault.Denied,
	http.StatusRequestEntityTooLarge: fault.Unsupported, // "the JSON payload is too large": another may take it
	http.StatusUnsupportedMediaType:  fault.Invalid,     // "Invalid UTF8 in request"
	http.StatusTooManyRequests:       fault.RateLimited, // "Rate limits"
}

// creditsSpent is the message of a 401 for an account without credits left. The
// reference doesn't name it; Twilio's help article "Maximum credits exceeded" does.
const creditsSpent = "maximum credits exceeded"

// Error is SendGrid's answer to a mail that it did not take.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Field is the request's field that the first problem is about, such as
	// "personalizations.0.to"; empty where there is none.
	Field string
	// Message is SendGrid's own text of it, without anything of the mail.
	Message string
}

// Error is the status and SendGrid's text.
func (e *Error) Error() string {
	text := e.Message
	if text == "" {
		text = http.StatusText(e.Status)
	}
	return strings.TrimSpace("sendgrid: status " + strconv.Itoa(e.Status) + ": " + text)
}

func (e *Error) code() string { return strings.TrimSpace(strconv.Itoa(e.Status) + " " + e.Field) }

func (e *Error) kind() fault.Kind {
	if e.Status == http.StatusUnauthorized && strings.Contains(strings.ToLower(e.Message), creditsSpent) {
		return fault.Exhausted
	}
	if k, ok := kinds[e.Status]; ok {
		return k
	}
	if e.Status >= 500 { // 501 included: no answer of the server's own trouble is proof that nothing was done
		return fault.Uncertain
	}
	return fault.FromStatus(e.Status)
}

// answer is the body of an error (Mail Send reference, ErrorResponse).
type answer struct {
	Errors []struct {
		Message string `json:"message"`
		Field   string `json:"field"`
	} `json:"errors"`
	ID string `json:"id"`
}

// refusal turns an answer into a fault. A body that can't be read only costs its
// text: the status alone decides, but for creditsSpent. SendGrid's texts quote
// the request, so what is private in it is taken out.
func refusal(resp *rest.Response, private []string, now time.Time) error {
	var a answer
	_ = json.Unmarshal([]byte(resp.Body), &a)
	cause := &Error{Status: resp.StatusCode}
	if len(a.Errors) > 0 {
		cause.Field = redact.Text(a.Errors[0].Field, maxID, private...)
		cause.Message = redact.Text(a.Errors[0].Message, maxMessage, private...)
	}
	f := fault.New(cause.kind(), cause)
	f.Code = cause.code()
	f.RequestID = redact.Text(a.ID, maxID, private...)
	if f.Kind == fault.RateLimited {
		f.RetryAfter = retryAfter(http.Header(resp.Headers), now)
	}
	return f
}

// retryAfter reads X-RateLimit-Reset, whole Unix seconds ("Rate limits"), against
// the answer's own Date where there is one, or Retry-After, which proxies send.
func retryAfter(h http.Header, now time.Time) time.Duration {
	reset, err := strconv.ParseInt(h.Get("X-RateLimit-Reset"), 10, 64)
	if err != nil {
		return fault.RetryAfter(h, now)
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	if reset > now.Add(fault.MaxRetryAfter).Unix() {
		return fault.MaxRetryAfter
	}
	return max(time.Unix(reset, 0).Sub(now), 0)
}

const (
	maxID      = 128 // characters of an id or a field's name
	maxMessage = 300 // characters of a message
)
