package ses

import (
	"context"
	"errors"
	"fmt"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/smilefactory/integrations/fault"
)

// kinds are the error codes that SES documents: first those of SendEmail (API
// reference, SendEmail, Errors), then those common to all actions (Common
// Errors). The rest is [fault.FromStatus].
var kinds = map[string]fault.Kind{
	"AccountSuspendedException":          fault.Denied,
	"BadRequestException":                fault.Invalid,
	"LimitExceededException":             fault.Exhausted,
	"MailFromDomainNotVerifiedException": fault.Denied,
	"MessageRejected":                    fault.Rejected,
	"NotFoundException":                  fault.NotFound,
	"SendingPausedException":             fault.Denied,
	"TooManyRequestsException":           fault.RateLimited,

	"AccessDeniedException":               fault.Denied,
	"ExpiredTokenException":               fault.Denied,
	"IncompleteSignature":                 fault.Denied,
	"InternalFailure":                     fault.Uncertain,
	"InternalServiceErrorException":       fault.Uncertain,
	"InvalidClientTokenId":                fault.Denied,
	"InvalidSignatureException":           fault.Denied,
	"MissingAuthenticationTokenException": fault.Denied,
	"NotAuthorized":                       fault.Denied,
	"OptInRequired":                       fault.Denied,
	"RequestExpired":                      fault.Denied,
	"ServiceUnavailable":                  fault.Uncertain,
	"SignatureDoesNotMatch":               fault.Denied,
	"ThrottlingException":                 fault.RateLimited,
	"UnrecognizedClientException":         fault.Denied,
	"ValidationError":                     fault.Invalid,
}

func sendFault(err error, latch *fault.Latch) *fault.Error {
	f := &fault.Error{Kind: latch.Kind()}
	response, answered := errors.AsType[*awshttp.ResponseError](err)
	if answered && response.Response != nil && response.HTTPStatusCode() > 299 {
		f.Kind = fault.FromStatus(response.HTTPStatusCode())
		f.RequestID = response.ServiceRequestID()
		f.RetryAfter = fault.RetryAfter(response.Response.Header, time.Now())
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		f.Code = api.ErrorCode()
		if kind, ok := kinds[f.Code]; ok {
			f.Kind = kind
		}
		f.Err = vendorError{api}
		return f
	}
	if !answered && latch.Untouched() {
		f.Kind = fault.Unavailable // nothing was sent
		if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			f.Kind = fault.Denied // credentials or region could not be had
		}
	}
	f.Err = fmt.Errorf("ses: %w", err)
	return f
}

// vendorError shows the code alone: SES's messages quote addresses.
type vendorError struct{ smithy.APIError }

func (e vendorError) Error() string { return "ses: " + e.ErrorCode() }

func (e vendorError) Unwrap() error { return e.APIError }
