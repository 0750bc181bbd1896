package lockmgr_test

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
	"github.com/holdfast-io/holdfast/lockmgr"
)

// benchTTL is the default.
const benchTTL = 15 * time.Second

// One manager holds very many locks. They must all survive their TTL several times,
// and be free again when it drains.
func TestManyLocksAreHeldUntilDrain(t *testing.T) {
	const n, ttl = 500, 2 * time.Second
	client, prefix := localtest.Etcd(t)
	m := start(t, client, prefix, "a", ttl)
	locks := acquireMany(t, m, n)
	time.Sleep(3 * ttl)
	for _, lock := range locks {
		if lock.Context().Err() != nil {
			t.Fatalf("lock %s ended: %v", lock.Name(), context.Cause(lock.Context()))
		}
	}
	if err := m.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := keys(t, client, prefix); len(left) > 0 {
		t.Errorf("%d keys left after drain", len(left))
	}
}

// acquireMany acquires n locks, some at a time.
func acquireMany(t testing.TB, m *lockmgr.Manager, n int) []*lockmgr.Lock {
	t.Helper()
	const atATime = 64
	locks := make([]*lockmgr.Lock, n)
	var wg sync.WaitGroup
	for first := range atATime {
		wg.Go(func() {
			for i := first; i < n; i += atATime {
				lock, err := m.Acquire(t.Context(), "lock/"+strconv.Itoa(i))
				if err != nil {
					t.Error(err)
					return
				}
				locks[i] = lock
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return locks
}

// BenchmarkAcquire acquires and releases a free lock: a grant, a Txn, a revocation.
func BenchmarkAcquire(b *testing.B) {
	client, prefix := localtest.Etcd(b)
	m := start(b, client, prefix, "a", benchTTL)
	for b.Loop() {
		lock, err := m.Acquire(b.Context(), "x")
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		release(b, lock)
		b.StartTimer()
	}
}

// BenchmarkTakeover hands a lock from owner to waiter: a revocation, a watch event, a
// read, a Txn.
func BenchmarkTakeover(b *testing.B) {
	client, prefix := localtest.Etcd(b)
	m := start(b, client, prefix, "a", benchTTL)
	lock := acquire(b, m, "x")
	for b.Loop() {
		b.StopTimer()
		next := enqueue(b, m, client, prefix, "x")
		b.StartTimer()
		release(b, lock)
		lock = await(b, next)
	}
}

// BenchmarkHold measures what ten thousand held locks cost over a minute.
func BenchmarkHold(b *testing.B) {
	const n, long = 10_000, time.Minute
	client, prefix := localtest.Etcd(b)
	m := start(b, client, prefix, "a", benchTTL)
	for b.Loop() {
		before := heap()
		began := time.Now()
		locks := acquireMany(b, m, n)
		b.ReportMetric(time.Since(began).Seconds(), "s-to-acquire")
		b.ReportMetric(float64(heap()-before)/n, "B/lock")
		b.ReportMetric(float64(runtime.NumGoroutine()), "goroutines")
		time.Sleep(long)
		held := 0
		for _, lock := range locks {
			if lock.Context().Err() == nil {
				held++
			}
		}
		b.ReportMetric(float64(held), "held")
		began = time.Now()
		if err := m.Drain(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s-to-drain")
	}
}

// heap returns the bytes in use, of the embedded server too.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
