package stripe_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/sim/stripe"
)

func TestRefunds(t *testing.T) {
	const invalid = "invalid_request_error"
	ok := refusal{status: 200}
	tests := map[string]struct {
		amounts []string // "" is all of what is left
		last    refusal
		left    int64
	}{
		"the whole":                  {[]string{""}, ok, 0},
		"a part":                     {[]string{"300"}, ok, 700},
		"two parts":                  {[]string{"300", "700"}, ok, 0},
		"a part and the rest":        {[]string{"300", ""}, ok, 0},
		"more than was paid":         {[]string{"1001"}, refusal{400, invalid, "", "amount"}, 1000},
		"more than is left":          {[]string{"300", "701"}, refusal{400, invalid, "", "amount"}, 700},
		"the whole twice":            {[]string{"", ""}, refusal{400, invalid, "charge_already_refunded", ""}, 0},
		"nothing":                    {[]string{"0"}, refusal{400, invalid, "parameter_invalid_integer", "amount"}, 1000},
		"the other way round":        {[]string{"-1"}, refusal{400, invalid, "parameter_invalid_integer", "amount"}, 1000},
		"for a reason Stripe has no": {[]string{"1&reason=whim"}, refusal{400, invalid, "", "reason"}, 1000},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			id := b.paid("")
			var r reply
			for _, amount := range tt.amounts {
				form := "payment_intent=" + id + "&metadata[order_id]=o1"
				if amount != "" {
					form += "&amount=" + amount
				}
				r = b.post("/v1/refunds", form)
			}
			assert.Equal(t, tt.last, r.refusal(), r.raw)
			assert.Equal(t, map[string]int64{"usd": tt.left}, b.Balance("o1"))
			pi := b.get("/v1/payment_intents/"+id, "expand[]=latest_charge")
			assert.Equal(t, []any{"succeeded", int(1000 - tt.left), tt.left == 0}, []any{
				pi.text("status"), pi.at("latest_charge.amount_refunded"), pi.at("latest_charge.refunded"),
			})
			list := b.get("/v1/refunds", "payment_intent="+id)
			sum := 0
			for _, re := range list.at("data").([]any) {
				got := reply{body: re.(map[string]any)}
				sum += got.at("amount").(int)
				assert.Equal(t, []any{"succeeded", id, pi.text("latest_charge.id"), "o1", "usd"}, []any{
					got.text("status"), got.text("payment_intent"), got.text("charge"), got.text("metadata.order_id"), got.text("currency"),
				})
				assert.Equal(t, got.text("id"), b.get("/v1/refunds/"+got.text("id"), "").text("id"))
			}
			assert.Equal(t, int(1000-tt.left), sum)
			assert.Len(t, b.Refunds("o1"), len(list.at("data").([]any)))
		})
	}
}

func TestWhatCantBeRefundedYet(t *testing.T) {
	b := open(t)
	held := b.paid("&capture_method=manual")
	r := b.post("/v1/refunds", "payment_intent="+held)
	assert.Equal(t, refusal{400, "invalid_request_error", "", ""}, r.refusal())
	r = b.post("/v1/refunds", "payment_intent="+b.intent(""))
	assert.Equal(t, refusal{400, "invalid_request_error", "", ""}, r.refusal())
	assert.Equal(t, 404, b.get("/v1/refunds/re_none", "").status)
	assert.Equal(t, 404, b.post("/v1/refunds/re_none", "").status)
}

func TestARefundByItsChargeIsEventsAndMetadata(t *testing.T) {
	b := open(t)
	b.paid("")
	charge := b.Charges("o1")[0].Charge
	r := b.must("/v1/refunds", "charge="+charge+"&amount=100&reason=requested_by_customer")
	assert.Equal(t, "requested_by_customer", r.text("reason"))
	assert.Equal(t, "x", b.must("/v1/refunds/"+r.text("id"), "metadata[note]=x").text("metadata.note"))
	assert.Equal(t, -100, b.get("/v1/refunds/"+r.text("id"), "expand[]=balance_transaction").at("balance_transaction.amount"))
	assert.Equal(t, []string{"charge.refunded", "refund.created"}, b.types()[3:])
	assert.Len(t, b.get("/v1/refunds", "charge="+charge).at("data"), 1)
	assert.Empty(t, b.get("/v1/refunds", "charge=ch_none").at("data"))
	assert.Len(t, b.get("/v1/charges", "payment_intent="+r.text("payment_intent")).at("data"), 1)
}

