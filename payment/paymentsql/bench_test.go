package paymentsql_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smilefactory/integrations/internal/sqldbtest"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymenttest"
)

var databases = map[string]func(testing.TB) string{"sqlite": sqldbtest.SQLite, "postgres": sqldbtest.Postgres}

// BenchmarkUpdate is what a step of a payment costs: one transaction.
func BenchmarkUpdate(b *testing.B) {
	for name, database := range databases {
		for _, at := range []int{1, 16} { // times the number of processors
			b.Run(fmt.Sprintf("%s/%dx", name, at), func(b *testing.B) {
				j, _ := open(b, database(b))
				b.SetParallelism(at)
				var orders atomic.Int64
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					k := payment.Key{Tenant: "shop", Order: fmt.Sprint("order-", orders.Add(1))}
					for pb.Next() {
						_, err := j.Update(b.Context(), k, func(_ context.Context, e *payment.Entry) error {
							e.Order, e.Updated = *order(k.Order), time.Now()
							e.Attempts = []payment.AttemptRecord{{Number: 1, Provider: "bank", PaymentID: "pay_" + k.Order, State: payment.AttemptCommitting}}
							return nil
						})
						if err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}

// BenchmarkCharge is a whole charge at a provider that takes no time.
func BenchmarkCharge(b *testing.B) {
	for name, database := range databases {
		for _, at := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/%dx", name, at), func(b *testing.B) {
				j, _ := open(b, database(b))
				var bank paymenttest.Bank
				pay, err := payment.New(&bank, payment.WithJournal(j))
				if err != nil {
					b.Fatal(err)
				}
				b.SetParallelism(at)
				var orders atomic.Int64
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if _, err := pay.Charge(b.Context(), order(fmt.Sprint("order-", orders.Add(1)))); err != nil {
							b.Error(err)
						}
					}
				})
				if err := pay.Close(context.WithoutCancel(b.Context())); err != nil {
					b.Error(err)
				}
			})
		}
	}
}
