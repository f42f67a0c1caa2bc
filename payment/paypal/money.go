package paypal

import (
	"strings"

	"github.com/smilefactory/integrations/payment"
)

// decimals are the currencies that PayPal takes, with their decimals (PayPal's page
// "Currency codes"; of HUF, JPY and TWD decimals "cause an error").
var decimals = map[payment.Currency]int{
	"AUD": 2, "BRL": 2, "CAD": 2, "CHF": 2, "CNY": 2, "CZK": 2, "DKK": 2, "EUR": 2, "GBP": 2, "HKD": 2, "HUF": 0, "ILS": 2,
	"JPY": 0, "MXN": 2, "MYR": 2, "NOK": 2, "NZD": 2, "PHP": 2, "PLN": 2, "SEK": 2, "SGD": 2, "THB": 2, "TWD": 0, "USD": 2,
}

// maxUnits is the largest amount in whole units (issue MAX_VALUE_EXCEEDED:
// 999999999999999.99).
const maxUnits = 999_999_999_999_999

// money is an amount at PayPal (Orders v2 specification, schema money).
type money struct {
	Currency payment.Currency `json:"currency_code"`
	Value    string           `json:"value"`
}

// moneyOf writes an amount of which CanTake found that it can be written.
func moneyOf(m payment.Money) money {
	return money{m.Currency, m.Decimal(decimals[m.Currency])}
}

// payable says what is wrong with an amount for PayPal, empty where nothing is.
func payable(m payment.Money) (field, problem string) {
	n, known := decimals[m.Currency]
	if !known {
		return "amount.currency", "isn't one that PayPal takes"
	}
	units, err := m.In(n)
	if err != nil {
		return "amount.minor", "has decimals, which PayPal doesn't take of " + string(m.Currency)
	}
	for ; n > 0; n-- {
		units /= 10
	}
	if m.Minor <= 0 || units > maxUnits {
		return "amount.minor", "must be positive, and at most 999999999999999.99"
	}
	return "", ""
}

// read is the amount; ok is false where it isn't one.
func (m money) read() (payment.Money, bool) {
	value, c := m.Value, m.Currency
	if strings.HasPrefix(value, ".") { // the specification's pattern lets it through
		value = "0" + value
	}
	out, err := payment.ParseMoney(value, c)
	return out, err == nil
}
