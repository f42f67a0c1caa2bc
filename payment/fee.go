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

// Returned is how much of a payment's fee goes back with a refund: the fee of all
// that is refunded by then, this refund included, less what was returned for the
// refunds before. So many small ones return neither more nor less than a large
// one; rounding each by itself would.
func (f Fee) Returned(refunded, returned Money) (Money, error) {
	fee, _, err := f.Of(refunded)
	if err != nil {
		return Money{}, err
	}
	back, err := fee.Sub(returned)
	back.Minor = max(back.Minor, 0) // after a refund that failed
	return back, err
}
