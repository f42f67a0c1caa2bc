package stripe

import (
	"fmt"
	"strings"

	sdk "github.com/stripe/stripe-go/v76"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

// units is how Stripe counts a currency.
type units struct {
	exponent int
	// step is what an amount must be a multiple of.
	step int64
	// lowest and highest bound a charge.
	lowest, highest int64
}

// currencies are those of docs.stripe.com/currencies, "Supported presentment
// currencies", but for STD, which ISO 4217 has no more.
var currencies = func() map[payment.Currency]units {
	all := map[payment.Currency]units{}
	add := func(codes string, u units) {
		for code := range strings.FieldsSeq(codes) {
			c := payment.Currency(code)
			u.lowest, u.highest = max(minimums[c], u.step), maximum
			if m, ok := maximums[c]; ok {
				u.highest = m
			}
			all[c] = u
		}
	}
	add(`USD AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BWP BYN BZD CAD CDF CHF CNY
		COP CRC CVE CZK DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR JMD KES
		KGS KHR KYD KZT LAK LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD
		PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SEK SGD SHP SLE SOS SRD SZL THB TJS TOP TRY TTD TWD TZS
		UAH UYU UZS WST XCD YER ZAR ZMW`, units{exponent: 2, step: 1})
	add("BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF", units{exponent: 0, step: 1}) // "Zero-decimal currencies"
	// "Special cases": two decimals that are always 00. The list of zero-decimal
	// currencies names UGX too, and the API refuses it so: "charged amounts must be
	// evenly divisible by 100".
	add("ISK UGX", units{exponent: 2, step: 100})
	add("BHD JOD KWD OMR TND", units{exponent: 3, step: 10}) // "Three-decimal currencies": the last digit is 0
	return all
}()

// minimums are those of docs.stripe.com/currencies, "Minimum and maximum charge
// amounts", in Stripe's units. They hold where the account settles in that currency;
// else the settlement currency's does, which isn't known here.
var minimums = map[payment.Currency]int64{
	"USD": 50, "AED": 200, "ARS": 50, "AUD": 50, "BGN": 100, "BRL": 50, "CAD": 50, "CHF": 50, "COP": 50, "CZK": 1500, "DKK": 250,
	"EUR": 50, "GBP": 30, "HKD": 400, "HUF": 17500, "IDR": 50, "ILS": 50, "INR": 50, "JPY": 50, "KRW": 50, "MXN": 1000,
	"MYR": 200, "NOK": 300, "NZD": 50, "PHP": 50, "PLN": 200, "RON": 200, "RUB": 50, "SEK": 300, "SGD": 50, "THB": 1000, "ZAR": 50,
}

// maximum is eight digits, which every payment method takes (same place; API
// reference, PaymentIntent, amount). Some cards take more.
const maximum = 99_999_999

// maximums are those of other currencies (same place, "Other payment methods").
var maximums = map[payment.Currency]int64{"IDR": 999_999_999_999, "COP": 9_999_999_999, "INR": 999_999_999}

// amount is m in Stripe's units, or an error of kind fault.Unsupported that names
// the field.
func amount(m payment.Money) (int64, error) {
	u, ok := currencies[m.Currency]
	if !ok {
		return 0, unsupported("amount.currency", "Stripe doesn't take %s", m.Currency)
	}
	n, err := m.In(u.exponent)
	if err == nil && n%u.step != 0 {
		err = payment.ErrInexact
	}
	if err != nil {
		return 0, unsupported("amount.minor", "Stripe takes fewer decimals of %s, and nothing is rounded", m.Currency)
	}
	return n, nil
}

// money is what Stripe's units are worth.
func money(n int64, c sdk.Currency) (payment.Money, error) {
	currency := payment.Currency(strings.ToUpper(string(c)))
	u, ok := currencies[currency]
	if !ok {
		return payment.Money{}, errUnreadable
	}
	return payment.MoneyIn(n, u.exponent, currency)
}

func unsupported(field, format string, args ...any) error {
	return fault.New(fault.Unsupported, &payment.FieldError{Field: field, Problem: fmt.Sprintf(format, args...)})
}
