package ses

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/internal/redact"
	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/transport"
)

// mailKinds are the errors of SES's own (API v2 reference, SendEmail, Errors, and
// the exceptions of the other operations). Their texts are shown.
var mailKinds = map[string]fault.Kind{
	"AccountSuspendedException":          fault.Denied,
	"BadRequestException":                fault.Invalid,
	"LimitExceededException":             fault.Exhausted,
	"MailFromDomainNotVerifiedException": fault.Denied,
	"MessageRejected":                    fault.Rejected, // see notVerified
	// No mail names a resource: it is the Sender's configuration set, or another
	// setting of the account, so that a backup may take the mail.
	"NotFoundException":        fault.Denied,
	"SendingPausedException":   fault.Denied,
	"TooManyRequestsException": fault.RateLimited, // see overQuota

	"AlreadyExistsException":          fault.Conflict,
	"ConcurrentModificationException": fault.Conflict,
	"ConflictException":               fault.Conflict,
	"InternalServiceErrorException":   fault.Uncertain,
	"InvalidNextTokenException":       fault.Invalid,
}

// commonKinds are the errors of all of AWS (API v2 reference, Common Errors, in
// its present and its former edition). Their texts may quote a signed request,
// its session token included, and aren't shown.
var commonKinds = map[string]fault.Kind{
	"AccessDeniedException":               fault.Denied,
	"ExpiredTokenException":               fault.Denied,
	"IncompleteSignature":                 fault.Denied,
	"InternalFailure":                     fault.Uncertain,
	"InvalidAction":                       fault.Denied, // the endpoint isn't SES's
	"InvalidClientTokenId":                fault.Denied,
	"InvalidParameterCombination":         fault.Invalid,
	"InvalidParameterValue":               fault.Invalid,
	"InvalidQueryParameter":               fault.Invalid,
	"InvalidSignatureException":           fault.Denied,
	"MalformedHttpRequestException":       fault.Unsupported, // of the request's form, not of the mail
	"MalformedQueryString":                fault.Unsupported,
	"MissingAction":                       fault.Denied,
	"MissingAuthenticationToken":          fault.Denied,
	"MissingAuthenticationTokenException": fault.Denied,
	"MissingParameter":                    fault.Invalid,
	"NotAuthorized":                       fault.Denied,
	"OptInRequired":                       fault.Denied,
	"RequestAbortedException":             fault.Uncertain,
	"RequestEntityTooLargeException":      fault.Unsupported, // another may take it
	"RequestTimeoutException":             fault.Uncertain,
	"SerializationException":              fault.Unsupported,
	"ServiceUnavailable":                  fault.Uncertain,
	"SignatureDoesNotMatch":               fault.Denied,
	"ThrottlingException":                 fault.RateLimited, // see overQuota
	"UnknownOperationException":           fault.Denied,
	"UnrecognizedClientException":         fault.Denied,
	"ValidationError":                     fault.Invalid,
	"ValidationException":                 fault.Invalid,
	// The request was refused for its time stamp. The SDK has corrected its clock
	// by this answer's Date, so that a repetition is right.
	"RequestExpired":       fault.Unavailable,
	"RequestTimeTooSkewed": fault.Unavailable,
}

// Beginnings of texts that change what a code means.
const (
	// notVerified is the text of a MessageRejected for the account's own settings:
	// an unverified sender, or an account in the sandbox (developer guide, "Amazon
	// SES email sending errors").
	notVerified = "Email address is not verified"
	// overQuota is that of a throttling for the day (developer guide, "Errors
	// related to the sending quotas").
	overQuota = "Daily message quota exceeded"
)

// unsent is the fault of a request that was never made: no credentials could be had,
// or no endpoint is known. What another service said of credentials isn't SES's word.
func unsent(ctx context.Context, err error) *fault.Error {
	f := fault.New(fault.Denied, fmt.Errorf("ses: %w", transport.WithoutURL(err)))
	if ctx.Err() != nil {
		f.Kind = fault.Unavailable
	}
	return f
}

// failure is the fault of a request that was made.
func failure(m *email.Message, err error, latch *fault.Latch) *fault.Error {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return refusal(m, api, err)
	}
	f := fault.New(latch.Kind(), fmt.Errorf("ses: %w", transport.WithoutURL(err)))
	answered(f, err)
	return f
}

// refusal is the fault of an error that SES answered.
func refusal(m *email.Message, api smithy.APIError, err error) *fault.Error {
	f := fault.New(fault.Unknown, nil)
	answered(f, err)
	f.Code = api.ErrorCode()
	e := apiError{APIError: api}
	switch kind, mine := mailKinds[f.Code]; {
	case mine:
		f.Kind = kind
		e.text = redact.Text(api.ErrorMessage(), maxMessage, redact.Mail(m)...)
	case commonKinds[f.Code] != fault.Unknown:
		f.Kind = commonKinds[f.Code]
	}
	switch {
	case f.Code == "MessageRejected" && strings.HasPrefix(api.ErrorMessage(), notVerified):
		f.Kind = fault.Denied
	case f.Kind == fault.RateLimited && strings.HasPrefix(api.ErrorMessage(), overQuota):
		f.Kind = fault.Exhausted
	case f.Kind == fault.Denied && skewed(err):
		f.Kind = fault.Unavailable
	}
	f.Err = e
	return f
}

const maxMessage = 300 // characters of SES's text

// answered reads what an HTTP answer says by itself.
func answered(f *fault.Error, err error) {
	response, ok := errors.AsType[*awshttp.ResponseError](err)
	if !ok || response.Response == nil || response.Response.Response == nil {
		return
	}
	f.RequestID = redact.Line(response.ServiceRequestID(), 128)
	switch status := response.HTTPStatusCode(); {
	case status < 300: // the answer of a success that can't be read
		return
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed:
		f.Kind = fault.Denied // SES has the one path that is asked for: BaseURL or region leads elsewhere
	default:
		f.Kind = fault.FromStatus(status)
	}
	f.RetryAfter = fault.RetryAfter(response.Response.Header, time.Now())
}

// skewed reports whether the SDK lays the refusal of a signature to its own
// clock, which it has corrected by the answer's Date.
func skewed(err error) bool {
	e, ok := errors.AsType[interface {
		error
		RetryableError() bool
	}](err)
	return ok && e.RetryableError()
}

// apiError shows SES's text without anything of the mail.
type apiError struct {
	smithy.APIError
	text string
}

func (e apiError) Error() string {
	if e.text == "" {
		return "ses: " + e.ErrorCode()
	}
	return "ses: " + e.ErrorCode() + ": " + e.text
}

// Unwrap leads to SES's own error, whose text isn't cleaned.
func (e apiError) Unwrap() error { return e.APIError }
