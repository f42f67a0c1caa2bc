package paypal

import (
	"math"
	"strconv"
	"strings"
)

// money is an amount in the currency's minor unit, which for HUF, JPY and TWD is the unit itself.
type money struct {
	currency string
	minor    int64
}

// exponents are the currencies that PayPal takes, with their decimals (PayPal's page "Currency codes": HUF, JPY and TWD
// take none, though HUF and TWD have minor units).
var exponents = map[string]int{
	"AUD": 2, "BRL": 2, "CAD": 2, "CNY": 2, "CZK": 2, "DKK": 2, "EUR": 2, "HKD": 2, "HUF": 0, "ILS": 2, "JPY": 0, "MYR": 2, "MXN": 2,
	"TWD": 0, "NZD": 2, "NOK": 2, "PHP": 2, "PLN": 2, "GBP": 2, "SGD": 2, "SEK": 2, "CHF": 2, "THB": 2, "USD": 2,
}

// maxValue is the largest amount in whole units (Orders v2 specification, MAX_VALUE_EXCEEDED).
const maxValue = 999_999_999_999_999

// parse reads an amount whose form was checked, of a field named by its JSON pointer. A zero is refused unless zero.
func parse(amount object, field string, zero bool) (money, *problem) {
	currency, value := text(amount, "currency_code"), text(amount, "value")
	exponent, known := exponents[currency]
	if !known {
		return money{}, issueAt("INVALID_CURRENCY_CODE", field+"/currency_code")
	}
	minor, name := minorUnits(value, exponent)
	if name == "" && minor == 0 && !zero {
		name = "CANNOT_BE_ZERO_OR_NEGATIVE"
	}
	if name != "" {
		return money{}, issueAt(name, field+"/value")
	}
	return money{currency, minor}, nil
}

// minorUnits is the amount, or the issue that it has.
func minorUnits(value string, exponent int) (int64, string) {
	if strings.HasPrefix(value, "-") {
		return 0, "CANNOT_BE_ZERO_OR_NEGATIVE"
	}
	whole, fraction, dotted := strings.Cut(value, ".")
	switch {
	// Even ".00" is refused (Payments v2 specification, DECIMALS_NOT_SUPPORTED; Orders: the page "Troubleshooting Orders
	// API errors").
	case dotted && exponent == 0:
		return 0, "DECIMALS_NOT_SUPPORTED"
	case len(fraction) > exponent:
		return 0, "DECIMAL_PRECISION"
	}
	units, err := strconv.ParseInt("0"+whole, 10, 64)
	if err != nil || units > maxValue {
		return 0, "MAX_VALUE_EXCEEDED"
	}
	minor, err := strconv.ParseInt(strconv.FormatInt(units, 10)+fraction+strings.Repeat("0", exponent-len(fraction)), 10, 64)
	if err != nil {
		return 0, "MAX_VALUE_EXCEEDED"
	}
	return minor, ""
}

func (m money) value() string {
	exponent := exponents[m.currency]
	digits := strconv.FormatInt(m.minor, 10)
	if exponent == 0 {
		return digits
	}
	if missing := exponent + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	return digits[:len(digits)-exponent] + "." + digits[len(digits)-exponent:]
}

func (m money) json() object { return object{"currency_code": m.currency, "value": m.value()} }

// overLimit is the most that may be captured on an authorization: 115 % of it, and in USD no more than 75 USD over it
// (Payments v2 specification, MAX_CAPTURE_AMOUNT_EXCEEDED; page "Authorization and honor period").
func (m money) overLimit() int64 {
	limit := int64(math.MaxInt64)
	if m.minor <= limit/115 {
		limit = m.minor * 115 / 100
	}
	if m.currency == "USD" {
		limit = min(limit, m.minor+7500)
	}
	return limit
}
