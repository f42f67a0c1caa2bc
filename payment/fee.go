package payment

import "errors"

// Rounding says what becomes of half a minor unit of a fee.
type Rounding uint8

// The roundings.
const (
	// HalfEven takes the even neighbour, so that halves cancel out over many fees.
	HalfEven Rounding = iota
	// HalfUp takes the larger neighbour.
	HalfUp
	// Down drops every fraction, in the payer's favour.
	Down
	// Up makes a whole one of every fraction.
	Up
)

// Fee is a share of an amount in basis points: 250 are 2.5 percent.
type Fee struct {
	BasisPoints int64    `json:"basis_points,omitempty"` // 0 to 10,000
	Rounding    Rounding `json:"rounding,omitempty"`
}

const basis = 10_000

var errFee = errors.New("payment: the fee must be from 0 to 10000 basis points, and its rounding one of those there are")

func (f Fee) valid() bool { return f.BasisPoints >= 0 && f.BasisPoints <= basis && f.Rounding <= Up }

// Of splits an amount into the fee and what is left of it: 0 ≤ fee ≤ gross, and
// fee + net is gross. A negative gross is an error.
func (f Fee) Of(gross Money) (fee, net Money, err error) {
	if !f.valid() || gross.Minor < 0 {
		return Money{}, Money{}, errFee
	}
	whole, rest := gross.Minor/basis, gross.Minor%basis // apart, so that nothing overflows
	n := whole*f.BasisPoints + f.round(rest*f.BasisPoints)
	return Money{n, gross.Currency}, Money{gross.Minor - n, gross.Currency}, nil
}

// round divides by [basis].
func (f Fee) round(n int64) int64 {
	q, rest := n/basis, n%basis
	switch {
	case rest == 0, f.Rounding == Down:
		return q
	case f.Rounding == Up, rest*2 > basis, rest*2 == basis && (f.Rounding == HalfUp || q%2 != 0):
		return q + 1
	}
	return q
}

// Returned is how much of a payment's fee goes back with a refund, where before
// of the gross was refunded already: the fee of all that is refunded by then, less
// what was returned for the refunds before, so that many small ones return neither
// more nor less than a large one.
func (f Fee) Returned(gross, before, refund Money) (Money, error) {
	after, err := before.Add(refund)
	if err != nil {
		return Money{}, err
	}
	if gross.Currency != after.Currency {
		return Money{}, ErrCurrencies
	}
	if refund.Minor < 0 || after.Minor > gross.Minor {
		return Money{}, errRefunds
	}
	first, _, err := f.Of(before)
	if err != nil {
		return Money{}, err
	}
	all, _, err := f.Of(after)
	if err != nil {
		return Money{}, err
	}
	return all.Sub(first)
}

var errRefunds = errors.New("payment: the refunds are more than the payment")
