package lockmgr_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-io/holdfast/deploy/local"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
	"github.com/holdfast-io/holdfast/lockmgr"
)

// startEtcd starts an etcd that the test may stop.
func startEtcd(t testing.TB) *local.Etcd {
	t.Helper()
	etcd, err := local.StartEtcd(t.Context(), local.EtcdConfig{Dir: t.TempDir(), Logger: localtest.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Stop)
	return etcd
}

// A rival can own the lock one TTL after the last renewal, so the holder must have
// been told before.
func TestLockContextEndsWhenEtcdIsGone(t *testing.T) {
	const ttl = 2 * time.Second
	etcd := startEtcd(t)
	m := start(t, connect(t, etcd.Endpoint()), "/locks", "a", ttl)
	lock := acquire(t, m, "x")
	etcd.Stop()
	stopped := time.Now()
	awaitClosed(t, lock.Context().Done(), "the end of the lock")
	if took := time.Since(stopped); took > ttl {
		t.Errorf("lock ended %v after etcd, with a TTL of %v", took, ttl)
	}
	if cause := context.Cause(lock.Context()); !errors.Is(cause, lockmgr.ErrExpired) {
		t.Errorf("lock ended with %v", cause)
	}
}

// Work that is stuck must not keep others from doing it.
func TestLockOfStuckWorkExpires(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	stuck := start(t, client, prefix, "stuck", time.Second, func(name string) bool { return name != "x" })
	rival := start(t, client, prefix, "rival", time.Second)
	lock, idle := acquire(t, stuck, "x"), acquire(t, stuck, "y")
	acquire(t, rival, "x")
	if cause := context.Cause(lock.Context()); !errors.Is(cause, lockmgr.ErrExpired) {
		t.Errorf("lock ended with %v", cause)
	}
	if idle.Context().Err() != nil {
		t.Error("the other lock ended too")
	}
}

// Nothing may block on a dead etcd for longer than its caller wants to wait.
func TestCallsEndWithTheirContextWhenEtcdIsGone(t *testing.T) {
	etcd := startEtcd(t)
	m := start(t, connect(t, etcd.Endpoint()), "/locks", "a", longTTL)
	lock := acquire(t, m, "held")
	holder, err := m.Holder(t.Context(), "held")
	if err != nil {
		t.Fatal(err)
	}
	etcd.Stop()
	for _, call := range []struct {
		name string
		do   func(ctx context.Context) error
	}{
		{"acquire", func(ctx context.Context) error { _, err := m.Acquire(ctx, "x"); return err }},
		{"try acquire", func(ctx context.Context) error { _, err := m.TryAcquire(ctx, "x"); return err }},
		{"holder", func(ctx context.Context) error { _, err := m.Holder(ctx, "x"); return err }},
		{"holders", func(ctx context.Context) error { _, err := m.Holders(ctx); return err }},
		{"evict", func(ctx context.Context) error { _, err := m.Evict(ctx, holder); return err }},
		{"release", lock.Release},
		{"drain", m.Drain},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		began := time.Now()
		err := call.do(ctx)
		cancel()
		if took := time.Since(began); err == nil || took > patience/10 {
			t.Errorf("%s returned %v after %v", call.name, err, took)
		}
	}
}

// Each contender loses its connection while it owns, and finds out by itself. Whoever
// owns next looks whether anybody still believes.
func TestTwoAcquirersNeverBothBelieve(t *testing.T) {
	const ttl, turns = time.Second, 4
	_, prefix := localtest.Etcd(t)
	var believers believers
	var wg sync.WaitGroup
	for _, owner := range []string{"a", "b"} {
		p := newProxy(t, localtest.EtcdEndpoint(t))
		m := start(t, connect(t, p.Endpoint()), prefix, owner, ttl)
		wg.Go(func() {
			for range turns {
				lock, err := m.Acquire(t.Context(), "x")
				if err != nil {
					t.Log("acquire after a freeze:", err)
					continue
				}
				believers.add(t, lock)
				p.Freeze()
				<-lock.Context().Done()
				p.Thaw()
			}
		})
	}
	wg.Wait()
	if len(believers.locks) < turns {
		t.Errorf("only %d turns", len(believers.locks))
	}
}

type believers struct {
	mu    sync.Mutex
	locks []*lockmgr.Lock
}

// add checks that nobody believes in an older lock.
func (b *believers) add(t *testing.T, lock *lockmgr.Lock) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, old := range b.locks {
		if old.Context().Err() == nil {
			t.Errorf("owner with token %d still believes, while there is one with token %d", old.Token(), lock.Token())
		}
		if old.Token() >= lock.Token() {
			t.Errorf("token %d after %d", lock.Token(), old.Token())
		}
	}
	b.locks = append(b.locks, lock)
}

// A watch that cannot go on where it was must not cost the waiter its place.
func TestPausedWaiterKeepsItsPlaceOverCompaction(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	p := newProxy(t, localtest.EtcdEndpoint(t))
	holder, rival := start(t, client, prefix, "holder", longTTL), start(t, client, prefix, "rival", longTTL)
	paused := start(t, connect(t, p.Endpoint()), prefix, "paused", longTTL)

	first := acquire(t, holder, "x")
	waiter := enqueue(t, paused, client, prefix, "x")
	if _, err := paused.Holder(t.Context(), "x"); err != nil { // over the same connection: it has heard of its place
		t.Fatal(err)
	}
	p.Cut()
	third := enqueue(t, rival, client, prefix, "x")
	release(t, first)
	compact(t, client, prefix)
	p.Restore()
	lock := await(t, waiter)
	select {
	case got := <-third:
		t.Errorf("the third in the queue overtook: %+v", got)
	default:
	}
	release(t, lock)
	await(t, third)
}

// compact makes etcd forget everything that happened until now.
func compact(t *testing.T, client *clientv3.Client, prefix string) {
	t.Helper()
	resp, err := client.Put(t.Context(), prefix, "raises the revision")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), resp.Header.Revision); err != nil {
		t.Fatal(err)
	}
}

// Who keeps a lock because nobody seems to want it must not overlook those who came
// while the watch was away.
func TestContentionIsSeen(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	p := newProxy(t, localtest.EtcdEndpoint(t))
	a := start(t, connect(t, p.Endpoint()), prefix, "a", longTTL)
	b := start(t, client, prefix, "b", longTTL)
	lock, other := acquire(t, a, "x"), acquire(t, a, "y")
	p.Cut()
	enqueue(t, b, client, prefix, "x")
	compact(t, client, prefix)
	p.Restore()
	awaitClosed(t, contention(lock), "contention")
	enqueue(t, b, client, prefix, "y")
	awaitClosed(t, contention(other), "contention over the new watch")
}
