package payment

// DeclineReason is a decline in normal words, the same for every provider.
type DeclineReason string

// The reasons.
const (
	InsufficientFunds   DeclineReason = "insufficient funds"
	ExpiredMethod       DeclineReason = "expired method"
	IncorrectCVC        DeclineReason = "incorrect cvc"
	IncorrectNumber     DeclineReason = "incorrect number"
	IncorrectAddress    DeclineReason = "incorrect address"
	FraudSuspected      DeclineReason = "fraud suspected"
	LostOrStolen        DeclineReason = "lost or stolen"
	LimitExceeded       DeclineReason = "limit exceeded"
	MethodUnsupported   DeclineReason = "method unsupported"
	AuthenticationFault DeclineReason = "authentication failed"
	ProcessingFault     DeclineReason = "processing error"
	TryAgainLater       DeclineReason = "try again later"
	MethodInvalid       DeclineReason = "method invalid"
	CustomerGaveUp      DeclineReason = "customer gave up"
	Generic             DeclineReason = "declined"
)

// messages may be shown to a customer. A suspicion is never told: who is
// suspected is told that the bank declined (Stripe, "Decline codes").
var messages = map[DeclineReason]string{
	InsufficientFunds:   "There isn't enough money on this account. Please use another payment method.",
	ExpiredMethod:       "This card has expired. Please use another one.",
	IncorrectCVC:        "The security code is wrong. Please check it and try again.",
	IncorrectNumber:     "The card number is wrong. Please check it and try again.",
	IncorrectAddress:    "The billing address doesn't match the card. Please check it and try again.",
	FraudSuspected:      "The payment was declined. Please contact your bank, or use another payment method.",
	LostOrStolen:        "The payment was declined. Please contact your bank, or use another payment method.",
	LimitExceeded:       "The payment is over a limit of this account. Please contact your bank, or use another payment method.",
	MethodUnsupported:   "This payment method can't be used for this payment. Please use another one.",
	AuthenticationFault: "The payment could not be confirmed with your bank. Please try again, or use another payment method.",
	ProcessingFault:     "The payment could not be processed. Please try again in a moment.",
	TryAgainLater:       "The payment could not be processed. Please try again in a moment.",
	MethodInvalid:       "This payment method can't be used any more. Please use another one.",
	CustomerGaveUp:      "The payment was not completed.",
	Generic:             "The payment was declined. Please contact your bank, or use another payment method.",
}

// NewDecline is a decline for a reason, with the message for it. An unknown
// reason is [Generic].
func NewDecline(reason DeclineReason, code string) *Decline {
	message, ok := messages[reason]
	if !ok {
		reason, message = Generic, messages[Generic]
	}
	retryable := reason == ProcessingFault || reason == TryAgainLater || reason == InsufficientFunds
	return &Decline{Reason: reason, Code: code, Message: message, Retryable: retryable}
}