// A refund may be pending, and one that succeeded may fail yet.
func TestRefundsThatEndLater(t *testing.T) {
	tests := map[string]struct {
		card     string
		at       string // its status at first
		succeeds bool
		end      string
		left     int64
	}{
		"pending, then succeeded":   {"pm_card_pendingRefund", "pending", true, "succeeded", 0},
		"pending, then failed":      {"pm_card_pendingRefund", "pending", false, "failed", 1000},
		"succeeded, and yet failed": {"pm_card_refundFail", "succeeded", false, "failed", 1000},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			id := b.must("/v1/payment_intents", order+"&confirm=true&payment_method="+tt.card).text("id")
			r := b.must("/v1/refunds", "payment_intent="+id)
			assert.Equal(t, tt.at, r.text("status"))
			assert.Equal(t, map[string]int64{"usd": 0}, b.Balance("o1"), "a pending refund reserves its amount")
			require.NoError(t, b.SettleRefund(r.text("id"), tt.succeeds, "expired_or_canceled_card"))
			end := b.get("/v1/refunds/"+r.text("id"), "")
			assert.Equal(t, tt.end, end.text("status"))
			assert.Equal(t, map[string]int64{"usd": tt.left}, b.Balance("o1"))
			types := b.types()
			assert.Equal(t, []string{"charge.refund.updated", "refund.updated"}, types[len(types)-2:])
			again := b.post("/v1/refunds", "payment_intent="+id)
			if tt.end == "failed" {
				assert.Equal(t, "expired_or_canceled_card", end.text("failure_reason"))
				assert.NotEmpty(t, end.text("failure_balance_transaction"))
				assert.Equal(t, 200, again.status, "a failed refund gives its amount back")
				require.Error(t, b.SettleRefund(r.text("id"), true, ""), "failed is the end")
			} else {
				assert.Equal(t, "charge_already_refunded", again.text("error.code"))
			}
		})
	}
	require.Error(t, open(t).SettleRefund("re_none", true, ""))
}

func TestConcurrentRefundsNeverExceedTheCharge(t *testing.T) {
	b := open(t)
	id := b.paid("")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			_, err := b.send(t.Context(), "POST", "/v1/refunds", "amount=300&payment_intent="+id, key(fmt.Sprint("refund-", i)))
			assert.NoError(t, err)
		})
	}
	wg.Wait()
	assert.Len(t, b.Refunds("o1"), 3)
	assert.Equal(t, map[string]int64{"usd": 100}, b.Balance("o1"))
}

func TestTheLedgerTellsOrdersAndCurrenciesApart(t *testing.T) {
	b := open(t)
	b.paid("")
	b.paid("")
	b.must("/v1/payment_intents", "amount=700&currency=eur&metadata[order_id]=o1&payment_method_types[]=card&confirm=true&payment_method=pm_card_visa")
	b.must("/v1/payment_intents", "amount=900&currency=eur&metadata[order_id]=o2&payment_method_types[]=card&confirm=true&payment_method=pm_card_visa")
	assert.Len(t, b.Charges("o1"), 3)
	assert.Equal(t, []string{"o1"}, b.Money.Doubled())
	assert.Equal(t, map[string]int64{"usd": 2000, "eur": 700}, b.Balance("o1"))
	assert.Equal(t, map[string]int64{"eur": 900}, b.Balance("o2"))
	assert.Empty(t, b.Charges("o3"))
}

func TestFeesAndDestinationsAreInTheLedger(t *testing.T) {
	b := open(t)
	b.paid("&application_fee_amount=50&transfer_data[destination]=acct_payee&transfer_group=g")
	b.must("/v1/payment_intents", order+"&confirm=true&payment_method=pm_card_visa&application_fee_amount=70", header("Stripe-Account", member))
	var got []stripe.Movement
	for _, m := range b.Charges("o1") {
		got = append(got, stripe.Movement{Account: m.Account, Fee: m.Fee, Destination: m.Destination})
	}
	assert.Equal(t, []stripe.Movement{{Account: "acct_platform", Fee: 50, Destination: "acct_payee"}, {Account: member, Fee: 70}}, got)
}
