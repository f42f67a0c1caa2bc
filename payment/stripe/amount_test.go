package stripe

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
)

// TestAmountsAreWrittenAsStripeCountsThem: docs.stripe.com/currencies.
func TestAmountsAreWrittenAsStripeCountsThem(t *testing.T) {
	for m, want := range map[payment.Money]int64{
		{Minor: 1999, Currency: "USD"}:  1999,
		{Minor: 500, Currency: "JPY"}:   500,
		{Minor: 20000, Currency: "HUF"}: 20000,
		{Minor: 5, Currency: "ISK"}:     500, // two decimals, always 00
		{Minor: 1000, Currency: "UGX"}:  100_000,
		{Minor: 1230, Currency: "KWD"}:  1230,
	} {
		n, err := amount(m)
		require.NoError(t, err, m)
		assert.Equal(t, want, n, m)
	}
	for _, m := range []payment.Money{{Minor: 1234, Currency: "KWD"}, {Minor: 150, Currency: "MGA"}, {Minor: 1, Currency: "KPW"}} {
		n, err := amount(m)
		require.ErrorIs(t, err, fault.Unsupported, m)
		assert.Zero(t, n, "nothing is rounded")
	}
}
