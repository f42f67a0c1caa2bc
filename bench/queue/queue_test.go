// Package queue compares the queue in a SQLite file with a queue on bbolt, the
// other embedded database of Go services: the same payload, both synced to the
// disk, one beside the other.
//
//	make bench-queue
//
// bbolt serves one process, and has less to do here: no kinds, priorities,
// expiry, dedupe or dead letters. It is shown as it is, and tuned for the number of
// callers, which a service doesn't know.
package queue

import (
	"bytes"
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
	open func(b *testing.B, callers int) durable
}{
	{"sqlite", openSQLite},
	{"bbolt", openBolt},
	{"bbolt-tuned", openTuned},
	{"bbolt-log", openLog},
}

func BenchmarkEnqueue(b *testing.B) {
	for _, writers := range []int{1, 32} {
		for _, lib := range libs {
			b.Run(fmt.Sprintf("writers=%d/lib=%s", writers, lib.name), func(b *testing.B) { enqueue(b, lib.open(b, writers), writers) })
		}
	}
}

func BenchmarkWork(b *testing.B) {
	for _, workers := range []int{1, 32} {
		for _, lib := range libs {
			b.Run(fmt.Sprintf("workers=%d/lib=%s", workers, lib.name), func(b *testing.B) {
				workOff(b, lib.open(b, 32), workers) // fill has as many callers
			})
		}
	}
}

func workOff(b *testing.B, q durable, workers int) {
	fill(b, q, b.N)
	b.ResetTimer()
	if err := q.work(b.N, workers); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
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

func openSQLite(b *testing.B, _ int) durable {
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

// inBolt has each job under its id, an index of those that are ready, and one of
// those that are leased, by the lease's end.
type inBolt struct{ db *bbolt.DB }

var jobs, ready, leases = []byte("jobs"), []byte("ready"), []byte("leases")

func newBolt(b *testing.B, buckets ...[]byte) *bbolt.DB {
	// What bbolt's documentation says for many writes. Every commit is synced.
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "queue.bolt"), 0o600, &bbolt.Options{FreelistType: bbolt.FreelistMapType, NoFreelistSync: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	for _, name := range buckets {
		if err := db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket(name); return err }); err != nil {
			b.Fatal(err)
		}
	}
	return db
}

// tune makes a batch of as many callers as there are; it waits for the last of
// them for a millisecond. Of what was tried, that was the fastest by far.
func tune(db *bbolt.DB, callers int) *bbolt.DB {
	db.MaxBatchSize, db.MaxBatchDelay = callers, time.Millisecond
	return db
}

func openBolt(b *testing.B, _ int) durable { return inBolt{newBolt(b, jobs, ready, leases)} }

func openTuned(b *testing.B, callers int) durable {
	return inBolt{tune(newBolt(b, jobs, ready, leases), callers)}
}

func (q inBolt) enqueue(p []byte) error {
	id := []byte(fmt.Sprintf("%013d", time.Now().UnixMilli()) + rand.Text()[:13])
	return q.db.Batch(func(tx *bbolt.Tx) error {
		b := tx.Bucket(jobs)
		if b.Get(id) != nil {
			return errors.New("the id is known")
		}
		return errors.Join(b.Put(id, p), tx.Bucket(ready).Put(id, nil))
	})
}

func (q inBolt) work(n, workers int) error {
	return each(n, workers, func(uint64) error {
		var id, lease []byte
		size := 0
		err := q.db.Batch(func(tx *bbolt.Tx) error {
			k, _ := tx.Bucket(ready).Cursor().First()
			id = append(id[:0], k...)
			lease = append(number(uint64(time.Now().Add(time.Minute).UnixMilli())), id...)
			size = len(bytes.Clone(tx.Bucket(jobs).Get(id)))
			return errors.Join(tx.Bucket(ready).Delete(id), tx.Bucket(leases).Put(lease, id))
		})
		if err != nil || size != payloadBytes {
			return errors.Join(err, fmt.Errorf("claimed %d bytes", size))
		}
		return q.db.Batch(func(tx *bbolt.Tx) error {
			return errors.Join(tx.Bucket(leases).Delete(lease), tx.Bucket(jobs).Delete(id))
		})
	})
}

// each does n things, by so many goroutines.
func each(n, workers int, do func(i uint64) error) error {
	var next atomic.Uint64
	var all sync.WaitGroup
	failed := make(chan error, workers)
	for range workers {
		all.Go(func() {
			for i := next.Add(1); i <= uint64(n); i = next.Add(1) {
				if err := do(i); err != nil {
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

// log is no queue: it puts payloads by number, and deletes them one after the
// other. No less can be written.
type log struct{ db *bbolt.DB }

func openLog(b *testing.B, callers int) durable { return log{tune(newBolt(b, jobs), callers)} }

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func (l log) enqueue(p []byte) error {
	return l.db.Batch(func(tx *bbolt.Tx) error {
		b := tx.Bucket(jobs)
		n, err := b.NextSequence()
		return errors.Join(err, b.Put(number(n), p))
	})
}

func (l log) work(n, workers int) error {
	return each(n, workers, func(i uint64) error {
		return l.db.Batch(func(tx *bbolt.Tx) error { return tx.Bucket(jobs).Delete(number(i)) })
	})
}
