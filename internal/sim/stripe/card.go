package stripe

import "strings"

// authentication says when a card's issuer wants the customer (docs.stripe.com/testing, Authentication and setup).
type authentication int

const (
	neverAsks     authentication = iota
	alwaysAsks                   // on and off session, set up or not
	asksUnlessSet                // on session always, off session unless it was set up
	asksOnSession                // on session only: it's already set up
	asksAndBreaks                // authentication is required, and fails with a processing error
)

// decline is what a charge ends in (docs.stripe.com/testing, Declined payments; docs.stripe.com/declines/codes).
type decline struct {
	code, declineCode, param, advice, message string
	blocked                                   bool // by Radar, before the issuer was asked
}

var (
	genericDecline    = &decline{code: "card_declined", declineCode: "generic_decline", advice: "try_again_later", message: "Your card was declined."}
	insufficientFunds = &decline{code: "card_declined", declineCode: "insufficient_funds", advice: "try_again_later", message: "Your card has insufficient funds."}
	lostCard          = &decline{code: "card_declined", declineCode: "lost_card", advice: "do_not_try_again", message: "Your card was declined."}
	stolenCard        = &decline{code: "card_declined", declineCode: "stolen_card", advice: "do_not_try_again", message: "Your card was declined."}
	fraudulent        = &decline{code: "card_declined", declineCode: "fraudulent", message: "Your card was declined."}
	radarBlock        = &decline{code: "card_declined", declineCode: "fraudulent", message: "Your card was declined.", blocked: true}
	velocity          = &decline{code: "card_declined", declineCode: "card_velocity_exceeded", message: "Your card was declined for making repeated attempts too frequently or exceeding its amount limit."}
	expiredCard       = &decline{code: "expired_card", declineCode: "expired_card", param: "exp_month", advice: "confirm_card_data", message: "Your card has expired."}
	incorrectCVC      = &decline{code: "incorrect_cvc", declineCode: "incorrect_cvc", param: "cvc", advice: "confirm_card_data", message: "Your card's security code is incorrect."}
	processingError   = &decline{code: "processing_error", declineCode: "processing_error", advice: "try_again_later", message: "An error occurred while processing your card. Try again in a little bit."}
	needsCustomer     = &decline{code: "authentication_required", declineCode: "authentication_required", message: "Your card was declined. This transaction requires authentication."}
	bankRefused       = &decline{code: "payment_method_customer_decline", message: "The bank account has insufficient funds to complete the purchase."}
)

// card is a test payment method.
type card struct {
	brand, last4 string
	funding      string // "" is credit
	decline      *decline
	attaches     bool // it declines charges alone, and can be attached or set up
	asks         authentication
	refunds      string // "" is succeeded
	bank         bool   // us_bank_account, which takes days: processing until [Sim.Settle]
}

