package stripe

import (
	"net/http"
	"strings"

	sdk "github.com/stripe/stripe-go/v76"

	"github.com/smilefactory/integrations/payment"
)

// declines are the decline codes of docs.stripe.com/declines/codes, and those error
// codes of docs.stripe.com/error-codes that are about what the customer pays with.
var declines = map[string]payment.DeclineReason{
	"authentication_required":               payment.AuthenticationFault,
	"approve_with_id":                       payment.TryAgainLater, // "can't be authorized … attempt again"
	"call_issuer":                           payment.Generic,
	"card_not_supported":                    payment.MethodUnsupported,
	"card_velocity_exceeded":                payment.LimitExceeded,
	"currency_not_supported":                payment.MethodUnsupported,
	"do_not_honor":                          payment.Generic,
	"do_not_try_again":                      payment.Generic,
	"duplicate_transaction":                 payment.Generic,
	"expired_card":                          payment.ExpiredMethod,
	"fraudulent":                            payment.FraudSuspected,
	"generic_decline":                       payment.Generic,
	"highest_risk_level":                    payment.FraudSuspected, // a charge's outcome.reason
	"incorrect_number":                      payment.IncorrectNumber,
	"incorrect_cvc":                         payment.IncorrectCVC,
	"incorrect_pin":                         payment.AuthenticationFault,
	"incorrect_zip":                         payment.IncorrectAddress,
	"incorrect_address":                     payment.IncorrectAddress,
	"insufficient_funds":                    payment.InsufficientFunds,
	"invalid_account":                       payment.MethodInvalid,
	"invalid_amount":                        payment.LimitExceeded, // "exceeds the amount that is allowed"
	"invalid_cvc":                           payment.IncorrectCVC,
	"invalid_expiry_month":                  payment.ExpiredMethod,
	"invalid_expiry_year":                   payment.ExpiredMethod,
	"invalid_number":                        payment.IncorrectNumber,
	"invalid_pin":                           payment.AuthenticationFault,
	"issuer_not_available":                  payment.TryAgainLater,
	"lost_card":                             payment.LostOrStolen,
	"merchant_blacklist":                    payment.FraudSuspected, // Radar's block list
	"mobile_device_authentication_required": payment.AuthenticationFault,
	"new_account_information_available":     payment.MethodInvalid,
	"no_action_taken":                       payment.Generic,
	"not_permitted":                         payment.MethodUnsupported,
	"offline_pin_required":                  payment.AuthenticationFault,
	"online_or_offline_pin_required":        payment.AuthenticationFault,
	"pickup_card":                           payment.LostOrStolen, // "may have been reported lost or stolen"
	"pin_try_exceeded":                      payment.LimitExceeded,
	"processing_error":                      payment.ProcessingFault,
	"reenter_transaction":                   payment.TryAgainLater,
	"restricted_card":                       payment.LostOrStolen, // as pickup_card
	"revocation_of_all_authorizations":      payment.MethodInvalid,
	"revocation_of_authorization":           payment.MethodInvalid,
	"security_violation":                    payment.FraudSuspected,
	"service_not_allowed":                   payment.MethodUnsupported,
	"stolen_card":                           payment.LostOrStolen,
	"stop_payment_order":                    payment.MethodInvalid,
	"testmode_decline":                      payment.MethodInvalid,
	"transaction_not_allowed":               payment.MethodUnsupported,
	"try_again_later":                       payment.TryAgainLater,
	"withdrawal_count_limit_exceeded":       payment.LimitExceeded,

	// Error codes, of a card_error or of the last attempt to pay.
	"card_declined":                                       payment.Generic,
	"card_decline_rate_limit_exceeded":                    payment.LimitExceeded,
	"account_closed":                                      payment.MethodInvalid,
	"bank_account_declined":                               payment.Generic,
	"bank_account_restricted":                             payment.MethodInvalid,
	"bank_account_unusable":                               payment.MethodInvalid,
	"charge_exceeds_source_limit":                         payment.LimitExceeded,
	"charge_exceeds_transaction_limit":                    payment.LimitExceeded,
	"charge_exceeds_weekly_limit":                         payment.LimitExceeded,
	"debit_not_authorized":                                payment.MethodInvalid,
	"billing_invalid_mandate":                             payment.MethodInvalid,
	"invalid_card_type":                                   payment.MethodUnsupported,
	"no_account":                                          payment.MethodInvalid,
	"refer_to_customer":                                   payment.MethodInvalid, // "stopped the payment … with the bank"
	"payment_intent_authentication_failure":               payment.AuthenticationFault,
	"setup_intent_authentication_failure":                 payment.AuthenticationFault,
	"payment_intent_incompatible_payment_method":          payment.MethodUnsupported,
	"payment_intent_konbini_rejected_confirmation_number": payment.MethodInvalid,
	"payment_intent_mandate_invalid":                      payment.MethodInvalid,
	"setup_intent_mandate_invalid":                        payment.MethodInvalid,
	"payment_intent_payment_attempt_expired":              payment.CustomerGaveUp,
	"payment_intent_payment_attempt_failed":               payment.Generic,
	"setup_attempt_failed":                                payment.Generic,
	"setup_intent_setup_attempt_expired":                  payment.CustomerGaveUp,
	"payment_method_customer_decline":                     payment.CustomerGaveUp,
	"payment_method_provider_decline":                     payment.Generic,
	"payment_method_provider_timeout":                     payment.TryAgainLater,
	"payment_method_currency_mismatch":                    payment.MethodUnsupported,
	"payment_method_not_available":                        payment.TryAgainLater,
	"payment_method_bank_account_blocked":                 payment.MethodInvalid,
	"payment_method_microdeposit_failed":                  payment.MethodInvalid,
	"token_already_used":                                  payment.MethodInvalid,
	"token_in_use":                                        payment.TryAgainLater,
	"payment_method_unexpected_state":                     payment.MethodInvalid,
	methodGone:                                            payment.MethodInvalid,
}

// methodGone stands for a payment method that Stripe doesn't have (any more).
const methodGone = "payment_method_missing"

// usedUp are the codes of a 400 that is about the method, not about the request:
// it was used, or detached from its customer.
var usedUp = map[sdk.ErrorCode]bool{
	sdk.ErrorCodeTokenAlreadyUsed:             true,
	sdk.ErrorCodePaymentMethodUnexpectedState: true,
}

// usedBefore is how Stripe says without a code that a method which belongs to no
// customer has paid already, or was detached.
const usedBefore = "It may not be used again."

// declineOf is what the refusal of a request says of the method; nil where it is
// about something else.
func declineOf(e *sdk.Error, status int) *payment.Decline {
	_, known := declines[string(e.Code)]
	switch {
	case e.Type == sdk.ErrorTypeCard, status == http.StatusPaymentRequired && known, usedUp[e.Code]:
		return declined(e)
	case e.Code == sdk.ErrorCodeResourceMissing && e.Param == "payment_method", strings.Contains(e.Msg, usedBefore):
		return payment.NewDecline(payment.MethodInvalid, methodGone)
	}
	return nil
}

// declined is the decline of an attempt to pay, by the most exact code that is
// known. Stripe names authentication_required in either place.
func declined(e *sdk.Error) *payment.Decline {
	for _, code := range []string{string(e.DeclineCode), string(e.Code)} {
		if reason, ok := declines[code]; ok && code != string(sdk.ErrorCodeCardDeclined) {
			return payment.NewDecline(reason, code)
		}
	}
	code := string(e.DeclineCode)
	if code == "" {
		code = string(e.Code)
	}
	return payment.NewDecline(payment.Generic, word(code))
}
