package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// Rates is a service that several providers offer.
type Rates interface {
	Rate(ctx context.Context, currency string) (float64, error)
}

type source func(currency string) (float64, error)

func (s source) Rate(_ context.Context, currency string) (float64, error) { return s(currency) }

func rates() *resilience.Group[Rates] {
	g, err := resilience.New(resilience.Default, []resilience.Member[Rates]{
		{Name: "central-bank", Provider: source(func(string) (float64, error) {
			return 0, fault.New(fault.Denied, errors.New("the key has expired"))
		})},
		{Name: "exchange", Provider: source(func(string) (float64, error) { return 1.09, nil })},
	})
	if err != nil {
		panic(err)
	}
	return g
}

// A Client of any interface: each method is one statement.
func ExampleCall() {
	op := resilience.Op{Name: "rates.rate", Safety: fault.Read}
	rate, err := resilience.Call(context.Background(), rates(), op, Rates.Rate, "USD")
	fmt.Println(rate, err)
	// Output: 1.09 <nil>
}

// A closure, where the method has another shape.
func ExampleDo() {
	op := resilience.Op{Name: "rates.cross", Safety: fault.Read}
	cross, err := resilience.Do(context.Background(), rates(), op, func(ctx context.Context, r Rates) (string, error) {
		usd, err := r.Rate(ctx, "USD")
		if err != nil {
			return "", err
		}
		gbp, err := r.Rate(ctx, "GBP")
		return fmt.Sprintf("%.2f %.2f", usd, gbp), err
	})
	fmt.Println(cross, err)
	// Output: 1.09 1.09 <nil>
}

// The second step of something goes to the provider of the first.
func ExamplePin() {
	op := resilience.Op{Name: "rates.rate", Safety: fault.Read}
	ctx := resilience.Pin(context.Background(), "central-bank")
	_, err := resilience.Call(ctx, rates(), op, Rates.Rate, "USD")
	fmt.Println(err)
	// Output: rates.rate: central-bank: denied: the key has expired
}

// A body outlives the call: its Close ends the attempt.
func ExampleKeep() {
	op := resilience.Op{Name: "rates.history", Safety: fault.Read}
	_, body, err := resilience.Keep(context.Background(), rates(), op, func(ctx context.Context, r Rates) (float64, io.ReadCloser, error) {
		rate, err := r.Rate(ctx, "USD")
		return rate, io.NopCloser(strings.NewReader("1.07\n1.08\n")), err
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	fmt.Printf("%q %v\n", data, err)
	// Output: "1.07\n1.08\n" <nil>
}

// A stream fails over until its first item has reached the caller.
func ExampleStream() {
	op := resilience.Op{Name: "rates.watch", Safety: fault.Read}
	watch := func(r Rates, ctx context.Context, currency string) iter.Seq2[float64, error] {
		return func(yield func(float64, error) bool) {
			if rate, err := r.Rate(ctx, currency); yield(rate, err) && err == nil {
				yield(rate+0.01, nil)
			}
		}
	}
	for rate, err := range resilience.Stream(context.Background(), rates(), op, watch, "USD") {
		fmt.Println(rate, err)
	}
	// Output:
	// 1.09 <nil>
	// 1.1 <nil>
}
