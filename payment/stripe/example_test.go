package stripe_test

import (
	"context"
	"fmt"

	simulator "github.com/smilefactory/integrations/internal/sim/stripe"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/stripe"
	"github.com/smilefactory/integrations/secret"
)

func ExampleGateway() {
	sim := simulator.New(simulator.Config{Keys: []string{"sk_test_1"}}) // stands for Stripe: drop it, BaseURL and HTTPClient
	defer sim.Faults.Close()
	host := sim.Start(false)
	defer host.Close()

	pay, err := payment.New(stripe.Gateway{Key: secret.Literal("sk_test_1"), BaseURL: host.URL, HTTPClient: host.Client()})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	defer pay.Close(ctx)
	for id, card := range []string{"pm_card_visa", "pm_card_visa_chargeDeclinedInsufficientFunds"} {
		result, err := pay.Charge(ctx, &payment.Order{
			ID: fmt.Sprintf("order-%d", id), User: "user-42", Amount: payment.Money{Minor: 1999, Currency: payment.USD},
			Methods:   map[string]payment.Method{"stripe": {ID: card}},
			ReturnURL: "https://shop.example.com/paid",
		})
		switch {
		case err != nil:
			fmt.Println(err)
		case result.Status == payment.Declined:
			fmt.Println(result.Status, "for", result.Decline.Reason)
		default:
			fmt.Println(result.Status, result.Captured)
		}
	}
	// Output:
	// succeeded 19.99 USD
	// declined for insufficient funds
}