// cards are the test payment methods that docs.stripe.com/testing names, with their spellings of before 2023. The bank
// accounts are those of docs.stripe.com/payments/ach-direct-debit/accept-a-payment, Test your integration.
var cards = map[string]card{
	"pm_card_visa":               {brand: "visa", last4: "4242"},
	"pm_card_visa_debit":         {brand: "visa", last4: "5556", funding: "debit"},
	"pm_card_mastercard":         {brand: "mastercard", last4: "4444"},
	"pm_card_mastercard_debit":   {brand: "mastercard", last4: "8210", funding: "debit"},
	"pm_card_mastercard_prepaid": {brand: "mastercard", last4: "5100", funding: "prepaid"},
	"pm_card_amex":               {brand: "amex", last4: "8431"},
	"pm_card_discover":           {brand: "discover", last4: "9424"},
	"pm_card_diners":             {brand: "diners", last4: "0004"},
	"pm_card_jcb":                {brand: "jcb", last4: "0505"},
	"pm_card_unionpay":           {brand: "unionpay", last4: "0005"},

	"pm_card_visa_chargeDeclined":                      {brand: "visa", last4: "0002", decline: genericDecline},
	"pm_card_visa_chargeDeclinedInsufficientFunds":     {brand: "visa", last4: "9995", decline: insufficientFunds},
	"pm_card_visa_chargeDeclinedLostCard":              {brand: "visa", last4: "9987", decline: lostCard},
	"pm_card_visa_chargeDeclinedStolenCard":            {brand: "visa", last4: "9979", decline: stolenCard},
	"pm_card_visa_chargeDeclinedVelocityLimitExceeded": {brand: "visa", last4: "6975", decline: velocity},
	"pm_card_chargeDeclinedExpiredCard":                {brand: "visa", last4: "0069", decline: expiredCard},
	"pm_card_chargeDeclinedIncorrectCvc":               {brand: "visa", last4: "0127", decline: incorrectCVC},
	"pm_card_chargeDeclinedProcessingError":            {brand: "visa", last4: "0119", decline: processingError},
	"pm_card_chargeDeclinedFraudulent":                 {brand: "visa", last4: "0019", decline: fraudulent},
	"pm_card_radarBlock":                               {brand: "visa", last4: "0019", decline: radarBlock},
	"pm_card_chargeCustomerFail":                       {brand: "visa", last4: "0341", decline: genericDecline, attaches: true},

	"pm_card_authenticationRequired":                                {brand: "visa", last4: "3184", asks: alwaysAsks},
	"pm_card_authenticationRequiredOnSetup":                         {brand: "visa", last4: "3155", asks: asksUnlessSet},
	"pm_card_authenticationRequiredSetupForOffSession":              {brand: "visa", last4: "0446", asks: asksOnSession},
	"pm_card_authenticationRequiredChargeDeclinedInsufficientFunds": {brand: "visa", last4: "3178", asks: alwaysAsks, decline: insufficientFunds, attaches: true},
	"pm_card_threeDSecure2Required":                                 {brand: "visa", last4: "3220", asks: alwaysAsks},
	"pm_card_threeDSecureRequired":                                  {brand: "visa", last4: "3063", asks: alwaysAsks},
	"pm_card_threeDSecureRequiredChargeDeclined":                    {brand: "visa", last4: "1629", asks: alwaysAsks, decline: genericDecline, attaches: true},
	"pm_card_threeDSecureRequiredProcessingError":                   {brand: "visa", last4: "1280", asks: asksAndBreaks},
	"pm_card_threeDSecureOptional":                                  {brand: "visa", last4: "3055"},
	"pm_card_amex_threeDSecureNotSupported":                         {brand: "amex", last4: "0005"},

	"pm_card_pendingRefund": {brand: "visa", last4: "7726", refunds: "pending"},
	"pm_card_refundFail":    {brand: "visa", last4: "5126"}, // succeeded at first; see [Sim.SettleRefund]

	"pm_usBankAccount_success":           {last4: "6789", bank: true},
	"pm_usBankAccount_processing":        {last4: "0009", bank: true},
	"pm_usBankAccount_insufficientFunds": {last4: "2227", bank: true},
}

// cardNamed takes the older names too, which lack the brand.
func cardNamed(name string) (card, bool) {
	if c, ok := cards[name]; ok {
		return c, true
	}
	if rest, ok := strings.CutPrefix(name, "pm_card_chargeDeclined"); ok {
		c, known := cards["pm_card_visa_chargeDeclined"+rest]
		return c, known
	}
	return card{}, false
}

// asksNow reports whether a payment needs the customer.
func (c card) asksNow(offSession, setUp bool) bool {
	switch c.asks {
	case alwaysAsks, asksAndBreaks:
		return true
	case asksUnlessSet:
		return !offSession || !setUp
	case asksOnSession:
		return !offSession
	case neverAsks:
	}
	return false
}

func (d *decline) detail() detail {
	p := refused(d.code, d.param, "%s", d.message)
	p.Type, p.DeclineCode, p.AdviceCode = "card_error", d.declineCode, d.advice
	return p.detail
}
