package payment

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Money is an amount in minor units of its currency: Money{1999, "USD"} is 19.99
// dollars. There are no fractions of a minor unit, and amounts of two currencies
// are never added or converted.
type Money struct {
	Minor    int64    `json:"minor"`
	Currency Currency `json:"currency"`
}

// The errors of arithmetic.
var (
	ErrOverflow   = errors.New("payment: the amount is too large")
	ErrCurrencies = errors.New("payment: the amounts have different currencies")
)

// Add is the sum of two amounts of one currency.
func (m Money) Add(o Money) (Money, error) {
	if m.Currency != o.Currency {
		return Money{}, ErrCurrencies
	}
	sum := m.Minor + o.Minor
	if (sum > m.Minor) != (o.Minor > 0) {
		return Money{}, ErrOverflow
	}
	return Money{sum, m.Currency}, nil
}

// Sub is the difference of two amounts of one currency.
func (m Money) Sub(o Money) (Money, error) {
	if o.Minor == math.MinInt64 {
		return Money{}, ErrOverflow
	}
	return m.Add(Money{-o.Minor, o.Currency})
}

// Times is n times the amount.
func (m Money) Times(n int64) (Money, error) {
	if m.Minor == 0 || n == 0 {
		return Money{0, m.Currency}, nil
	}
	p := m.Minor * n
	if p/n != m.Minor || m.Minor == math.MinInt64 && n == -1 || n == math.MinInt64 && m.Minor == -1 {
		return Money{}, ErrOverflow
	}
	return Money{p, m.Currency}, nil
}

// Split divides an amount into n parts that differ by one minor unit at most,
// the larger ones first, and whose sum is the amount. n is at least 1.
func (m Money) Split(n int) ([]Money, error) {
	if n < 1 {
		return nil, fmt.Errorf("payment: split into %d parts", n)
	}
	return m.Allocate(ones(n)...)
}

func ones(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = 1
	}
	return out
}

// Allocate divides an amount in the proportion of the weights, and gives what is
// left by rounding, a minor unit each, to the parts that lost most by it, the
// first of equals first. The sum is the amount. Weights are not negative, and one
// of them is positive.
func (m Money) Allocate(weights ...int64) ([]Money, error) {
	var total int64
	for _, w := range weights {
		if w < 0 || total+w < total {
			return nil, errors.New("payment: weights must not be negative, nor their sum too large")
		}
		total += w
	}
	if total == 0 {
		return nil, errors.New("payment: one of the weights must be positive")
	}
	parts, rests, left := make([]Money, len(weights)), make([]uint64, len(weights)), magnitude(m.Minor)
	for i, w := range weights {
		hi, lo := bits.Mul64(magnitude(m.Minor), magnitude(w)) // at most |m|·total, so the quotient fits
		var q uint64
		q, rests[i] = bits.Div64(hi, lo, uint64(total))
		parts[i] = Money{int64(q), m.Currency} //nolint:gosec // q is at most |m|; MinInt64 is its own magnitude
		left -= q
	}
	for ; left > 0; left-- {
		most := 0
		for i := range rests {
			if rests[i] > rests[most] {
				most = i
			}
		}
		parts[most].Minor++
		rests[most] = 0
	}
	if m.Minor < 0 {
		for i := range parts {
			parts[i].Minor = -parts[i].Minor
		}
	}
	return parts, nil
}

func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n) //nolint:gosec // two's complement: right for MinInt64 too
	}
	return uint64(n)
}

// In is the amount as a whole number of units of 10^-exponent of the currency, as
// a provider counts it. An amount that isn't a whole number of those is
// [ErrInexact]: nothing is rounded.
func (m Money) In(exponent int) (int64, error) {
	return scale(m.Minor, exponent-m.Currency.Exponent())
}

// MoneyIn is the amount of so many units of 10^-exponent of the currency.
func MoneyIn(units int64, exponent int, c Currency) (Money, error) {
	if !c.Valid() {
		return Money{}, errCurrency
	}
	minor, err := scale(units, c.Exponent()-exponent)
	return Money{minor, c}, err
}

// ErrInexact is why an amount can't be written with so few decimals.
var ErrInexact = errors.New("payment: the amount has more decimals than allowed")

// scale is n·10^by, exactly.
func scale(n int64, by int) (int64, error) {
	for ; by > 0; by-- {
		if n > math.MaxInt64/10 || n < math.MinInt64/10 {
			return 0, ErrOverflow
		}
		n *= 10
	}
	for ; by < 0; by++ {
		if n%10 != 0 {
			return 0, ErrInexact
		}
		n /= 10
	}
	return n, nil
}

// String is the amount in words for people: "19.99 USD".
func (m Money) String() string {
	return m.Decimal(m.Currency.Exponent()) + " " + string(m.Currency)
}

// Decimal is the amount as a decimal number: "19.99". With fewer decimals than the
// currency has it is cut off; see [Money.In] for what is exact.
func (m Money) Decimal(decimals int) string {
	exponent := m.Currency.Exponent()
	digits := strconv.FormatUint(magnitude(m.Minor), 10)
	if len(digits) <= exponent {
		digits = strings.Repeat("0", exponent-len(digits)+1) + digits
	}
	whole, fraction := digits[:len(digits)-exponent], digits[len(digits)-exponent:]
	if len(fraction) < decimals {
		fraction += strings.Repeat("0", decimals-len(fraction))
	}
	if decimals > 0 {
		whole += "." + fraction[:decimals]
	}
	if m.Minor < 0 {
		whole = "-" + whole
	}
	return whole
}

var (
	errCurrency = errors.New("payment: the currency isn't an ISO 4217 code in capitals")
	errAmount   = errors.New("payment: the amount isn't a decimal number such as 19.99")
)

// ParseMoney reads a decimal number, with a point, of a currency: "19.99". More
// decimals than the currency has must be zeros. There are no signs but a minus,
// no exponents, no thousands' separators and no spaces.
func ParseMoney(decimal string, c Currency) (Money, error) {
	if !c.Valid() {
		return Money{}, errCurrency
	}
	number, negative := strings.CutPrefix(decimal, "-")
	whole, fraction, point := strings.Cut(number, ".")
	if whole == "" || point && fraction == "" || strings.ContainsFunc(whole+fraction, notDigit) {
		return Money{}, errAmount
	}
	exponent := c.Exponent()
	if len(fraction) > exponent {
		if strings.Trim(fraction[exponent:], "0") != "" {
			return Money{}, ErrInexact
		}
		fraction = fraction[:exponent]
	}
	fraction += strings.Repeat("0", exponent-len(fraction))
	sign := ""
	if negative {
		sign = "-"
	}
	minor, err := strconv.ParseInt(sign+whole+fraction, 10, 64)
	if err != nil {
		return Money{}, ErrOverflow
	}
	return Money{minor, c}, nil
}

func notDigit(r rune) bool { return r < '0' || r > '9' }
