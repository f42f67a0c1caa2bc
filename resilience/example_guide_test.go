package resilience_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
)

// The whole of it: a primary, a backup, a call.
func ExampleNew() {
	ctx := context.Background()
	a := source(func(string) (float64, error) {
		return 0, fault.New(fault.Unavailable, errors.New("connection refused"))
	})
	b := source(func(string) (float64, error) { return 1.09, nil })
	rates, err := resilience.New(resilience.Default, []resilience.Member[Rates]{
		{Name: "central-bank", Provider: a}, {Name: "exchange", Provider: b},
	})
	if err != nil {
		panic(err)
	}
	op := resilience.Op{Name: "rates.rate", Safety: fault.Read}
	rate, err := resilience.Call(ctx, rates, op, Rates.Rate, "USD")
	fmt.Println(rate, err)
	// Output: 1.09 <nil>
}

var errNoCurrency = errors.New("no such currency")

// A provider of your own answers with plain errors.
func ExampleMember() {
	own := source(func(string) (float64, error) { return 0, errNoCurrency })
	member := resilience.Member[Rates]{Name: "own", Provider: own, Classify: func(err error) fault.Kind {
		if errors.Is(err, errNoCurrency) {
			return fault.NotFound
		}
		return fault.Unknown
	}}
	rates, err := resilience.New(resilience.Default, []resilience.Member[Rates]{member})
	if err != nil {
		panic(err)
	}
	_, err = resilience.Call(context.Background(), rates, resilience.Op{Name: "rates.rate"}, Rates.Rate, "XXX")
	fmt.Println(err)
	// Output: rates.rate: own: not found: no such currency
}

// What fails together has a breaker of its own.
func ExampleOp() {
	var (
		look   = resilience.Op{Name: "rates.rate", Class: "look", Safety: fault.Read}
		report = resilience.Op{Name: "rates.report", Class: "report", Safety: fault.Read}
	)
	failing := false
	rates, err := resilience.New(resilience.Default, []resilience.Member[Rates]{{Name: "bank", Provider: source(func(string) (float64, error) {
		if failing {
			return 0, fault.New(fault.Uncertain, errors.New("500"))
		}
		return 1.09, nil
	})}})
	if err != nil {
		panic(err)
	}
	failing = true
	for range 5 {
		_, _ = resilience.Call(context.Background(), rates, report, Rates.Rate, "USD")
	}
	failing = false
	_, err = resilience.Call(context.Background(), rates, look, Rates.Rate, "USD")
	for _, s := range rates.Inspect() {
		fmt.Printf("%s %q %s\n", s.Name, s.Class, s.State)
	}
	fmt.Println(err)
	// Output:
	// bank "" closed
	// bank "report" open
	// bank "look" closed
	// <nil>
}

// Store keeps files.
type Store interface {
	Put(ctx context.Context, name string, body io.Reader) (string, error)
}

type store struct{}

func (store) Put(_ context.Context, name string, body io.Reader) (string, error) {
	n, err := io.Copy(io.Discard, body)
	return fmt.Sprintf("%s, %d bytes", name, n), err
}

// A body of any length: the silence between its reads is bounded, not the total.
func ExampleUpload() {
	stores, err := resilience.New(resilience.Default, []resilience.Member[Store]{{Name: "eu", Provider: store{}}})
	if err != nil {
		panic(err)
	}
	ctx, op, file := context.Background(), resilience.Op{Name: "files.put", Safety: fault.Idempotent}, strings.NewReader("the report")
	receipt, err := resilience.Upload(ctx, stores, op, file, func(ctx context.Context, s Store, body io.Reader) (string, error) {
		return s.Put(ctx, "report.pdf", body)
	})
	fmt.Println(receipt, err)
	// Output: report.pdf, 10 bytes <nil>
}

// A call takes of the rate limit what it is expected to cost, and settles it when
// the cost is known.
func ExampleWithCost() {
	policy := resilience.Default
	policy.Rate, policy.Burst = 1000, 4000 // tokens
	models, err := resilience.New(policy, []resilience.Member[Rates]{{Name: "model", Provider: source(func(string) (float64, error) { return 3, nil })}})
	if err != nil {
		panic(err)
	}
	estimate, op := 2000, resilience.Op{Name: "ai.answer"}
	ctx := resilience.WithCost(context.Background(), estimate)
	_, err = resilience.Do(ctx, models, op, func(ctx context.Context, m Rates) (float64, error) {
		answer, err := m.Rate(ctx, "a question")
		resilience.Spent(ctx, 700) // as the answer says; an adapter does this
		return answer, err
	})
	fmt.Println(err)
	// Output: <nil>
}

// counted counts the calls of a provider.
type counted struct {
	Rates
	n *atomic.Int64
}

// Rate counts and asks.
func (c counted) Rate(ctx context.Context, currency string) (float64, error) {
	c.n.Add(1)
	return c.Rates.Rate(ctx, currency)
}

// Unwrap shows whom it decorates.
func (c counted) Unwrap() Rates { return c.Rates }

// bank is a Client: a provider that is made of providers, and shows it.
type bank struct{ group *resilience.Group[Rates] }

// Rate is one statement.
func (b bank) Rate(ctx context.Context, currency string) (float64, error) {
	return resilience.Call(ctx, b.group, resilience.Op{Name: "rates.rate", Safety: fault.Read}, Rates.Rate, currency)
}

// Control shows what it is made of.
func (b bank) Control() *resilience.Control { return b.group.Control }

// A Client inside a Client, behind a decorator.
func ExampleControl() {
	inner := bank{rates()}
	outer, err := resilience.New(resilience.Default, []resilience.Member[Rates]{{Name: "eu", Provider: counted{inner, new(atomic.Int64)}}})
	if err != nil {
		panic(err)
	}
	for _, s := range outer.Inspect() {
		fmt.Println(s.Name)
	}
	// Output:
	// eu/central-bank
	// eu/exchange
}
