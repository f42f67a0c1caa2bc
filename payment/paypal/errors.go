package paypal

import (
	"cmp"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/smilefactory/integrations/fault"
)

// kinds of PayPal's issues: Orders v2, Payments v2 and Payment Method Tokens v3
// specifications, schemas 400 to 422 of the operations; an issue of another page
// names it. One that isn't here, nor a decline, is read by its status.
var kinds = map[string]fault.Kind{
	// Another request under the same id, or on the same thing, is under way: it may
	// act yet. It is safe to ask again here, and nowhere else.
	"PREVIOUS_REQUEST_IN_PROGRESS": fault.Uncertain,
	"ORDER_COMPLETION_IN_PROGRESS": fault.Uncertain,
	"RESOURCE_CONFLICT":            fault.Uncertain,

	// The id was used for another request (pages of Payment Method Tokens v3 and
	// Payments v1 errors).
	"PAYPAL_REQUEST_ID_PREVIOUSLY_USED": fault.Conflict,
	"DUPLICATE_REQUEST_ID":              fault.Conflict,

	// The state of the thing forbids it.
	"DUPLICATE_INVOICE_ID":              fault.Conflict,
	"ORDER_ALREADY_CAPTURED":            fault.Conflict,
	"ORDER_ALREADY_AUTHORIZED":          fault.Conflict,
	"ORDER_ALREADY_COMPLETED":           fault.Conflict,
	"ORDER_COMPLETED_OR_VOIDED":         fault.Conflict,
	"ORDER_EXPIRED":                     fault.Conflict,
	"ORDER_NOT_APPROVED":                fault.Conflict,
	"PAYER_ACTION_REQUIRED":             fault.Conflict,
	"MAX_AUTHORIZATION_COUNT_EXCEEDED":  fault.Conflict,
	"ACTION_DOES_NOT_MATCH_INTENT":      fault.Conflict,
	"AUTHORIZATION_ALREADY_CAPTURED":    fault.Conflict,
	"AUTHORIZATION_VOIDED":              fault.Conflict,
	"AUTHORIZATION_EXPIRED":             fault.Conflict,
	"AUTHORIZATION_DENIED":              fault.Conflict,
	"MAX_CAPTURE_COUNT_EXCEEDED":        fault.Conflict,
	"MAX_CAPTURE_AMOUNT_EXCEEDED":       fault.Conflict,
	"AUTH_CAPTURE_CURRENCY_MISMATCH":    fault.Conflict,
	"PREVIOUSLY_VOIDED":                 fault.Conflict,
	"PREVIOUSLY_CAPTURED":               fault.Conflict,
	"CANNOT_BE_VOIDED":                  fault.Conflict,
	"CAPTURE_FULLY_REFUNDED":            fault.Conflict,
	"REFUND_AMOUNT_EXCEEDED":            fault.Conflict,
	"REFUND_CAPTURE_CURRENCY_MISMATCH":  fault.Conflict,
	"CURRENCY_MISMATCH":                 fault.Conflict,
	"PENDING_CAPTURE":                   fault.Conflict,
	"PREFERRED_PAYMENT_SOURCE_MISMATCH": fault.Conflict,

	// Refunds that PayPal won't make.
	"REFUND_FAILED_INSUFFICIENT_FUNDS":       fault.Exhausted, // of the merchant
	"REFUND_NOT_ALLOWED":                     fault.Rejected,
	"REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK": fault.Rejected,
	"REFUND_TIME_LIMIT_EXCEEDED":             fault.Rejected,
	"REFUND_AMOUNT_TOO_LOW":                  fault.Rejected,
	"REFUND_IS_RESTRICTED":                   fault.Denied, // to the app that captured
	"PARTIAL_REFUND_NOT_ALLOWED":             fault.Rejected,
	"MAX_NUMBER_OF_REFUNDS_EXCEEDED":         fault.Rejected,
	"TRANSACTION_DISPUTED":                   fault.Rejected,

	// The merchant's account, or what it may do.
	"PAYEE_ACCOUNT_INVALID":                 fault.Denied,
	"PAYEE_ACCOUNT_LOCKED_OR_CLOSED":        fault.Denied,
	"PAYEE_ACCOUNT_RESTRICTED":              fault.Denied,
	"PAYEE_ACCOUNT_NOT_VERIFIED":            fault.Denied,
	"PAYEE_NOT_ENABLED_FOR_CARD_PROCESSING": fault.Denied,
	"NOT_ENABLED_FOR_CARD_PROCESSING":       fault.Denied,
	"NOT_ENABLED_TO_VAULT_PAYMENT_SOURCE":   fault.Denied,
	"NOT_ELIGIBLE_FOR_TOKEN_PROCESSING":     fault.Denied,
	"AUTH_CAPTURE_NOT_ENABLED":              fault.Denied,
	"CONSENT_NEEDED":                        fault.Denied,
	"PERMISSION_DENIED":                     fault.Denied,
	"INVALID_ACCOUNT_STATUS":                fault.Denied,
	"TRANSACTION_RECEIVING_LIMIT_EXCEEDED":  fault.Exhausted,

	// What was sent is wrong, though its form isn't.
	"MISMATCHED_VAULT_ID_TO_PAYMENT_SOURCE": fault.Invalid,
	"RETURN_URL_REQUIRED":                   fault.Invalid,
	"CANCEL_URL_REQUIRED":                   fault.Invalid,
	"DECIMAL_PRECISION":                     fault.Invalid,
	"DECIMALS_NOT_SUPPORTED":                fault.Invalid,
	"CANNOT_BE_ZERO_OR_NEGATIVE":            fault.Invalid,
	"CANNOT_BE_NEGATIVE":                    fault.Invalid,
	"MAX_VALUE_EXCEEDED":                    fault.Invalid,
	"INVALID_CURRENCY_CODE":                 fault.Unsupported, // another may take it
	"CURRENCY_NOT_SUPPORTED":                fault.Unsupported,

	"INVALID_RESOURCE_ID": fault.NotFound,
}

