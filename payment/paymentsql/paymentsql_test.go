package paymentsql_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymentsql"
	"github.com/smilefactory/integrations/payment/paymenttest"
)

var rules = []rule{
	{"a handler's write is there exactly if the entry is", handlerWrites},
}

func order(id string) *payment.Order {
	return &payment.Order{
		ID: id, Amount: payment.Money{Minor: 1999, Currency: "USD"}, User: "user-42",
		Methods: map[string]payment.Method{"bank": {ID: paymenttest.Good}},
	}
}

func handlerWrites(t *testing.T, databaseURL string) {
	j, pool := open(t, databaseURL)
	_, err := pool.ExecContext(t.Context(), "create table delivery (order_id text primary key)")
	require.NoError(t, err)
	fails := true
	var bank paymenttest.Bank
	pay, err := payment.New(&bank, payment.WithJournal(j), payment.WithHandler(func(ctx context.Context, e payment.Event) error {
		tx, ok := paymentsql.Tx(ctx)
		require.True(t, ok)
		if _, err := tx.ExecContext(ctx, "insert into delivery values ($1)", e.Order); err != nil {
			return err
		}
		if fails {
			return fault.New(fault.Unavailable, nil)
		}
		return nil
	}))
	require.NoError(t, err)
	defer func() { require.NoError(t, pay.Close(context.WithoutCancel(t.Context()))) }()
	delivered := func() (n int) {
		require.NoError(t, pool.QueryRowContext(t.Context(), "select count(*) from delivery").Scan(&n))
		return n
	}
	r, err := pay.Charge(t.Context(), order("order-1"))
	t.Log(r, err)
	assert.Zero(t, delivered())
	fails = false
	r, err = pay.Resume(t.Context(), "order-1")
	require.NoError(t, err)
	assert.Equal(t, payment.Succeeded, r.Status)
	assert.Equal(t, 1, delivered())
	keys, err := j.Due(t.Context(), time.Now().Add(time.Hour*24*365), 10)
	require.NoError(t, err)
	assert.Empty(t, keys)
	k, err := j.Find(t.Context(), payment.ProviderID{Provider: "bank", ID: r.PaymentID})
	require.NoError(t, err)
	assert.Equal(t, "order-1", k.Order)
}
