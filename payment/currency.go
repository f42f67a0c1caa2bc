package payment

import "strings"

// Currency is an ISO 4217 code in capitals, such as "USD".
type Currency string

// USD is the currency of an Order that names none.
const USD Currency = "USD"

// Valid reports whether it is a currency of ISO 4217 that money is paid in (fund
// codes, metals and test codes are not).
func (c Currency) Valid() bool { _, ok := exponents[c]; return ok }

// Exponent is how many decimals the currency's minor unit has by ISO 4217: 2 for
// USD, 0 for JPY, 3 for KWD. Providers differ from it here and there (Stripe takes
// ISK in hundredths, PayPal takes no decimals of HUF): their adapters convert,
// exactly or not at all.
func (c Currency) Exponent() int { return exponents[c] }

// exponents is ISO 4217, list one, of January 2024.
var exponents = func() map[Currency]int {
	byExponent := [...]string{
		0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF",
		2: `AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF
			CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF
			IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR
			MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD
			SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD YER
			ZAR ZMW ZWL`,
		3: "BHD IQD JOD KWD LYD OMR TND",
	}
	all := map[Currency]int{}
	for exponent, codes := range byExponent {
		for code := range strings.FieldsSeq(codes) {
			all[Currency(code)] = exponent
		}
	}
	return all
}()
