package lockmgr_test

import (
	"context"
	"errors"
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
	if err := m.Evict(t.Context(), holder); err != nil {
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
		unconfirmed := lockmgr.Holder{Name: "z", Owner: "b", Token: place.CreateRevision, Lease: place.Lease}
		release(t, first)
		wantSpared(t, client, prefix, a, unconfirmed, await(t, waiter))
	})
}

// wantSpared evicts a holder that was seen in the past, and checks that the newer lock
// of the name does not mind.
func wantSpared(t *testing.T, client *clientv3.Client, prefix string, m *lockmgr.Manager, stale lockmgr.Holder, newer *lockmgr.Lock) {
	t.Helper()
	if err := m.Evict(t.Context(), stale); err != nil {
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
	p.Cut()
	holder := evict(t, heir, "x")
	acquire(t, heir, "x")
	left, err := client.TimeToLive(t.Context(), holder.Lease)
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
			if err := b.Evict(t.Context(), holder); err == nil {
				t.Error("evict did not say that it may have failed")
			}
			if err := b.Evict(t.Context(), holder); err != nil {
				t.Error(err)
			}
			newer := acquire(t, b, "x")
			wantSpared(t, direct, prefix, b, holder, newer)
		})
	}
}

// A buyer who finds a product sold elsewhere must not cost etcd the end of a lease,
// of which it manages few hundreds a second.
func TestRefusalCostsNoLease(t *testing.T) {
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
	if grants() != 2 {
		t.Errorf("%d grants for two acquisitions: a lease was shared", grants())
	}
}

// Whether a Txn without an answer put its key is not known, so its lease may guard a
// name already.
func TestLeaseOfALostTxnIsNotUsedAgain(t *testing.T) {
	for _, lost := range []direction{request, reply} {
		t.Run(string(lost), func(t *testing.T) {
			direct, prefix := localtest.Etcd(t)
			w := new(wire)
			m := start(t, connect(t, localtest.EtcdEndpoint(t), w.option()), prefix, "a", longTTL)
			grants := w.count(isGrant)
			w.lose(lost, isJoin, nil)
			if _, err := m.TryAcquire(t.Context(), "x"); err == nil {
				t.Error("the lost message was not noticed")
			}
			acquire(t, m, "y")
			if grants() != 2 {
				t.Errorf("%d grants for two acquisitions", grants())
			}
			awaitKeys(t, direct, prefix, 1)
		})
	}
}

// A lease that guarded nothing may be gone when its turn comes, like any other.
func TestSpareLeaseThatIsGoneIsNoError(t *testing.T) {
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
