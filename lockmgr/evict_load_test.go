package lockmgr_test

import (
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
	"github.com/holdfast-io/holdfast/lockmgr"
)

// BenchmarkTryHeld asks for a lock that somebody else holds, many at a time: a Txn.
func BenchmarkTryHeld(b *testing.B) {
	client, prefix := localtest.Etcd(b)
	holder, m := start(b, client, prefix, "holder", benchTTL), start(b, client, prefix, "a", benchTTL)
	acquire(b, holder, "x")
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := m.TryAcquire(b.Context(), "x"); !errors.Is(err, lockmgr.ErrHeld) {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkEvict takes over all locks of a manager that died, as many at a time as
// there are buyers who wait: two Txns and a watch event each.
func BenchmarkEvict(b *testing.B) {
	const n = 1000
	for b.Loop() {
		b.StopTimer()
		client, prefix := localtest.Etcd(b)
		p := newProxy(b, localtest.EtcdEndpoint(b))
		dead := startQuiet(b, connect(b, p.Endpoint()), prefix)
		heir := startQuiet(b, client, prefix)
		acquireMany(b, dead, n)
		p.Cut()
		b.StartTimer()
		began := time.Now()
		evictMany(b, heir, n)
		b.ReportMetric(n/time.Since(began).Seconds(), "takeovers/s")
	}
}

// startQuiet runs a manager that logs nothing, until the test ends.
func startQuiet(b *testing.B, client *clientv3.Client, prefix string) *lockmgr.Manager {
	m, stop := startStoppable(b, lockmgr.Config{Client: client, Prefix: prefix, Owner: "heir", TTL: benchTTL})
	b.Cleanup(stop)
	return m
}

// evictMany takes over n locks, some at a time.
func evictMany(b *testing.B, heir *lockmgr.Manager, n int) {
	b.Helper()
	const atATime = 64
	var wg sync.WaitGroup
	for first := range atATime {
		wg.Go(func() {
			for i := first; i < n; i += atATime {
				if err := takeOver(b, heir, "lock/"+strconv.Itoa(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// takeOver does what a worker does that finds the holder dead.
func takeOver(b *testing.B, heir *lockmgr.Manager, name string) error {
	_, err := heir.TryAcquire(b.Context(), name)
	if held := new(lockmgr.HeldError); errors.As(err, &held) {
		_, err = heir.Evict(b.Context(), held.Holder)
	}
	if err == nil {
		_, err = heir.Acquire(b.Context(), name)
	}
	return err
}
