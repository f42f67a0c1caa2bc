package paypal

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestAmountsAreWholeMinorUnits(t *testing.T) {
	for value, c := range map[string]struct {
		exponent int
		minor    int64
		issue    string
	}{
		"10": {2, 1000, ""}, "10.5": {2, 1050, ""}, "10.05": {2, 1005, ""}, ".05": {2, 5, ""}, "007": {2, 700, ""}, "0.00": {2, 0, ""},
		"100": {0, 100, ""}, "999999999999999.99": {2, 99999999999999999, ""},
		"1.005": {2, 0, "DECIMAL_PRECISION"}, "100.": {0, 0, "DECIMALS_NOT_SUPPORTED"}, "100.0": {0, 0, "DECIMALS_NOT_SUPPORTED"},
		"-1": {2, 0, "CANNOT_BE_ZERO_OR_NEGATIVE"}, "1000000000000000": {2, 0, "MAX_VALUE_EXCEEDED"}, "99999999999999999999": {0, 0, "MAX_VALUE_EXCEEDED"},
	} {
		minor, issue := minorUnits(value, c.exponent)
		assert.Equal(t, c.minor, minor, value)
		assert.Equal(t, c.issue, issue, value)
	}
}

func FuzzAnAmountComesBackAsItWas(f *testing.F) {
	for _, value := range []string{"10.00", ".5", "0", "-3", "999999999999999.99"} {
		f.Add(value)
	}
	form := amountValue.pattern
	f.Fuzz(func(t *testing.T, value string) {
		if !form.MatchString(value) || len(value) > amountValue.max {
			t.Skip()
		}
		for _, currency := range []string{"USD", "JPY"} {
			got, p := parse(object{"currency_code": currency, "value": value}, "", true)
			if p != nil {
				continue
			}
			again, p := parse(got.json(), "", true)
			if p != nil || again != got || got.minor < 0 {
				t.Errorf("%s %s became %v, and then %v", currency, value, got, again)
			}
		}
	})
}

func FuzzABodyIsDecodedOrRefused(f *testing.F) {
	f.Add([]byte(`{"intent":"CAPTURE","purchase_units":[{"amount":{"currency_code":"USD","value":"10.00"}}]}`))
	f.Add([]byte(`{"a~b/c":[null]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		v, p := decode(body, orderShape)
		if p != nil {
			return
		}
		o := &order{intent: text(v.(object), "intent")}
		if o.read(v.(object)) == nil && (len(o.units) == 0 || o.units[0].amount.minor <= 0) {
			t.Errorf("%s was taken without an amount", body)
		}
	})
}