// Error is PayPal's answer where it isn't one of success. It holds nothing of the
// payer: PayPal's texts, which may quote the request, are left out.
type Error struct {
	// Op is what was asked for.
	Op string
	// Status is the HTTP status.
	Status int
	// Name is PayPal's class of error, such as "UNPROCESSABLE_ENTITY"; empty where the
	// answer has none.
	Name string
	// Issue is the first of PayPal's causes, such as "INSTRUMENT_DECLINED", and Field
	// what it is about, a JSON pointer into the request; each may be empty.
	Issue, Field string

	link string // where the customer is to go
}

// Error is the operation, the status and PayPal's codes.
func (e *Error) Error() string {
	out := []string{"paypal: " + e.Op + ": status " + strconv.Itoa(e.Status)}
	for _, part := range []string{cmp.Or(e.Name, http.StatusText(e.Status)), e.Issue, e.Field} {
		if part != "" {
			out = append(out, part)
		}
	}
	return strings.Join(out, ", ")
}

func (e *Error) code() string { return cmp.Or(e.Issue, e.Name, strconv.Itoa(e.Status)) }

// foreign reports whether the answer is of something before PayPal, whose own names
// the error: its 400 and 404 say nothing of the payment.
func (e *Error) foreign() bool {
	return e.Name == "" && e.Issue == "" && e.Status != http.StatusTooManyRequests
}

// kind of an answer that isn't one of success. No 5xx, 501 included, is proof that
// nothing was done. A 409 or 422 whose cause can't be read may say that it was done
// already.
func (e *Error) kind() fault.Kind {
	unclear := e.Status == http.StatusConflict || e.Status == http.StatusUnprocessableEntity && e.Issue == "" || e.foreign()
	switch {
	case e.Status >= 500 || e.Status < 400:
		return fault.Uncertain
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		return fault.Denied
	}
	for _, word := range []string{e.Issue, e.Name} {
		if k, ok := kinds[word]; ok {
			return k
		}
	}
	switch {
	case unclear:
		return fault.Uncertain
	case e.Status == http.StatusUnprocessableEntity: // a decline, or an issue newer than this table
		return fault.Rejected
	}
	return fault.FromStatus(e.Status)
}

// refusal is the fault of an answer.
func refusal(op string, a *answer) *fault.Error {
	var said struct {
		Name    string `json:"name"`
		Details []struct {
			Issue string `json:"issue"`
			Field string `json:"field"`
		} `json:"details"`
		Links links `json:"links"`
	}
	_ = json.Unmarshal(a.body, &said) // what can't be read only costs the codes
	cause := &Error{Op: op, Status: a.status, Name: name(said.Name), link: said.Links.approval()}
	if len(said.Details) > 0 {
		cause.Issue, cause.Field = name(said.Details[0].Issue), pointer(said.Details[0].Field)
	}
	f := fault.New(cause.kind(), cause)
	f.Code, f.RequestID = cause.code(), debugID(a.header)
	if f.Kind == fault.RateLimited {
		f.RetryAfter = fault.RetryAfter(a.header, time.Now())
	}
	return f
}

// issue is PayPal's cause of an error, empty where it is none of PayPal's.
func issue(err error) string {
	if f, ok := fault.As(err); ok {
		if e, ok := f.Err.(*Error); ok { //nolint:errorlint // it is made here, and not wrapped
			return e.Issue
		}
	}
	return ""
}

var (
	words    = regexp.MustCompile(`^[A-Za-z0-9_]{1,80}$`)
	pointers = regexp.MustCompile(`^[A-Za-z0-9_/@='.\-]{1,120}$`)
	ids      = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

// name, pointer and debugID let through what has the form of one.
func name(s string) string    { return only(words, s) }
func pointer(s string) string { return only(pointers, s) }
func debugID(h http.Header) string {
	return only(ids, h.Get("Paypal-Debug-Id")) // page "API responses"
}

func only(form *regexp.Regexp, s string) string {
	if s = strings.TrimSpace(s); form.MatchString(s) {
		return s
	}
	return ""
}
