package lockmgr

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
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
	m.begin()
	locks := make([]*Lock, n)
	for i := range locks {
		c, err := m.claim(t.Context(), fmt.Sprintf("lock/%08d", i))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.own(c); err != nil {
			t.Fatal(err)
		}
		locks[i] = m.lock(c, 1)
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

// Leases are what costs etcd, not keys: locks share them, and no more than is said
// hang on one.
func TestLocksShareLeases(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	m, err := New(Config{Client: client, Prefix: prefix, Owner: "a"})
	if err != nil {
		t.Fatal(err)
	}
	m.begin()
	var claims []*claim
	for i := range 2*claimsPerLease + 1 {
		c, err := m.claim(t.Context(), fmt.Sprint(i%10)) // also one name many times
		if err != nil {
			t.Fatal(err)
		}
		claims = append(claims, c)
	}
	keys := map[string]bool{}
	for _, c := range claims {
		keys[c.key] = true
	}
	if len(m.leases) != 3 || len(keys) != len(claims) {
		t.Errorf("%d acquisitions have %d leases and %d keys", len(claims), len(m.leases), len(keys))
	}
	for _, c := range claims[1:] {
		m.retire(c, ErrReleased)
	}
	if _, err := m.claim(t.Context(), "again"); err != nil || len(m.leases) != 3 {
		t.Errorf("a lease with room was not used: %d leases, %v", len(m.leases), err)
	}
}

// A lock whose work does not get on is let go after about a TTL, alone: the others on
// its lease go on.
func TestStuckLockIsLetGoAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &Manager{leases: map[clientv3.LeaseID]*lease{}, byName: map[string][]*claim{}, log: hclog.NewNullLogger()}
		m.freer = newFreer(nil, m.lives)
		m.freer.stop() // etcd is not of this test
		working := true
		m.alive = func(name string) bool { return name != "stuck" || working }
		l := newLease(1, newTrust(time.Now(), testTTL))
		stuck, other := newClaim(m, l, "stuck", 1), newClaim(m, l, "other", 2)
		for _, c := range []*claim{stuck, other} {
			c.state = owning
			l.claims[c], m.byName[c.name] = struct{}{}, []*claim{c}
		}
		look := func(after time.Duration) { time.Sleep(after); m.checkAlive(l) }
		working = false
		look(0)
		look(testTTL / 2)
		working = true
		look(testTTL / 10) // in time
		working = false
		look(testTTL)
		look(testTTL / 2)
		if stuck.ctx.Err() != nil {
			t.Fatal("let go before its time")
		}
		look(testTTL / 2)
		if !errors.Is(context.Cause(stuck.ctx), ErrExpired) || other.ctx.Err() != nil {
			t.Errorf("stuck: %v, other: %v", context.Cause(stuck.ctx), context.Cause(other.ctx))
		}
	})
}
