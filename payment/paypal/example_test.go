package paypal_test

import (
	"context"
	"fmt"

	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/paypal"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paypal"
	"github.com/smilefactory/integrations/secret"
)

// The customer approves at PayPal, and comes back to the return page, which resumes
// the order.
func ExampleGateway() {
	pp := simulator.New(simulator.Config{}) // stands for PayPal: drop it and BaseURL
	host := sim.NewHost(pp, false)
	defer host.Close()
	defer pp.Close()

	ctx := context.Background()
	pay, err := payment.New(&paypal.Gateway{
		ClientID: "sim-client", Secret: secret.Literal("sim-secret"), Sandbox: true, BaseURL: host.URL, HTTPClient: host.Client(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := pay.Charge(ctx, &payment.Order{
		ID: "order-4711", User: "user-42", Amount: payment.Money{Minor: 1999, Currency: payment.USD},
		ReturnURL: "https://shop.example.com/paid?order=order-4711",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Status) // result.Action.ServeHTTP(w, r) sends the customer to PayPal

	for _, e := range pp.Events() { // the customer agrees
		fmt.Println(e.Type)
	}
	if _, err := pp.Approve(result.PaymentID, simulator.Outcome{}); err != nil {
		fmt.Println(err)
		return
	}
	result, err = pay.Resume(ctx, "order-4711")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(result.Status, result.Captured)
	// Output:
	// needs action
	// succeeded 19.99 USD
}
