package emailsql_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/internal/sqldbtest"
)

// BenchmarkKey is what a key costs a mail: two transactions, Begin and End.
func BenchmarkKey(b *testing.B) {
	for name, database := range map[string]func(testing.TB) string{"sqlite": sqldbtest.SQLite, "postgres": sqldbtest.Postgres} {
		for _, at := range []int{1, 16} { // times the number of processors
			b.Run(fmt.Sprintf("%s/%dx", name, at), func(b *testing.B) {
				r, _ := open(b, database(b))
				b.SetParallelism(at)
				receipt := &email.Receipt{ID: "m-1", Recipients: []email.Recipient{{Address: "grace@example.org", Status: email.StatusAccepted}}}
				var keys atomic.Int64
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						now := time.Now()
						key := fmt.Sprint(keys.Add(1))
						known, err := r.Begin(b.Context(), key, hash, now, now.Add(-stale), now.Add(day))
						if err != nil {
							b.Error(err)
						}
						if err := r.End(b.Context(), key, known.Token, receipt); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}
