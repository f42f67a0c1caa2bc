package sendgrid

import (
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sendgrid/rest"

	"github.com/smilefactory/integrations/fault"
)

// kinds are the statuses that SendGrid documents (v3 API reference, Mail Send
// errors, and How to use the v3 API, Responses). The rest is [fault.FromStatus].
var kinds = map[int]fault.Kind{
	http.StatusBadRequest:            fault.Invalid,
	http.StatusUnauthorized:          fault.Denied, // key missing, invalid, expired, revoked
	http.StatusForbidden:             fault.Denied, // key without the scope, or From not verified
	http.StatusNotFound:              fault.Denied, // there is one path, so BaseURL or account is wrong
	http.StatusMethodNotAllowed:      fault.Denied, // likewise
	http.StatusRequestEntityTooLarge: fault.Unsupported,
	http.StatusUnsupportedMediaType:  fault.Invalid,
	http.StatusTooManyRequests:       fault.RateLimited,
	http.StatusInternalServerError:   fault.Uncertain,
	http.StatusServiceUnavailable:    fault.Uncertain,
}

// creditsUsed is what a 401 says where the plan's mails are used up
// (SendGrid support, Maximum credits exceeded).
const creditsUsed = "Maximum credits exceeded"

var address = regexp.MustCompile(`[^\s\[\]<>"']+@[^\s\[\]<>"']+`)

func answerFault(res *rest.Response, now time.Time) *fault.Error {
	kind, ok := kinds[res.StatusCode]
	if !ok {
		kind = fault.FromStatus(res.StatusCode)
	}
	h := http.Header(res.Headers)
	f := &fault.Error{Kind: kind, Code: strconv.Itoa(res.StatusCode), RequestID: h.Get("X-Request-Id"), RetryAfter: retryAfter(h, now)}
	var body struct {
		Errors []struct {
			Message string  `json:"message"`
			Field   *string `json:"field"`
		} `json:"errors"`
	}
	if json.Unmarshal([]byte(res.Body), &body) != nil || len(body.Errors) == 0 {
		f.Err = errors.New("sendgrid: answered " + strconv.Itoa(res.StatusCode) + " without a reason")
		return f
	}
	reasons := make([]string, 0, len(body.Errors))
	for _, e := range body.Errors[:min(len(body.Errors), 5)] {
		reason := address.ReplaceAllString(e.Message, "[address]") // no personal data in errors
		if e.Field != nil && *e.Field != "" {
			reason = *e.Field + ": " + reason
		}
		reasons = append(reasons, reason[:min(len(reason), 300)])
	}
	if res.StatusCode == http.StatusUnauthorized && strings.HasPrefix(body.Errors[0].Message, creditsUsed) {
		f.Kind = fault.Exhausted
	}
	f.Err = errors.New("sendgrid: " + strings.Join(reasons, "; "))
	return f
}

// retryAfter reads Retry-After, or X-RateLimit-Reset in Unix seconds (v3 API
// reference, Rate limits).
func retryAfter(h http.Header, now time.Time) time.Duration {
	if d := fault.RetryAfter(h, now); d > 0 {
		return d
	}
	reset, err := strconv.ParseInt(h.Get("X-Ratelimit-Reset"), 10, 64)
	if err != nil {
		return 0
	}
	return min(max(time.Unix(reset, 0).Sub(now), 0), fault.MaxRetryAfter)
}
