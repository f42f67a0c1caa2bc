package stripe

import (
	"fmt"
	"strings"
)

// exponents are those other than 2 (docs.stripe.com/currencies, zero-decimal and three-decimal currencies).
var exponents = map[string]int{
	"bif": 0, "clp": 0, "djf": 0, "gnf": 0, "jpy": 0, "kmf": 0, "krw": 0, "mga": 0, "pyg": 0, "rwf": 0, "vnd": 0,
	"vuv": 0, "xaf": 0, "xof": 0, "xpf": 0,
	"bhd": 3, "jod": 3, "kwd": 3, "omr": 3, "tnd": 3,
}

// minimums are in minor units (docs.stripe.com/currencies, Minimum and maximum charge amounts).
var minimums = map[string]int64{
	"usd": 50, "aed": 200, "ars": 50, "aud": 50, "bgn": 100, "brl": 50, "cad": 50, "chf": 50, "cop": 50, "czk": 1500, "dkk": 250,
	"eur": 50, "gbp": 30, "hkd": 400, "huf": 17500, "idr": 50, "ils": 50, "inr": 50, "jpy": 50, "krw": 50, "mxn": 1000,
	"myr": 200, "nok": 300, "nzd": 50, "php": 50, "pln": 200, "ron": 200, "rub": 50, "sek": 300, "sgd": 50, "thb": 1000, "zar": 50,
}

// maximum is eight digits, which every payment method takes (same place; docs.stripe.com/api/payment_intents/create,
// amount). Some card networks take more, which isn't simulated.
const maximum = 99_999_999

// maximums are those of other currencies (same place).
var maximums = map[string]int64{"idr": 999_999_999_999, "cop": 9_999_999_999, "inr": 999_999_999}

// supported are the currencies that can be presented (docs.stripe.com/currencies).
const supported = " usd aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd cad cdf" +
	" chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel gip gmd gnf gtq gyd hkd hnl hrk htg huf idr ils" +
	" inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk mnt mop mur mvr mwk mxn myr" +
	" mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf sar sbd scr sek sgd shp sle sos srd std" +
	" szl thb tjs tnd top try ttd twd tzs uah ugx uyu uzs vnd vuv wst xaf xcd xof xpf yer zar zmw "

func exponent(currency string) int {
	if e, ok := exponents[currency]; ok {
		return e
	}
	return 2
}

// checkAmount: docs.stripe.com/error-codes, amount_too_small and amount_too_large; docs.stripe.com/currencies for the
// last digit of three-decimal currencies, and for ISK and UGX, whose two decimals are always 00.
func checkAmount(amount int64, currency string) *problem {
	if !strings.Contains(supported, " "+currency+" ") {
		return malformed("Invalid currency: "+currency+". Stripe currently supports these currencies:"+supported, "currency")
	}
	lowest, highest := max(minimums[currency], 1), int64(maximum)
	if other, ok := maximums[currency]; ok {
		highest = other
	}
	switch {
	case amount < 1:
		return invalid("parameter_invalid_integer", "amount", "This value must be greater than or equal to 1.")
	case amount < lowest:
		return invalid("amount_too_small", "amount", "Amount must be at least %s %s", decimal(lowest, currency), currency)
	case amount > highest:
		return invalid("amount_too_large", "amount", "Amount must be no more than %s %s", decimal(highest, currency), currency)
	case exponent(currency) == 3 && amount%10 != 0:
		return malformed("Invalid amount: the last digit must be 0 in three-decimal currencies.", "amount")
	case (currency == "isk" || currency == "ugx") && amount%100 != 0:
		return malformed("Invalid amount: "+currency+" has no decimals, so the amount must be divisible by 100.", "amount")
	}
	return nil
}

// decimal prints minor units without their currency.
func decimal(amount int64, currency string) string {
	e := exponent(currency)
	digits := fmt.Sprintf("%0*d", e+1, amount)
	if e == 0 {
		return digits
	}
	return digits[:len(digits)-e] + "." + digits[len(digits)-e:]
}
