package stripe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	sdk "github.com/stripe/stripe-go/v76"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
	"github.com/smilefactory/integrations/payment"
)

// codes are those of docs.stripe.com/error-codes that say more than the status.
var codes = map[sdk.ErrorCode]fault.Kind{
	// The key, the account, its settings.
	sdk.ErrorCodeAPIKeyExpired:                fault.Denied,
	sdk.ErrorCodePlatformAPIKeyExpired:        fault.Denied,
	sdk.ErrorCodeSecretKeyRequired:            fault.Denied,
	sdk.ErrorCodeLivemodeMismatch:             fault.Denied,
	sdk.ErrorCodeTestmodeChargesOnly:          fault.Denied,
	sdk.ErrorCodeAccountInvalid:               fault.Denied,
	sdk.ErrorCodePlatformAccountRequired:      fault.Denied,
	sdk.ErrorCodeNotAllowedOnStandardAccount:  fault.Denied,
	sdk.ErrorCodeTLSVersionUnsupported:        fault.Denied,
	"charges_not_allowed":                     fault.Denied,
	sdk.ErrorCodeCountryUnsupported:           fault.Unsupported,
	sdk.ErrorCodeAmountTooSmall:               fault.Unsupported, // of the settlement currency, which isn't known here
	sdk.ErrorCodeAmountTooLarge:               fault.Unsupported,
	sdk.ErrorCodePaymentMethodUnactivated:     fault.Unsupported,
	sdk.ErrorCodePaymentMethodUnsupportedType: fault.Unsupported,
	sdk.ErrorCodePaymentMethodNotAvailable:    fault.Unsupported, // "temporarily unavailable … another payment method"
	// The state of what is asked for.
	sdk.ErrorCodeResourceMissing:                    fault.NotFound,
	sdk.ErrorCodeResourceAlreadyExists:              fault.Conflict,
	sdk.ErrorCodePaymentIntentUnexpectedState:       fault.Conflict,
	sdk.ErrorCodeSetupIntentUnexpectedState:         fault.Conflict,
	sdk.ErrorCodeIntentInvalidState:                 fault.Conflict,
	sdk.ErrorCodePaymentMethodUnexpectedState:       fault.Conflict,
	sdk.ErrorCodeChargeAlreadyCaptured:              fault.Conflict,
	sdk.ErrorCodeChargeAlreadyRefunded:              fault.Conflict,
	sdk.ErrorCodeChargeDisputed:                     fault.Conflict,
	sdk.ErrorCodeRefundDisputedPayment:              fault.Conflict,
	sdk.ErrorCodeChargeExpiredForCapture:            fault.Conflict,
	sdk.ErrorCodeCaptureChargeAuthorizationExpired:  fault.Conflict,
	sdk.ErrorCodeCaptureUnauthorizedPayment:         fault.Conflict,
	sdk.ErrorCodeStatusTransitionInvalid:            fault.Conflict,
	sdk.ErrorCodeChargeNotRefundable:                fault.Rejected,
	sdk.ErrorCodeCustomerMaxPaymentMethods:          fault.Rejected,
	sdk.ErrorCodeBalanceInsufficient:                fault.Exhausted, // for a refund
	sdk.ErrorCodeProgressiveOnboardingLimitExceeded: fault.Exhausted,
	// Two requests at once. lock_timeout did nothing ("Rate limits", object lock
	// timeouts); under a key in use the first request still runs.
	sdk.ErrorCodeRateLimit:           fault.RateLimited,
	sdk.ErrorCodeLockTimeout:         fault.RateLimited,
	sdk.ErrorCodeIdempotencyKeyInUse: fault.Uncertain,
}

// statuses are those of docs.stripe.com/api/errors. All others are read by
// fault.FromStatus.
var statuses = map[int]fault.Kind{
	http.StatusPaymentRequired: fault.Rejected, // "The parameters were valid but the request failed"
	http.StatusNotFound:        fault.Denied,   // without a code: BaseURL leads elsewhere
	http.StatusConflict:        fault.Uncertain,
	// Something outside of Stripe failed, at a moment that isn't known.
	http.StatusFailedDependency: fault.Uncertain,
}

// Error is Stripe's refusal of a request. The SDK's own error is kept out of
// reach: it prints client secrets and what is known of the customer.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Type is the kind of error by Stripe's words, such as "invalid_request_error";
	// empty where the answer can't be read.
	Type string
	// Code and DeclineCode are Stripe's, such as "card_declined" and
	// "insufficient_funds"; often empty.
	Code, DeclineCode string
	// Param is the parameter that the error is about.
	Param string
	// Message is Stripe's text for developers, without anything private.
	Message string

	decline *payment.Decline
	intent  func() *sdk.PaymentIntent // a function, so that an error that is printed doesn't show its secret
	setupID string
}

// Error is the status, Stripe's codes and its text.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("stripe: status " + strconv.Itoa(e.Status))
	for _, part := range []string{e.Type, e.DeclineCode} {
		if part != "" {
			b.WriteString(", " + part)
		}
	}
	if e.Param != "" {
		b.WriteString(", parameter " + e.Param)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	return b.String()
}

