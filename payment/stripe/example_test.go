package stripe_test

import (
	"context"
	"fmt"
	"time"

	simulator "github.com/smilefactory/integrations/internal/sim/stripe"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/stripe"
	"github.com/smilefactory/integrations/secret"
)

// A Gateway is usually given to payment.New, which calls it as this example does
// and remembers every step.
func ExampleGateway() {
	sim := simulator.New(simulator.Config{Keys: []string{"sk_test_1"}}) // stands for Stripe: drop it, BaseURL and HTTPClient
	defer sim.Faults.Close()
	host := sim.Start(false)
	defer host.Close()

	g := stripe.Gateway{Key: secret.Literal("sk_test_1"), BaseURL: host.URL, HTTPClient: host.Client()}
	attempt := &payment.Attempt{
		Order: &payment.Order{
			ID: "order-4711", User: "user-42", Amount: payment.Money{Minor: 1999, Currency: payment.USD}, ReturnURL: "https://shop.example.com/paid",
		},
		Method: payment.Method{ID: "pm_card_visa"}, Number: 1, Identity: g.Identity(), Provider: g.Name(), Began: time.Now(),
	}
	prepared, err := g.Prepare(context.Background(), attempt)
	if err != nil {
		fmt.Println(err)
		return
	}
	attempt.PaymentID = prepared.ID // note it before the money moves
	paid, err := g.Commit(context.Background(), attempt)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(prepared.State, paid.State, paid.Captured)
	// Output: prepared paid 19.99 USD
}
