package lockmgr

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// A process that was stopped looks at its lock before any of its timers has run. Here
// none ever will: the manager lets callers in without the goroutines of Run.
func TestPausedHolderSeesTheEndAtOnce(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	m, err := New(Config{Client: client, Prefix: prefix, Owner: "a", TTL: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	m.begin()
	defer m.reaper.close()
	lock, err := m.Acquire(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.Context().Err(); err != nil {
		t.Fatalf("lock has ended already: %v", err)
	}
	time.Sleep(time.Second)
	select {
	case <-lock.Context().Done():
	default:
		t.Fatal("a select does not see the end")
	}
	if cause := context.Cause(lock.Context()); !errors.Is(cause, ErrExpired) {
		t.Errorf("lock ended with %v", cause)
	}
}

// Ten thousand locks are held at a time: they must fit, without a goroutine each.
func TestHeldLockIsSmall(t *testing.T) {
	const n, most = 10_000, 1500 // bytes
	client, prefix := localtest.Etcd(t)
	m, err := New(Config{Client: client, Prefix: prefix, Owner: "a"})
	if err != nil {
		t.Fatal(err)
	}
	goroutines, before := runtime.NumGoroutine(), heapInUse()
	locks := make([]*Lock, n)
	for i := range locks {
		l := newLease(m, clientv3.LeaseID(i+1), fmt.Sprintf("lock/%08d", i), newTrust(time.Now(), time.Minute))
		if err := errors.Join(m.register(l), m.own(l)); err != nil {
			t.Fatal(err)
		}
		locks[i] = m.lock(l, 1)
		_ = locks[i].Context().Done()
	}
	perLock := (heapInUse() - before) / n
	t.Logf("%d bytes per held lock", perLock)
	if perLock > most || runtime.NumGoroutine() > goroutines+n/100 {
		t.Errorf("%d bytes per held lock, want at most %d; %d goroutines", perLock, most, runtime.NumGoroutine())
	}
	runtime.KeepAlive(locks)
}

func heapInUse() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
