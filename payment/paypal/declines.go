package paypal

import (
	"cmp"

	"github.com/smilefactory/integrations/payment"
)

// declines are the issues of capture and authorize that mean that the way to pay was
// refused (Orders v2 specification, schemas 422 of both, and Payments v2
// specification of authorizations.capture). Nothing moved.
var declines = map[string]payment.DeclineReason{
	"INSTRUMENT_DECLINED":                     payment.Generic,
	"TRANSACTION_REFUSED":                     payment.Generic,
	"COMPLIANCE_VIOLATION":                    payment.Generic,
	"DECLINED_DUE_TO_RELATED_TXN":             payment.Generic,
	"PAYMENT_SOURCE_DECLINED_BY_PROCESSOR":    payment.Generic,
	"REDIRECT_PAYER_FOR_ALTERNATE_FUNDING":    payment.Generic,
	"MAX_NUMBER_OF_PAYMENT_ATTEMPTS_EXCEEDED": payment.Generic,
	"TRANSACTION_BLOCKED_BY_PAYEE":            payment.FraudSuspected, // the merchant's own filters
	"PAYEE_BLOCKED_TRANSACTION":               payment.FraudSuspected,
	"CARD_EXPIRED":                            payment.ExpiredMethod,
	"REFERENCED_CARD_EXPIRED":                 payment.ExpiredMethod,
	"TOKEN_EXPIRED":                           payment.MethodInvalid,
	"TOKEN_ID_NOT_FOUND":                      payment.MethodInvalid, // the customer can remove it at PayPal
	"AGREEMENT_ALREADY_CANCELLED":             payment.MethodInvalid,
	"BILLING_AGREEMENT_NOT_FOUND":             payment.MethodInvalid,
	"PAYER_ACCOUNT_RESTRICTED":                payment.MethodInvalid,
	"PAYER_ACCOUNT_LOCKED_OR_CLOSED":          payment.MethodInvalid,
	"PAYER_CANNOT_PAY":                        payment.MethodUnsupported,
	"PAYMENT_SOURCE_CANNOT_BE_USED":           payment.MethodUnsupported,
	"CARD_BRAND_NOT_SUPPORTED":                payment.MethodUnsupported,
	"CARD_TYPE_NOT_SUPPORTED":                 payment.MethodUnsupported,
	"CURRENCY_NOT_SUPPORTED_FOR_CARD_TYPE":    payment.MethodUnsupported,
	"DOMESTIC_TRANSACTION_REQUIRED":           payment.MethodUnsupported,
	"TRANSACTION_LIMIT_EXCEEDED":              payment.LimitExceeded,
	"PAYMENT_SOURCE_INFO_CANNOT_BE_VERIFIED":  payment.IncorrectAddress,
	"BILLING_ADDRESS_INVALID":                 payment.IncorrectAddress,
}

// responses are the processors' codes (Payments v2 specification,
// processor_response.response_code; what they mean: PayPal Server SDK reference,
// "Processor Response Code"). Those that aren't here say no more than "declined".
var responses = map[string]payment.DeclineReason{
	"00N7": payment.IncorrectCVC,
	"0390": payment.IncorrectNumber, // account not found
	"0580": payment.MethodInvalid,   // unauthorized
	"0800": payment.ProcessingFault,
	"0880": payment.ProcessingFault,
	"0960": payment.ProcessingFault,
	"0R00": payment.MethodInvalid, // the payer stopped it
	"1330": payment.IncorrectNumber,
	"1335": payment.MethodInvalid, // account not good for recurring payments
	"1352": payment.MethodInvalid, // restricted or inactive account
	"1380": payment.ExpiredMethod, // invalid expiration
	"1382": payment.IncorrectCVC,
	"5110": payment.IncorrectCVC,
	"5120": payment.InsufficientFunds,
	"5135": payment.LimitExceeded, // of PIN tries
	"5140": payment.MethodInvalid, // card closed
	"5150": payment.LostOrStolen,  // pick up card
	"5160": payment.MethodInvalid,
	"5170": payment.IncorrectAddress,
	"5180": payment.MethodInvalid,
	"5190": payment.IncorrectAddress,
	"5400": payment.ExpiredMethod,
	"5650": payment.AuthenticationFault, // strong customer authentication required
	"5700": payment.MethodUnsupported,   // not permitted
	"5710": payment.LimitExceeded,
	"5910": payment.ProcessingFault,
	"5920": payment.TryAgainLater,
	"5930": payment.MethodInvalid, // card not activated
	"5950": payment.MethodInvalid, // account was updated
	"6300": payment.MethodInvalid, // account not on file
	"7700": payment.AuthenticationFault,
	"7710": payment.AuthenticationFault,
	"8000": payment.ProcessingFault,
	"8100": payment.ProcessingFault,
	"8110": payment.TryAgainLater,
	"8220": payment.TryAgainLater,
	"9100": payment.TryAgainLater,
	"9500": payment.FraudSuspected,
	"9510": payment.FraudSuspected, // security violation
	"9520": payment.LostOrStolen,
	"9530": payment.Generic,
}

// declined is the decline of a capture or an authorization; the processor's code says
// more than PayPal's reason, and that more than the status.
func declined(code, reason, status string) *payment.Decline {
	return payment.NewDecline(responses[code], cmp.Or(name(code), name(reason), status))
}
