package lockmgr_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
	"github.com/holdfast-io/holdfast/lockmgr"
)

// Work that was taken over is refused by its fence, so the sooner its holder stops,
// the less it does in vain. Its lease lives on, and no renewal would ever tell it.
func TestEvictedHolderLearnsItAtOnce(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	a, b := start(t, client, prefix, "a", longTTL), start(t, client, prefix, "b", longTTL)
	fastest := patience
	for range 5 {
		lock, other := acquire(t, a, "x"), acquire(t, a, "y")
		began := time.Now()
		evict(t, b, "x")
		awaitClosed(t, lock.Context().Done(), "the end of the evicted lock")
		fastest = min(fastest, time.Since(began))
		wantLost(t, lock)
		if other.Context().Err() != nil {
			t.Error("the other lock ended too")
		}
		release(t, other)
	}
	t.Log("fastest end", fastest)
	if fastest > 250*time.Millisecond {
		t.Errorf("fastest end took %v", fastest)
	}
}

// evict evicts whoever holds name, and returns who that was.
func evict(t testing.TB, m *lockmgr.Manager, name string) lockmgr.Holder {
	t.Helper()
	holder, err := m.Holder(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Evict(t.Context(), holder); err != nil {
		t.Fatal(err)
	}
	return holder
}

func wantLost(t testing.TB, lock *lockmgr.Lock) {
	t.Helper()
	if cause := context.Cause(lock.Context()); !errors.Is(cause, lockmgr.ErrLost) {
		t.Errorf("lock ended with %v", cause)
	}
}

// A worker that looks, hesitates and then evicts must not hit whoever came since.
func TestEvictNeverDeletesANewerLock(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	a, b := start(t, client, prefix, "a", longTTL), start(t, client, prefix, "b", longTTL)

	t.Run("of another holder", func(t *testing.T) {
		acquire(t, a, "x")
		stale := evict(t, b, "x")
		wantSpared(t, client, prefix, b, stale, acquire(t, b, "x"))
	})
	t.Run("of the same holder", func(t *testing.T) {
		release(t, acquire(t, a, "y"))
		old := acquire(t, a, "y")
		stale, err := b.Holder(t.Context(), "y")
		if err != nil {
			t.Fatal(err)
		}
		release(t, old)
		wantSpared(t, client, prefix, b, stale, acquire(t, a, "y"))
	})
	t.Run("of those who wait", func(t *testing.T) {
		acquire(t, a, "w")
		waiter := enqueue(t, b, client, prefix, "w")
		place := keys(t, client, prefix+"w/")[1]
		evict(t, b, "w")
		await(t, waiter)
		if key := keys(t, client, prefix+"w/")[0]; key.CreateRevision != place.CreateRevision {
			t.Errorf("the waiter's place went from %d to %d", place.CreateRevision, key.CreateRevision)
		}
	})
	t.Run("confirmed since", func(t *testing.T) {
		first := acquire(t, a, "z")
		waiter := enqueue(t, b, client, prefix, "z")
		place := keys(t, client, prefix+"z/")[1]
		// What Holder returns between the end of the first lock and the confirmation.
		unconfirmed := lockmgr.Holder{Name: "z", Owner: "b", Token: place.CreateRevision, Key: place.Key}
		release(t, first)
		wantSpared(t, client, prefix, a, unconfirmed, await(t, waiter))
	})
}

// wantSpared evicts a holder that was seen in the past, and checks that the newer lock
// of the name does not mind.
func wantSpared(t *testing.T, client *clientv3.Client, prefix string, m *lockmgr.Manager, stale lockmgr.Holder, newer *lockmgr.Lock) {
	t.Helper()
	if _, err := m.Evict(t.Context(), stale); err != nil {
		t.Errorf("evict who has left: %v", err)
	}
	all := keys(t, client, prefix+newer.Name()+"/")
	if len(all) != 1 || all[0].ModRevision != newer.Token() {
		t.Errorf("etcd has %+v, want the newer lock with token %d", all, newer.Token())
	}
}

// The news of an eviction are lost for good if etcd has forgotten them when the watch
// is back: then the keys have to tell.
func TestEvictedHolderLearnsItAfterAWatchOutage(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	p := newProxy(t, localtest.EtcdEndpoint(t))
	a := start(t, connect(t, p.Endpoint()), prefix, "a", longTTL)
	b := start(t, client, prefix, "b", longTTL)
	evicted, kept := acquire(t, a, "x"), acquire(t, a, "y")
	p.Cut()
	evict(t, b, "x")
	compact(t, client, prefix)
	newer := acquire(t, b, "x")
	p.Restore()
	awaitClosed(t, evicted.Context().Done(), "the end of the evicted lock")
	wantLost(t, evicted)
	if kept.Context().Err() != nil || newer.Context().Err() != nil {
		t.Error("other locks ended too")
	}
	evict(t, b, "y")
	awaitClosed(t, kept.Context().Done(), "the end of the other lock over the new watch")
}

// etcd ends leases one by one and waits for its disk each time, so a dead worker's ten
// thousand would take half a minute.
func TestEvictDoesNotWaitForTheLease(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	p := newProxy(t, localtest.EtcdEndpoint(t))
	dead := start(t, connect(t, p.Endpoint()), prefix, "dead", longTTL)
	heir := start(t, client, prefix, "heir", longTTL)
	acquire(t, dead, "x")
	lease := keys(t, client, prefix)[0].Lease
	p.Cut()
	evict(t, heir, "x")
	acquire(t, heir, "x")
	left, err := client.TimeToLive(t.Context(), lease)
	if err != nil || left.TTL <= 0 {
		t.Errorf("lease of the dead holder: %+v, %v; want it to end by itself", left, err)
	}
}

// An eviction whose answer was lost is repeated by whoever wants the lock, and by then
// somebody else may own it.
func TestLostEvictIsRepeatable(t *testing.T) {
	for _, lost := range []direction{request, reply} {
		t.Run(string(lost), func(t *testing.T) {
			direct, prefix := localtest.Etcd(t)
			w := new(wire)
			a := start(t, direct, prefix, "a", longTTL)
			b := start(t, connect(t, localtest.EtcdEndpoint(t), w.option()), prefix, "b", longTTL)
			acquire(t, a, "x")
			holder, err := b.Holder(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			w.lose(lost, isJoin, nil) // compares one thing, as an eviction does
			if _, err := b.Evict(t.Context(), holder); err == nil {
				t.Error("evict did not say that it may have failed")
			}
			if _, err := b.Evict(t.Context(), holder); err != nil {
				t.Error(err)
			}
			newer := acquire(t, b, "x")
			wantSpared(t, direct, prefix, b, holder, newer)
		})
	}
}

// Leases are what is dear in etcd: neither a lock nor a refusal costs one.
func TestLocksAndRefusalsCostNoLease(t *testing.T) {
	direct, prefix := localtest.Etcd(t)
	w := new(wire)
	a := start(t, direct, prefix, "a", longTTL)
	b := start(t, connect(t, localtest.EtcdEndpoint(t), w.option()), prefix, "b", longTTL)
	lock := acquire(t, a, "x")
	grants, revocations := w.count(isGrant), w.count(isRevoke)
	for range 10 {
		if _, err := b.TryAcquire(t.Context(), "x"); !errors.Is(err, lockmgr.ErrHeld) {
			t.Fatalf("got %v, want ErrHeld", err)
		}
	}
	waiter := enqueue(t, b, direct, prefix, "x")
	if grants() != 1 || revocations() != 0 {
		t.Errorf("%d grants and %d revocations", grants(), revocations())
	}
	release(t, lock)
	wantToken(t, direct, prefix, await(t, waiter))
	acquire(t, b, "y")
	if grants() != 1 || revocations() != 0 {
		t.Errorf("%d grants and %d revocations for two locks", grants(), revocations())
	}
}

// Whether a Txn without an answer put its key is not known. Its lease lives on with
// the others that hang on it, so the key has to go.
func TestKeyOfALostTxnIsDeleted(t *testing.T) {
	for _, lost := range []direction{request, reply} {
		t.Run(string(lost), func(t *testing.T) {
			direct, prefix := localtest.Etcd(t)
			w := new(wire)
			m := start(t, connect(t, localtest.EtcdEndpoint(t), w.option()), prefix, "a", longTTL)
			kept := acquire(t, m, "kept")
			w.lose(lost, isJoin, nil)
			if _, err := m.TryAcquire(t.Context(), "x"); err == nil {
				t.Error("the lost message was not noticed")
			}
			awaitKeys(t, direct, prefix, 1)
			if kept.Context().Err() != nil {
				t.Error("the other lock on the lease has ended")
			}
		})
	}
}

// A request that was given up may reach etcd after its key was deleted. The lease it
// hangs on lives, so nobody else would ever remove it.
func TestKeyThatComesLateIsDeleted(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	m := start(t, client, prefix, "a", longTTL)
	acquire(t, m, "kept")
	kept := keys(t, client, prefix)[0]
	late := strings.Replace(kept.Key, "kept", "x", 1) + "ff" // a number that no claim has
	if _, err := client.Put(t.Context(), late, "a", clientv3.WithLease(kept.Lease)); err != nil {
		t.Fatal(err)
	}
	awaitKeys(t, client, prefix, 1)
	acquire(t, m, "x")
}

// A lease may be gone when the next lock is to hang on it.
func TestLeaseThatIsGoneIsNoError(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	a, b := start(t, client, prefix, "a", longTTL), start(t, client, prefix, "b", longTTL)
	acquire(t, a, "x")
	before := leases(t, client)
	if _, err := b.TryAcquire(t.Context(), "x"); !errors.Is(err, lockmgr.ErrHeld) {
		t.Fatalf("got %v, want ErrHeld", err)
	}
	for id := range leases(t, client) {
		if !before[id] {
			if _, err := client.Revoke(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}
	}
	acquire(t, b, "y")
}

func leases(t *testing.T, client *clientv3.Client) map[clientv3.LeaseID]bool {
	t.Helper()
	resp, err := client.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[clientv3.LeaseID]bool)
	for _, l := range resp.Leases {
		ids[l.ID] = true
	}
	return ids
}
