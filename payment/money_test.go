package payment_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/payment"
)

func TestMoneyIsReadAndWrittenExactly(t *testing.T) {
	for name, row := range map[string]struct {
		text     string
		currency payment.Currency
		minor    int64
		err      error
		again    string
	}{
		"two decimals":               {"19.99", "USD", 1999, nil, "19.99 USD"},
		"none":                       {"500", "JPY", 500, nil, "500 JPY"},
		"three":                      {"1.234", "KWD", 1234, nil, "1.234 KWD"},
		"less than one":              {"0.05", "EUR", 5, nil, "0.05 EUR"},
		"negative":                   {"-0.05", "EUR", -5, nil, "-0.05 EUR"},
		"no decimals written":        {"7", "USD", 700, nil, "7.00 USD"},
		"fewer decimals":             {"7.5", "USD", 750, nil, "7.50 USD"},
		"zeros that say nothing":     {"7.500", "USD", 750, nil, "7.50 USD"},
		"the largest":                {"92233720368547758.07", "USD", math.MaxInt64, nil, "92233720368547758.07 USD"},
		"the smallest":               {"-92233720368547758.08", "USD", math.MinInt64, nil, "-92233720368547758.08 USD"},
		"too large":                  {"92233720368547758.08", "USD", 0, payment.ErrOverflow, ""},
		"too many decimals":          {"1.005", "USD", 0, payment.ErrInexact, ""},
		"decimals of a yen":          {"1.5", "JPY", 0, payment.ErrInexact, ""},
		"ISK has none by ISO 4217":   {"5", "ISK", 5, nil, "5 ISK"},
		"MGA has two by ISO 4217":    {"5.00", "MGA", 500, nil, "5.00 MGA"},
		"zeros of a yen say nothing": {"1.00", "JPY", 1, nil, "1 JPY"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := payment.ParseMoney(row.text, row.currency)
			require.ErrorIs(t, err, row.err)
			if err != nil {
				return
			}
			assert.Equal(t, payment.Money{Minor: row.minor, Currency: row.currency}, m)
			assert.Equal(t, row.again, m.String())
		})
	}
	for _, text := range []string{"", "-", ".", "1.", ".5", "1,00", "1e3", "+1", " 1", "1 ", "0x1", "١", "1.-5", "--1", "NaN"} {
		_, err := payment.ParseMoney(text, "USD")
		assert.Error(t, err, "%q", text)
	}
	for _, c := range []payment.Currency{"", "usd", "XXX", "US", "USDT"} {
		_, err := payment.ParseMoney("1", c)
		assert.Error(t, err, "%q", c)
	}
}

func FuzzParseMoney(f *testing.F) {
	f.Add("19.99", "USD")
	f.Add("-0.05", "KWD")
	f.Fuzz(func(t *testing.T, text, currency string) {
		m, err := payment.ParseMoney(text, payment.Currency(currency))
		if err != nil {
			return
		}
		again, err := payment.ParseMoney(m.Decimal(m.Currency.Exponent()), m.Currency)
		if err != nil || again != m {
			t.Errorf("%q became %v, and that %v (%v)", text, m, again, err)
		}
	})
}

func TestProvidersUnitsAreExactOrRefused(t *testing.T) {
	for name, row := range map[string]struct {
		money    payment.Money
		exponent int
		units    int64
		err      error
	}{
		"the same":                          {payment.Money{Minor: 1999, Currency: "USD"}, 2, 1999, nil},
		"Stripe takes ISK in hundredths":    {payment.Money{Minor: 5, Currency: "ISK"}, 2, 500, nil},
		"Stripe takes MGA without":          {payment.Money{Minor: 500, Currency: "MGA"}, 0, 5, nil},
		"PayPal takes no decimals of HUF":   {payment.Money{Minor: 500, Currency: "HUF"}, 0, 5, nil},
		"and an amount with some not":       {payment.Money{Minor: 501, Currency: "HUF"}, 0, 0, payment.ErrInexact},
		"negative":                          {payment.Money{Minor: -500, Currency: "HUF"}, 0, -5, nil},
		"more than there is room for":       {payment.Money{Minor: math.MaxInt64 / 10, Currency: "ISK"}, 2, 0, payment.ErrOverflow},
		"less than there is room for":       {payment.Money{Minor: math.MinInt64 / 10, Currency: "ISK"}, 2, 0, payment.ErrOverflow},
		"as much as there is room for":      {payment.Money{Minor: math.MaxInt64 / 100, Currency: "ISK"}, 2, math.MaxInt64 / 100 * 100, nil},
		"nothing is nothing in all units":   {payment.Money{Currency: "KWD"}, 0, 0, nil},
		"a thousandth of a dinar isn't one": {payment.Money{Minor: 1, Currency: "KWD"}, 2, 0, payment.ErrInexact},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := row.money.In(row.exponent)
			require.ErrorIs(t, err, row.err)
			if err != nil {
				return
			}
			assert.Equal(t, row.units, got)
			back, err := payment.MoneyIn(got, row.exponent, row.money.Currency)
			require.NoError(t, err)
			assert.Equal(t, row.money, back)
		})
	}
}

