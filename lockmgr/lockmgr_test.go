package lockmgr_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
	"github.com/holdfast-io/holdfast/lockmgr"
	"github.com/holdfast-io/holdfast/lockmgr/locktest"
)

const (
	// patience is how long a test waits for what must happen.
	patience = 30 * time.Second
	// longTTL is that of locks that must neither end by themselves nor be renewed
	// while a test waits.
	longTTL = 10 * patience
)

func TestMain(m *testing.M) { localtest.Main(m) }

func TestManagerConforms(t *testing.T) {
	locktest.Conformance(t, func(t *testing.T) locktest.Join {
		client, prefix := localtest.Etcd(t)
		return func(owner string) locktest.Locks {
			return start(t, client, prefix, owner, longTTL)
		}
	})
}

// start runs a manager until the test ends. At most one alive is asked.
func start(t testing.TB, client *clientv3.Client, prefix, owner string, ttl time.Duration, alive ...func(string) bool) *lockmgr.Manager {
	t.Helper()
	cfg := lockmgr.Config{
		Client: client,
		Prefix: prefix,
		Owner:  owner,
		TTL:    ttl,
		Logger: localtest.Logger(t).With("owner", owner),
	}
	if len(alive) > 0 {
		cfg.Alive = alive[0]
	}
	m, stop := startStoppable(t, cfg)
	t.Cleanup(stop)
	return m
}

// startStoppable runs a manager until stop is called.
func startStoppable(t testing.TB, cfg lockmgr.Config) (m *lockmgr.Manager, stop func()) {
	t.Helper()
	m, err := lockmgr.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := m.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	return m, func() { cancel(); <-stopped }
}

// acquire acquires name, with patience.
func acquire(t testing.TB, m *lockmgr.Manager, name string) *lockmgr.Lock {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	lock, err := m.Acquire(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	return lock
}

type result struct {
	lock *lockmgr.Lock
	err  error
}

// enqueue calls Acquire and returns when there is one more key under the prefix.
func enqueue(t testing.TB, m *lockmgr.Manager, client *clientv3.Client, prefix, name string) <-chan result {
	t.Helper()
	resp, err := client.Get(t.Context(), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	results := goAcquire(t.Context(), m, name)
	awaitKeys(t, client, prefix, resp.Count+1)
	return results
}

func goAcquire(ctx context.Context, m *lockmgr.Manager, name string) <-chan result {
	results := make(chan result, 1)
	go func() {
		lock, err := m.Acquire(ctx, name)
		results <- result{lock, err}
	}()
	return results
}

// await waits for the lock that was queued for.
func await(t testing.TB, results <-chan result) *lockmgr.Lock {
	t.Helper()
	select {
	case got := <-results:
		if got.err != nil {
			t.Fatal(got.err)
		}
		return got.lock
	case <-time.After(patience):
		t.Fatal("waited in vain for a lock")
		return nil
	}
}

// awaitClosed waits for an event.
func awaitClosed(t testing.TB, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
	}
}

// awaitKeys waits until there are n keys under the prefix.
func awaitKeys(t testing.TB, client *clientv3.Client, prefix string, n int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		resp, err := client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatalf("waiting for %d keys: %v", n, err)
		}
		if resp.Count == n {
			return
		}
		change, stop := context.WithCancel(ctx)
		<-client.Watch(change, prefix, clientv3.WithPrefix(), clientv3.WithRev(resp.Header.Revision+1))
		stop()
	}
}

func release(t testing.TB, lock *lockmgr.Lock) {
	t.Helper()
	if err := lock.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// contention returns a channel that is closed once the lock is contended.
func contention(lock *lockmgr.Lock) <-chan struct{} {
	contended := make(chan struct{})
	lock.OnContended(func() { close(contended) })
	return contended
}
