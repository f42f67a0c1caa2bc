// Package queue compares the queue in a SQLite file with a queue on bbolt, the
// other embedded database of Go services: the same payload, both synced to the
// disk, one beside the other.
//
//	make bench-queue
//
// bbolt is given the least work that a queue can have (no kinds, priorities,
// expiry, dedupe or dead letters, one process), and the best settings found for
// this load.
package queue

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/smilefactory/integrations/queue"
	"github.com/smilefactory/integrations/queue/sqlite"
)

// payloadBytes is that of a mail of some size.
const payloadBytes = 4 << 10

// durable is what both can do.
type durable interface {
	enqueue(payload []byte) error
	// work claims and settles n jobs, by so many workers.
	work(n, workers int) error
}

var libs = []struct {
	name string
	open func(b *testing.B) durable
}{
	{"sqlite", openSQLite},
	{"bbolt", openBolt},
}

func BenchmarkEnqueue(b *testing.B) {
	for _, writers := range []int{1, 32} {
		for _, lib := range libs {
			b.Run(fmt.Sprintf("writers=%d/lib=%s", writers, lib.name), func(b *testing.B) { enqueue(b, lib.open(b), writers) })
		}
	}
}

func BenchmarkWork(b *testing.B) {
	for _, workers := range []int{1, 32} {
		for _, lib := range libs {
			b.Run(fmt.Sprintf("workers=%d/lib=%s", workers, lib.name), func(b *testing.B) {
				q := lib.open(b)
				fill(b, q, b.N)
				b.ResetTimer()
				if err := q.work(b.N, workers); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
			})
		}
	}
}

func payload() []byte {
	p := make([]byte, payloadBytes)
	_, _ = rand.Read(p)
	return p
}

// enqueue also reports the time within which 99 of 100 callers had their answer.
func enqueue(b *testing.B, q durable, writers int) {
	took := make([]time.Duration, b.N)
	var next atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for range writers {
		all.Go(func() {
			p := payload()
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				start := time.Now()
				if err := q.enqueue(p); err != nil {
					b.Error(err)
					return
				}
				took[i] = time.Since(start)
			}
		})
	}
	all.Wait()
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	b.ReportMetric(float64(took[b.N*99/100].Microseconds()), "p99-µs")
}

func fill(b *testing.B, q durable, n int) {
	b.Helper()
	var all sync.WaitGroup
	for w := range 32 {
		all.Go(func() {
			p := payload()
			for i := w; i < n; i += 32 {
				if err := q.enqueue(p); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

type inSQLite struct{ *sqlite.Queue }

func openSQLite(b *testing.B) durable {
	q, err := sqlite.Open(b.Context(), filepath.Join(b.TempDir(), "queue.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = q.Close(context.Background()) })
	return inSQLite{q}
}

func (q inSQLite) enqueue(p []byte) error {
	_, err := q.Enqueue(context.Background(), queue.Job{Kind: "email.send", Payload: p})
	return err
}

func (q inSQLite) work(n, workers int) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var done atomic.Int64
	return q.Run(ctx, map[string]queue.Handler{"email.send": func(context.Context, queue.Delivery) error { return nil }},
		queue.With(func(o *queue.RunOptions) {
			o.Workers = workers
			o.Observe = func(e queue.Event) {
				if e.Type != queue.Finished || done.Add(1) == int64(n) {
					cancel()
				}
			}
		}))
}

// inBolt has payloads by number, and the leases of those that are claimed.
type inBolt struct {
	db   *bbolt.DB
	next atomic.Uint64 // to be claimed; of this process alone
}

var jobs, leases = []byte("jobs"), []byte("leases")

func openBolt(b *testing.B) durable {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "queue.bolt"), 0o600, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	// As it is, it waits 10 ms for 1000 callers; with 32 there are never as many.
	db.MaxBatchSize, db.MaxBatchDelay = boltBatch, boltDelay
	// What bbolt says on top of the defaults for many writes.
	db.FreelistType, db.NoFreelistSync = bbolt.FreelistMapType, true
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(jobs)
		_, err2 := tx.CreateBucket(leases)
		return errors.Join(err, err2)
	})
	if err != nil {
		b.Fatal(err)
	}
	return &inBolt{db: db}
}

const (
	boltBatch = 32
	boltDelay = 200 * time.Microsecond
)

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func (q *inBolt) enqueue(p []byte) error {
	return q.db.Batch(func(tx *bbolt.Tx) error {
		b := tx.Bucket(jobs)
		n, err := b.NextSequence()
		if err != nil {
			return err
		}
		return b.Put(number(n), p)
	})
}

func (q *inBolt) work(n, workers int) error {
	var all sync.WaitGroup
	failed := make(chan error, workers)
	for range workers {
		all.Go(func() {
			for i := q.next.Add(1); i <= uint64(n); i = q.next.Add(1) {
				if err := q.one(number(i)); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	all.Wait()
	close(failed)
	return <-failed
}

func (q *inBolt) one(key []byte) error {
	var p []byte
	err := q.db.Batch(func(tx *bbolt.Tx) error {
		p = append(p[:0], tx.Bucket(jobs).Get(key)...)
		return tx.Bucket(leases).Put(key, number(uint64(time.Now().Add(time.Minute).UnixMilli())))
	})
	if err != nil || len(p) != payloadBytes {
		return errors.Join(err, fmt.Errorf("claimed %d bytes", len(p)))
	}
	return q.db.Batch(func(tx *bbolt.Tx) error {
		return errors.Join(tx.Bucket(leases).Delete(key), tx.Bucket(jobs).Delete(key))
	})
}
