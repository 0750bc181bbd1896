package lockmgr_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
	"github.com/holdfast-io/holdfast/lockmgr"
)

// A token from a read could be that of an ownership which is over.
func TestTokenIsRevisionOfConfirmingWrite(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	a, b := start(t, client, prefix, "a", longTTL), start(t, client, prefix, "b", longTTL)
	first := acquire(t, a, "x")
	wantToken(t, client, prefix, first)
	waiter := enqueue(t, b, client, prefix, "x")
	if _, err := client.Put(t.Context(), prefix, "raises the revision"); err != nil {
		t.Fatal(err)
	}
	release(t, first)
	second := await(t, waiter)
	if key := wantToken(t, client, prefix, second); second.Token() <= key.CreateRevision {
		t.Errorf("token %d is not newer than the place %d", second.Token(), key.CreateRevision)
	}
}

func wantToken(t *testing.T, client *clientv3.Client, prefix string, lock *lockmgr.Lock) key {
	t.Helper()
	all := keys(t, client, prefix+"x/")
	if len(all) != 1 || all[0].ModRevision != lock.Token() {
		t.Fatalf("token is %d, etcd has %+v", lock.Token(), all)
	}
	return all[0]
}

type key struct {
	Key                         string
	CreateRevision, ModRevision int64
	Lease                       clientv3.LeaseID
}

