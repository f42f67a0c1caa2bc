package stripe

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/smilefactory/integrations/internal/sim"
)

// detail is Stripe's error object (docs.stripe.com/api/errors).
type detail struct {
	AdviceCode    string         `json:"advice_code,omitempty"`
	Charge        string         `json:"charge,omitempty"`
	Code          string         `json:"code,omitempty"`
	DeclineCode   string         `json:"decline_code,omitempty"`
	DocURL        string         `json:"doc_url,omitempty"`
	Message       string         `json:"message"`
	Param         string         `json:"param,omitempty"`
	PaymentIntent *paymentIntent `json:"payment_intent,omitempty"`
	PaymentMethod *paymentMethod `json:"payment_method,omitempty"`
	SetupIntent   *setupIntent   `json:"setup_intent,omitempty"`
	Type          string         `json:"type"`
}

// problem is a refusal.
type problem struct {
	status int
	detail
	// unkept marks what isn't kept under an idempotency key: parameters that failed validation and conflicts with another
	// request (docs.stripe.com/api/idempotent_requests).
	unkept bool
	retry  string // Stripe-Should-Retry, where Stripe says something
}

// malformed is a parameter that fails validation, without a code.
func malformed(message, param string) *problem {
	return &problem{
		status: http.StatusBadRequest, unkept: true,
		detail: detail{Type: "invalid_request_error", Message: message, Param: param},
	}
}

// invalid is a parameter that fails validation.
func invalid(code, param, format string, args ...any) *problem {
	p := malformed(fmt.Sprintf(format, args...), param)
	p.coded(code)
	return p
}

// refused is a request that was executed and failed: an object in the wrong state, or none.
func refused(code, param, format string, args ...any) *problem {
	p := invalid(code, param, format, args...)
	p.unkept = false
	return p
}

func (p *problem) coded(code string) {
	p.Code = code
	if code != "" {
		p.DocURL = "https://stripe.com/docs/error-codes/" + code
	}
}

// missing: docs.stripe.com/error-codes, parameter_missing.
func missing(param string) *problem {
	return invalid("parameter_missing", param, "Missing required param: %s.", param)
}

// noSuch: docs.stripe.com/error-codes, resource_missing. It's 404 where the path names the object, and 400 where a
// parameter does.
func noSuch(kind, id, param string) *problem {
	p := refused("resource_missing", param, "No such %s: '%s'", kind, id)
	if param == "intent" || param == "id" {
		p.status = http.StatusNotFound
	}
	return p
}

// reply renders the error with its Stripe-Should-Retry header (docs.stripe.com/error-low-level).
func (p *problem) reply() sim.Reply {
	body, err := json.MarshalIndent(map[string]any{"error": p.detail}, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("sim/stripe: render an error: %v", err)) // No value here can fail.
	}
	reply := sim.Reply{Status: p.status, Header: http.Header{}, Body: string(body)}
	if p.retry != "" {
		reply.Header.Set("Stripe-Should-Retry", p.retry)
	}
	return reply
}

// inUse: docs.stripe.com/error-codes, idempotency_key_in_use.
func inUse(key string) *problem {
	p := invalid("idempotency_key_in_use", "", "There is currently another in-progress request using this Idempotent Key (that probably means you submitted twice, and the other request is still going through): %s. Please try again later.", key)
	p.status, p.Type, p.retry = http.StatusConflict, "idempotency_error", "true"
	return p
}

// otherParameters: docs.stripe.com/api/idempotent_requests. The error has no code.
func otherParameters(key string) *problem {
	p := malformed(fmt.Sprintf("Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '%s' if you meant to execute a different request.", key), "")
	p.Type, p.retry = "idempotency_error", "false"
	return p
}

// locked: docs.stripe.com/rate-limits, object lock timeouts.
func locked() *problem {
	p := invalid("lock_timeout", "", "This object cannot be accessed right now because another API request or Stripe process is currently accessing it. If you see this error intermittently, retry the request.")
	p.status, p.retry = http.StatusTooManyRequests, "true"
	return p
}

// answer is a reply for a fault, which has a request id as every answer of Stripe's.
func (p *problem) answer() sim.Reply {
	reply := p.reply()
	reply.Header.Set("Request-Id", newID("req"))
	return reply
}

// Replies in Stripe's words for [sim.Fault]s whose action is [sim.Answer].

// RateLimited is 429 of the limiter, which runs before the idempotency layer (docs.stripe.com/error-low-level).
func RateLimited() sim.Reply {
	p := invalid("rate_limit", "", "Too many requests hit the API too quickly. We recommend an exponential backoff of your requests.")
	p.status = http.StatusTooManyRequests
	return p.answer()
}

// LockTimeout is 429 of an object that another request holds (docs.stripe.com/rate-limits).
func LockTimeout() sim.Reply { return locked().answer() }

// KeyInUse is 409 of a key whose first request still runs.
func KeyInUse(key string) sim.Reply { return inUse(key).answer() }

// ServerError is an api_error. As a fault that is Kept it's an error of Stripe's while it executes, which the key's
// repetition gets again; otherwise the key knows nothing of it. shouldRetry is "true", "false" or "".
func ServerError(status int, shouldRetry string) sim.Reply {
	p := malformed("An unknown error occurred", "")
	p.status, p.Type, p.retry = status, "api_error", shouldRetry
	return p.answer()
}

// BadGateway is a page of a proxy before Stripe.
func BadGateway() sim.Reply {
	return sim.Reply{
		Status: http.StatusBadGateway, Header: http.Header{"Content-Type": {"text/html"}},
		Body: "<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>\n",
	}
}