func (e *Error) kind() fault.Kind {
	k, byCode := codes[sdk.ErrorCode(e.Code)]
	switch {
	case byCode && e.Code == string(sdk.ErrorCodeResourceMissing) && e.Status != http.StatusNotFound:
		return fault.Invalid // a parameter names it, not the path
	case k == fault.Unsupported && e.Param == "amount_to_capture":
		return fault.Invalid // more than is held
	case byCode && e.Status < http.StatusInternalServerError:
		return k
	case e.Type == string(sdk.ErrorTypeIdempotency):
		return fault.Conflict // the key's first request had other parameters, and may have acted
	case e.Type == string(sdk.ErrorTypeCard):
		return fault.Rejected
	}
	if k, ok := statuses[e.Status]; ok {
		return k
	}
	if e.Status >= http.StatusInternalServerError { // 501 included: no answer of the server's own trouble is proof that nothing was done
		return fault.Uncertain
	}
	return fault.FromStatus(e.Status)
}

// failure is the fault of a request that failed. A read has done nothing whatever
// became of it (RFC 9110, 9.2.1), so what is uncertain of a write is Unavailable.
func failure(err error, a answer, latch *fault.Latch, r request, key string) error {
	f := new(fault.Error)
	said, refused := errors.AsType[*sdk.Error](err)
	switch {
	case refused:
		f = refusal(said, a.status, append(r.private, key))
	case a.status == 0:
		f.Kind, f.Err = latch.Kind(), fmt.Errorf("stripe: %w", transport.WithoutURL(err))
	default:
		f.Kind, f.Err = unread(a.status), broken(a.status, err)
	}
	if f.Code == "" && a.status != 0 {
		f.Code = strconv.Itoa(a.status)
	}
	f.RequestID = word(a.header.Get("Request-Id"))
	if f.Kind == fault.RateLimited {
		f.RetryAfter = fault.RetryAfter(a.header, time.Now())
	}
	if !r.write && f.Kind == fault.Uncertain {
		f.Kind = fault.Unavailable
	}
	// Stripe says where the same key would only get the same failure again.
	f.Deduped = r.write && (f.Kind != fault.Uncertain || a.header.Get("Stripe-Should-Retry") != "false")
	return f
}

// unread is the kind of a status whose body tells nothing. A 400 or 402 may be about
// a step that was taken already.
func unread(status int) fault.Kind {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return fault.FromStatus(status)
	}
	return fault.Uncertain
}

// broken is the cause where an answer broke off or isn't Stripe's. stripe-go's own
// error may quote half of the body, so only those of the network are shown.
func broken(status int, err error) error {
	_, network := errors.AsType[net.Error](err)
	if !network && !errors.Is(err, context.Canceled) && !errors.Is(err, io.ErrUnexpectedEOF) {
		err = errUnreadable
	}
	return fmt.Errorf("stripe: status %d: %w", status, transport.WithoutURL(err))
}

func refusal(said *sdk.Error, status int, private []string) *fault.Error {
	if said.PaymentIntent != nil {
		private = append(private, said.PaymentIntent.ClientSecret)
	}
	if said.SetupIntent != nil {
		private = append(private, said.SetupIntent.ClientSecret)
	}
	cause := &Error{
		Status: status, Type: word(string(said.Type)), Code: word(string(said.Code)), DeclineCode: word(string(said.DeclineCode)),
		Param: word(said.Param), Message: text(said.Msg, private),
		decline: declineOf(said, status), intent: func() *sdk.PaymentIntent { return said.PaymentIntent },
	}
	if said.SetupIntent != nil {
		cause.setupID = said.SetupIntent.ID
	}
	f := fault.New(cause.kind(), cause)
	f.Code = cause.Code
	return f
}

const (
	maxWord = 128 // characters of a code, a parameter's name, an id
	maxText = 300 // characters of a message
)

// word is s, where it is one of those characters that codes and ids are of.
func word(s string) string {
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if len(s) > maxWord || strings.ContainsFunc(s, odd) || sensitive.MatchString(s) {
		return ""
	}
	return s
}

// sensitive is what no error shows: secrets of intents, keys, addresses, and digits
// that may be a card's or an account's.
var sensitive = regexp.MustCompile(`\S*_secret_\S*|\b(?:sk|rk|pk)_(?:live|test)_\S+|\bwhsec_\S+|\S+@\S+|\d(?:[ -]?\d){11,}`)

const redacted = "[redacted]"

// text is a line of at most maxText characters without what is private.
func text(s string, private []string) string {
	for _, p := range private {
		for _, written := range []string{p, url.QueryEscape(p), url.PathEscape(p)} {
			if p != "" {
				s = strings.ReplaceAll(s, written, redacted)
			}
		}
	}
	s = sensitive.ReplaceAllString(s, redacted)
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > maxText {
		s = string(runes[:maxText]) + "…"
	}
	return strings.TrimSpace(s)
}
