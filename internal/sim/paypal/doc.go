// Package paypal simulates PayPal's REST API at the wire, with state: OAuth 2, Orders v2, Payments v2, the vault
// (Payment Method Tokens v3) and webhooks. It refuses what PayPal's specifications say PayPal refuses, in PayPal's form,
// and keeps a ledger of the money that moved, by which a test proves that nothing was charged twice.
//
//	clock := sim.NewClock(time.Now())
//	pp := paypal.New(paypal.Config{Now: clock.Now})  // the state: an http.Handler that listens to nothing
//	host := sim.NewHost(pp, false)                   // a server; Kill and Restart keep the state
//	defer host.Close()
//	defer pp.Close()                                 // ends what stalls
//	// … create an order at host.URL, with the credentials of paypal.DefaultAccount …
//	back, err := pp.Approve(orderID, paypal.Outcome{}) // the buyer agrees and is sent back
//	// … capture it …
//	pp.Charges.Count("order-1")                      // how often money moved for custom_id order-1: sim.Ledger
//	pp.Balance("order-1")["USD"]                     // charged, refunded, pending, authorized, in minor units
//
// What goes wrong is said to the embedded [sim.Plan], by request and moment. A request claims its PayPal-Request-Id
// before the moment BeforeActing, so that a duplicate meanwhile is answered 409:
//
//	capture := sim.Match{Method: "POST", Path: "/v2/checkout/orders/*/capture"}
//	pp.Add(sim.Fault{On: capture, At: sim.AfterActing, Do: sim.Reset, Nth: 1})
//	pp.Add(sim.Fault{On: capture, At: sim.BeforeActing, Do: sim.Answer, Reply: paypal.Error(503, "")})
//
// How a charge ends is said by [Sim.NextCharge], by the saved payment method ([Sim.SaveMethod], [Sim.SetMethod]), by
// what the buyer agrees with ([Sim.Approve], or the buttons of the page that the approve link leads to), or in the sandbox
// by the request's PayPal-Mock-Response header. [Sim.NextRefund] and [Sim.SettleRefund], [Sim.SettleCapture] and
// [Sim.SettleAuthorization] do the same for what takes time.
//
// Webhooks are sent on demand, so that a test can shuffle, double, drop and forge them:
//
//	hook := pp.AddWebhook(paypal.DefaultAccount.ClientID, "http://127.0.0.1:8080/hooks/paypal")
//	for _, e := range pp.Events() {
//		err := pp.Deliver(ctx, e)                    // or pp.Notification(ctx, hook, e) for the signed request alone
//	}
//
// # Traps that are simulated
//
// Creating an order with a saved payment method charges it in one step. An order can be COMPLETED while its capture is
// PENDING, DECLINED or FAILED. The default answer is minimal and names no capture. A refund that fails later takes the
// capture's status back. After its retention a PayPal-Request-Id acts again. An order that nobody approved within three
// hours can't be found any more. Decimals, even zeros, are refused for HUF, JPY and TWD.
//
// # What isn't simulated
//
// Subscriptions, products, payouts, disputes, chargebacks, invoicing, tracking and partners (PayPal-Auth-Assertion,
// platform fees are taken and ignored). Payment methods other than paypal, venmo and saved cards; card numbers, which are
// refused; 3-D Secure but for the issue PAYER_ACTION_REQUIRED. The processing instruction
// ORDER_COMPLETE_ON_PAYMENT_APPROVAL and saved orders. Patches but of amount, custom_id, invoice_id, description and
// soft_descriptor. Currency conversion, account balances, PayPal's real fees. Scopes of tokens. Webhooks that are sent by
// themselves and again, the list of events and of event types, changes of webhooks. Rate limits but by the plan.
//
// Comments name the rules' sources: the specification of that name with its operationId or schema, or the page of that
// name in PayPal's developer documentation; "unverified" is what no source says.
package paypal