func TestArithmeticIsChecked(t *testing.T) {
	largest, smallest := payment.Money{Minor: math.MaxInt64, Currency: "USD"}, payment.Money{Minor: math.MinInt64, Currency: "USD"}
	for name, do := range map[string]func() (payment.Money, error){
		"a sum too large":        func() (payment.Money, error) { return largest.Add(usd(1)) },
		"a sum too small":        func() (payment.Money, error) { return smallest.Add(usd(-1)) },
		"a difference too large": func() (payment.Money, error) { return usd(0).Sub(smallest) },
		"a product too large":    func() (payment.Money, error) { return largest.Times(2) },
		"the smallest, negated":  func() (payment.Money, error) { return smallest.Times(-1) },
		"negated the other way":  func() (payment.Money, error) { return usd(-1).Times(math.MinInt64) },
	} {
		_, err := do()
		assert.ErrorIs(t, err, payment.ErrOverflow, name)
	}
	_, err := usd(1).Add(payment.Money{Minor: 1, Currency: "EUR"})
	require.ErrorIs(t, err, payment.ErrCurrencies)
	for range 100_000 { // beside math/big
		a, b := rand.Int64()-rand.Int64(), rand.Int64()-rand.Int64()
		if rand.N(2) == 0 {
			b = rand.Int64N(2_000_000) - 1_000_000
		}
		check := func(got payment.Money, err error, want *big.Int) {
			require.Equal(t, want.IsInt64(), err == nil, "%d %d", a, b)
			if err == nil {
				require.Equal(t, want.Int64(), got.Minor)
			}
		}
		sum, err := usd(a).Add(usd(b))
		check(sum, err, new(big.Int).Add(big.NewInt(a), big.NewInt(b)))
		difference, err := usd(a).Sub(usd(b))
		check(difference, err, new(big.Int).Sub(big.NewInt(a), big.NewInt(b)))
		product, err := usd(a).Times(b)
		check(product, err, new(big.Int).Mul(big.NewInt(a), big.NewInt(b)))
	}
}

func TestASplitLosesNothing(t *testing.T) {
	parts, err := usd(100).Split(3)
	require.NoError(t, err)
	assert.Equal(t, []payment.Money{usd(34), usd(33), usd(33)}, parts)
	parts, err = usd(-100).Split(3)
	require.NoError(t, err)
	assert.Equal(t, []payment.Money{usd(-34), usd(-33), usd(-33)}, parts)
	parts, err = usd(101).Allocate(70, 20, 10, 0)
	require.NoError(t, err)
	assert.Equal(t, []payment.Money{usd(71), usd(20), usd(10), usd(0)}, parts)
	for range 20_000 {
		m := usd(rand.Int64() - rand.Int64())
		weights := make([]int64, 1+rand.N(7))
		for i := range weights {
			weights[i] = rand.Int64N(math.MaxInt64 / 8)
		}
		weights[0]++
		parts, err := m.Allocate(weights...)
		require.NoError(t, err)
		sum := usd(0)
		for _, p := range parts {
			sum, err = sum.Add(p)
			require.NoError(t, err)
			require.True(t, p.Minor == 0 || (p.Minor < 0) == (m.Minor < 0))
		}
		require.Equal(t, m, sum)
	}
	for _, weights := range [][]int64{{}, {0}, {-1, 2}, {math.MaxInt64, math.MaxInt64}} {
		_, err := usd(1).Allocate(weights...)
		require.Error(t, err)
	}
	_, err = usd(1).Split(0)
	require.Error(t, err)
}

func TestFeesAreRoundedAsAsked(t *testing.T) {
	for name, row := range map[string]struct {
		points   int64
		rounding payment.Rounding
		gross    int64
		fee      int64
	}{
		"exact":                     {250, payment.HalfEven, 10_000, 250},
		"a half to the even, below": {5000, payment.HalfEven, 5, 2},
		"a half to the even, above": {5000, payment.HalfEven, 7, 4},
		"a half up":                 {5000, payment.HalfUp, 5, 3},
		"more than a half":          {5001, payment.HalfEven, 5, 3},
		"less than a half, up":      {1, payment.Up, 1, 1},
		"more than a half, down":    {9999, payment.Down, 1, 0},
		"nothing":                   {0, payment.Up, 1999, 0},
		"all":                       {10_000, payment.Down, 1999, 1999},
		"the largest":               {9999, payment.HalfEven, math.MaxInt64, 9222449699651090329},
	} {
		t.Run(name, func(t *testing.T) {
			fee, net, err := payment.Fee{BasisPoints: row.points, Rounding: row.rounding}.Of(usd(row.gross))
			require.NoError(t, err)
			assert.Equal(t, row.fee, fee.Minor)
			assert.Equal(t, row.gross, fee.Minor+net.Minor)
		})
	}
	for _, fee := range []payment.Fee{{BasisPoints: -1}, {BasisPoints: 10_001}, {Rounding: 9}} {
		_, _, err := fee.Of(usd(1))
		require.Error(t, err)
	}
	_, _, err := payment.Fee{}.Of(usd(-1))
	require.Error(t, err)
}