// keys returns the keys under the prefix in the order of places.
func keys(t testing.TB, client *clientv3.Client, prefix string) []key {
	t.Helper()
	resp, err := client.Get(t.Context(), prefix, clientv3.WithPrefix(),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
	if err != nil {
		t.Fatal(err)
	}
	var all []key
	for _, kv := range resp.Kvs {
		all = append(all, key{string(kv.Key), kv.CreateRevision, kv.ModRevision, clientv3.LeaseID(kv.Lease)})
	}
	return all
}

// The fence of the guarded work compares tokens, so every owner's must be larger
// than those of all before, however they came to own.
func TestTokensRise(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	const contenders, turns = 4, 10
	tokens := make(chan int64, contenders*turns)
	failures := make(chan error, contenders)
	for i := range contenders {
		m := start(t, client, prefix, string(rune('a'+i)), longTTL)
		go func() { failures <- takeTurns(t.Context(), m, turns, tokens) }()
	}
	for range contenders {
		if err := <-failures; err != nil {
			t.Fatal(err)
		}
	}
	close(tokens)
	inOrderOfOwnership := slices.Collect(func(yield func(int64) bool) {
		for token := range tokens {
			yield(token)
		}
	})
	if !slices.IsSorted(inOrderOfOwnership) || len(slices.Compact(inOrderOfOwnership)) != contenders*turns {
		t.Errorf("tokens in the order of ownership: %v", inOrderOfOwnership)
	}
}

// takeTurns owns the lock a few times, and sends its token while it does.
func takeTurns(ctx context.Context, m *lockmgr.Manager, turns int, tokens chan<- int64) error {
	for range turns {
		lock, err := m.Acquire(ctx, "x")
		if err != nil {
			return err
		}
		tokens <- lock.Token()
		if err := lock.Release(ctx); err != nil {
			return err
		}
	}
	return nil
}

// A key that stays behind blocks everybody for a TTL.
func TestCancelledAcquireLeavesNoKey(t *testing.T) {
	for _, lost := range []direction{request, reply} {
		t.Run("cancelled in the first Txn, "+string(lost), func(t *testing.T) {
			_, prefix := localtest.Etcd(t)
			w := new(wire)
			client := connect(t, localtest.EtcdEndpoint(t), w.option())
			m := start(t, client, prefix, "a", longTTL)
			ctx, cancel := context.WithCancel(t.Context())
			w.lose(lost, isJoin, cancel)
			if _, err := m.Acquire(ctx, "x"); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			awaitKeys(t, client, prefix, 0)
		})
	}
	t.Run("cancelled while waiting", func(t *testing.T) {
		client, prefix := localtest.Etcd(t)
		a, b := start(t, client, prefix, "a", longTTL), start(t, client, prefix, "b", longTTL)
		acquire(t, a, "x")
		ctx, cancel := context.WithCancel(t.Context())
		waiter := goAcquire(ctx, b, "x")
		awaitKeys(t, client, prefix, 2)
		cancel()
		if got := <-waiter; !errors.Is(got.err, context.Canceled) {
			t.Errorf("got %v", got.err)
		}
		awaitKeys(t, client, prefix, 1)
	})
}

func isGrant(req any) bool  { _, ok := req.(*pb.LeaseGrantRequest); return ok }
func isRevoke(req any) bool { _, ok := req.(*pb.LeaseRevokeRequest); return ok }

// The Txns differ in what they compare, and a release in what it does.
func isDelete(req any) bool {
	txn, ok := req.(*pb.TxnRequest)
	return ok && len(txn.GetSuccess()) > 0 && txn.GetSuccess()[0].GetRequestDeleteRange() != nil
}
func isJoin(req any) bool    { return compares(req) == 1 }
func isLook(req any) bool    { return compares(req) == 0 && !isDelete(req) }
func isConfirm(req any) bool { return compares(req) == 2 }

func compares(req any) int {
	if txn, ok := req.(*pb.TxnRequest); ok {
		return len(txn.GetCompare())
	}
	return -1
}

// Unlock by name, as others have it, deletes the lock of whoever owns it now.
func TestReleaseNeverDeletesANewerLock(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	a, b := start(t, client, prefix, "a", longTTL), start(t, client, prefix, "b", longTTL)
	old := acquire(t, a, "x")
	waiter := enqueue(t, b, client, prefix, "x")
	if _, err := client.Revoke(t.Context(), keys(t, client, prefix)[0].Lease); err != nil {
		t.Fatal(err)
	}
	newer := await(t, waiter)
	release(t, old)
	if all := keys(t, client, prefix); len(all) != 1 || all[0].ModRevision != newer.Token() {
		t.Errorf("etcd has %+v, want the newer lock with token %d", all, newer.Token())
	}
}

// Failover must not wait for the TTL, nor for the waiter's poll.
func TestEvictLetsTheWaiterIn(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	a, b := start(t, client, prefix, "a", longTTL), start(t, client, prefix, "b", longTTL)
	fastest := patience
	for range 5 {
		acquire(t, a, "x")
		waiter := enqueue(t, b, client, prefix, "x")
		dead, err := b.Holder(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := b.Evict(t.Context(), dead); err != nil {
			t.Fatal(err)
		}
		lock := await(t, waiter)
		fastest = min(fastest, time.Since(began))
		release(t, lock)
	}
	t.Log("fastest takeover", fastest)
	if fastest > 250*time.Millisecond {
		t.Errorf("fastest takeover took %v", fastest)
	}
}

// Whoever loses the place loses only the place.
func TestWaiterWhoseLeaseIsGoneStartsAgain(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	a, b, c := start(t, client, prefix, "a", longTTL), start(t, client, prefix, "b", longTTL), start(t, client, prefix, "c", longTTL)
	first := acquire(t, a, "x")
	loser := enqueue(t, b, client, prefix, "x")
	place := keys(t, client, prefix)[1]
	next := enqueue(t, c, client, prefix, "x")
	if _, err := client.Revoke(t.Context(), place.Lease); err != nil {
		t.Fatal(err)
	}
	awaitKeys(t, client, prefix, 3)
	release(t, first)
	release(t, await(t, next))
	await(t, loser)
}

func TestStoppedManagerGivesBackItsLocks(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	m, stop := startStoppable(t, lockmgr.Config{Client: client, Prefix: prefix, Owner: "a", TTL: longTTL})
	lock := acquire(t, m, "x")
	waiter := enqueue(t, m, client, prefix, "x")
	stop()
	if cause := context.Cause(lock.Context()); !errors.Is(cause, lockmgr.ErrReleased) {
		t.Errorf("lock ended with %v", cause)
	}
	if got := <-waiter; !errors.Is(got.err, lockmgr.ErrDraining) {
		t.Errorf("waiter got %v", got.err)
	}
	awaitKeys(t, client, prefix, 0)
}

// Nobody renews before Run, so nobody may own.
func TestAcquireNeedsRun(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	m, err := lockmgr.New(lockmgr.Config{Client: client, Prefix: prefix, Owner: "a"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := m.Acquire(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	client, prefix := localtest.Etcd(t)
	good := lockmgr.Config{Client: client, Prefix: prefix, Owner: "a"}
	for name, spoil := range map[string]func(*lockmgr.Config){
		"no client":      func(c *lockmgr.Config) { c.Client = nil },
		"no prefix":      func(c *lockmgr.Config) { c.Prefix = "" },
		"no owner":       func(c *lockmgr.Config) { c.Owner = "" },
		"negative TTL":   func(c *lockmgr.Config) { c.TTL = -time.Second },
		"fractional TTL": func(c *lockmgr.Config) { c.TTL = 1500 * time.Millisecond },
		"TTL too small":  func(c *lockmgr.Config) { c.TTL = time.Millisecond },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			spoil(&cfg)
			if _, err := lockmgr.New(cfg); err == nil {
				t.Error("accepted")
			}
		})
	}
}
