package coordinator_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

// freezer stands before a worker and stops carrying bytes when told to, as a
// paused process does: connections are accepted and nothing is said.
type freezer struct {
	net.Listener
	mu     sync.Mutex
	thawed chan struct{} // closed while bytes are carried
}

func newFreezer(l net.Listener) *freezer {
	f := &freezer{Listener: l, thawed: make(chan struct{})}
	close(f.thawed)
	return f
}

func (f *freezer) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.thawed = make(chan struct{})
}

func (f *freezer) thaw() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.thawed)
}

func (f *freezer) await() {
	f.mu.Lock()
	thawed := f.thawed
	f.mu.Unlock()
	<-thawed
}

func (f *freezer) Accept() (net.Conn, error) {
	conn, err := f.Listener.Accept()
	return frozenConn{conn, f}, err
}

type frozenConn struct {
	net.Conn
	*freezer
}

// Read gives what came before the frost only after it.
func (c frozenConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.await()
	return n, err
}

func (c frozenConn) Write(b []byte) (int, error) {
	c.await()
	return c.Conn.Write(b)
}

func (c frozenConn) Close() error { return c.Conn.Close() }

// A worker that is paused is not asked again and again until it is forgotten: one
// silence is enough for all callers, and it is over when the worker speaks again.
func TestSilentWorkerIsPassedOver(t *testing.T) {
	f := openFront(t, coordinator.Config{AttemptTimeout: patience, Deadline: patience}, "w1", "w2")
	f.stock("p", 100)
	best := f.ranked("p")[0]
	wantAsked := func(want *worker) {
		t.Helper()
		if _, err := f.purchases.CreatePurchase(t.Context(), buy("p", 1)); err != nil {
			t.Fatal(err)
		}
		calls := f.shop.takeCalls()
		if last := calls[len(calls)-1]; last.worker != want.name {
			t.Fatalf("%s was asked, want %s", last.worker, want.name)
		}
	}
	wantAsked(best)
	best.frost.freeze()
	asked := time.Now()
	wantAsked(f.ranked("p")[1])
	if took := time.Since(asked); took > patience/2 {
		t.Errorf("took %v until the other was asked", took)
	}
	asked = time.Now()
	wantAsked(f.ranked("p")[1])
	if took := time.Since(asked); took > time.Second {
		t.Errorf("took %v though the silence was known", took)
	}
	best.frost.thaw()
	for begun := time.Now(); ; {
		if _, err := f.purchases.CreatePurchase(t.Context(), buy("p", 1)); err != nil {
			t.Fatal(err)
		}
		calls := f.shop.takeCalls()
		if calls[len(calls)-1].worker == best.name {
			break
		}
		if time.Since(begun) > patience {
			t.Fatal("not asked again after it spoke")
		}
	}
}

// A worker may be alone in not reaching a shard; two are believed.
func TestShardThatOneWorkerCannotReach(t *testing.T) {
	f := openFront(t, quick, "w1", "w2", "w3")
	f.stock("p", 10)
	ranked := f.ranked("p")
	own := holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonShardUnavailable, "shard us did not answer", map[string]string{"shard": "us"})
	ranked[0].set(answer(own))
	if _, err := f.purchases.CreatePurchase(t.Context(), buy("p", 1)); err != nil {
		t.Error(err)
	}
	batch, err := f.purchases.BatchCreatePurchases(t.Context(), batchOf(2))
	if err != nil || batch.GetResults()[0].GetPurchase() == nil || batch.GetResults()[1].GetPurchase() == nil {
		t.Errorf("batch: %v, %v", batch, err)
	}
	f.shop.takeCalls()
	ranked[1].set(answer(own))
	_, err = f.purchases.CreatePurchase(t.Context(), buy("p", 1))
	if holdfastv1.Reason(err) != holdfastv1.ReasonShardUnavailable {
		t.Errorf("got %v", err)
	}
	if calls := f.shop.takeCalls(); len(calls) != 2 {
		t.Errorf("%d workers were asked", len(calls))
	}
}
