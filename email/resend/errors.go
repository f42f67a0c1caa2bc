package resend

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/smilefactory/integrations/email/internal/redact"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
)

// kinds of Resend's errors by name: API reference, "Errors", in its present edition
// and in former ones, which resend-rust keeps. See also (*Error).kind. A name that
// isn't here is read by its status.
var kinds = map[string]fault.Kind{
	"invalid_idempotency_key": fault.Unsupported, // 400; the mail is fine
	"validation_error":        fault.Invalid,     // 400; 403 where the account may not send it
	"missing_api_key":         fault.Denied,
	"restricted_api_key":      fault.Denied,
	"invalid_api_key":         fault.Denied,
	"suspended_api_key":       fault.Denied,
	"invalid_permission":      fault.Denied,
	"email_above_quota":       fault.Exhausted, // of mails received
	// The one path that is asked for always exists at Resend, and always takes a
	// POST. BaseURL leads elsewhere: the mail is fine, so a backup may take it.
	"not_found":          fault.Denied,
	"method_not_allowed": fault.Denied,
	// A mail of this key is being sent: by an earlier attempt, whose answer was lost,
	// or by another caller. It is safe to ask again here, and nowhere else.
	"concurrent_idempotent_requests": fault.Uncertain,
	"invalid_idempotent_request":     fault.Conflict,  // another mail went under this key
	"resource_locked":                fault.Uncertain, // "Another request is already updating this resource"
	"invalid_attachment":             fault.Unsupported,
	"invalid_parameter":              fault.Invalid,
	"missing_required_field":         fault.Invalid,
	"missing_required_parameter":     fault.Invalid,
	"invalid_from_address":           fault.Invalid, // former: "Invalid from field"
	"invalid_access":                 fault.Invalid, // former, as the next: of other operations
	"invalid_region":                 fault.Invalid,
	"daily_quota_exceeded":           fault.Exhausted,
	"monthly_quota_exceeded":         fault.Exhausted,
	"rate_limit_exceeded":            fault.RateLimited,
	"security_error":                 fault.Rejected, // former, 451: "We may have found a security issue with the request"
	"application_error":              fault.Uncertain,
	"internal_server_error":          fault.Uncertain, // former
	"service_unavailable":            fault.Uncertain, // "temporarily unavailable" proves nothing
}

// Error is Resend's answer to a mail that it did not take.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Name is Resend's own code, such as "validation_error"; empty where the answer
	// has none.
	Name string
	// Message is Resend's own text, without anything of the mail.
	Message string
}

// Error is the status, Resend's code and its text.
func (e *Error) Error() string {
	out := "resend: status " + strconv.Itoa(e.Status)
	if e.Name != "" {
		out += ", " + e.Name
	}
	switch {
	case e.Message != "":
		out += ": " + e.Message
	case http.StatusText(e.Status) != "":
		out += ": " + http.StatusText(e.Status)
	}
	return out
}

// kind reads a validation_error of status 403 by itself: "You can only send testing
// emails to your own email address", "The domain is not verified". They are about
// the account, so that a backup may take the mail.
func (e *Error) kind() fault.Kind {
	if e.Name == "validation_error" && e.Status == http.StatusForbidden {
		return fault.Denied
	}
	if k, ok := kinds[e.Name]; ok {
		return k
	}
	switch {
	case e.Status == http.StatusNotFound || e.Status == http.StatusMethodNotAllowed:
		return fault.Denied // as not_found
	case e.Status == http.StatusRequestEntityTooLarge:
		return fault.Unsupported // another may take it
	case e.Status >= 500: // 501 included: no answer of the server's own trouble is proof that nothing was done
		return fault.Uncertain
	}
	return fault.FromStatus(e.Status)
}

func (e *Error) code() string {
	if e.Name != "" {
		return e.Name
	}
	return strconv.Itoa(e.Status)
}

// refusal turns an answer into a fault. A body that can't be read only costs its
// name and its text. Resend's texts quote the request, so what is private in it is
// taken out.
func refusal(a *transport.Answer, private []string, now time.Time) error {
	var said struct {
		Name    string `json:"name"`
		Message string `json:"message"`
	}
	_ = json.Unmarshal(a.Body, &said)
	cause := &Error{Status: a.Status, Name: redact.Text(said.Name, maxID, private...), Message: redact.Text(said.Message, maxMessage, private...)}
	f := fault.New(cause.kind(), cause)
	f.Code = cause.code()
	if f.Kind == fault.RateLimited {
		f.RetryAfter = retryAfter(a.Header, now)
	}
	return f
}

// retryAfter reads Retry-After, or ratelimit-reset, both in seconds ("Usage Limits",
// Response Headers).
func retryAfter(h http.Header, now time.Time) time.Duration {
	if strings.TrimSpace(h.Get("Retry-After")) == "" {
		h = http.Header{"Retry-After": h.Values("Ratelimit-Reset")}
	}
	return fault.RetryAfter(h, now)
}

const (
	maxID      = 128 // characters of an id or a name
	maxMessage = 300 // characters of a message
)
