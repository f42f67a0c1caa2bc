// Package stripe simulates Stripe's API at version 2023-10-16, as stripe-go v76 speaks it: forms in, JSON out. It keeps
// state, refuses what Stripe refuses in Stripe's words, and keeps a ledger of the money that moved, which is a test's
// oracle.
//
//	s := stripe.New(stripe.Config{Keys: []string{"sk_test_1"}})
//	defer s.Faults.Close()
//	host := s.Start(false) // or serve s, an http.Handler, elsewhere
//	defer host.Close()
//	s.Faults.Add(sim.Fault{
//		On: sim.Match{Path: "/v1/payment_intents/*/confirm"}, At: sim.AfterActing, Do: sim.Reset, Times: 1,
//	})
//	// … pay through host.URL …
//	s.Charges("order-1") // what moved under metadata[order_id]=order-1
//
// # What a test holds in its hand
//
//   - [Sim.Faults], a [sim.Plan]: what goes wrong with which request, and when. [RateLimited], [LockTimeout], [KeyInUse],
//     [ServerError] and [BadGateway] are answers for it; a ServerError that is Kept is Stripe's own 500, which the
//     idempotency key gets again. [Sim.Lock] holds an object. sim.BeforeActing is the moment when the idempotency key is in
//     use and nothing was done; sim.Acted, when the money moved and the key is still in use; sim.AfterActing, when the answer
//     is kept under the key and the caller doesn't know. net/http by itself sends a request that has an Idempotency-Key
//     again when a connection breaks that served before: sim.Plan.Calls tells what arrived.
//   - [Sim.Money], [Sim.Charges], [Sim.Refunds], [Sim.Balance]: the ledger.
//   - [Sim.Authenticate], or the page that next_action leads to: the customer's authentication. [Sim.Settle] ends the
//     processing of a bank debit, [Sim.SettleRefund] a refund.
//   - [Sim.NewPaymentMethod]: what Stripe.js makes of a card, live mode included.
//   - [Sim.Register], [Sim.Pending], [Sim.Deliver], [Sim.DeliverAll], [Sim.Drop], [Send], [Signature]: webhooks.
//   - [sim.Host.Kill] and Restart: the state stays with the Sim. Config.Now is the clock; [sim.Clock] is one to set.
//
// # Sources
//
// Comments name pages of Stripe's documentation. Where a page is silent the rule follows what Stripe's test mode was seen to
// answer, by published test suites that run against it. Not verified against Stripe: that resource_missing, and every error
// of an object in a wrong state, is kept under the idempotency key; what a partial capture does to amount_refunded; the
// wording of some messages.
//
// # What isn't simulated
//
//   - Subscriptions, invoices, Checkout, Connect's transfers and reversals (application_fee_amount and transfer_data are
//     checked, shown, and entered in the ledger, but no transfer is made), disputes, payouts, Radar's rules, search.
//   - Payment methods other than cards and US bank accounts; raw card numbers, which are refused; mandates; client-side
//     confirmation with a publishable key; incremental authorisation, overcapture and multicapture.
//   - Stripe's fees, currency conversion, rate limits of their own accord, test clocks (there is Config.Now),
//     previous_attributes in events, ending_before in lists, API versions other than 2023-10-16.
//   - A parameter that Stripe knows and that would do nothing here is refused with 501, so that no test leans on it;
//     a parameter that Stripe doesn't know is refused as Stripe refuses it.
package stripe
