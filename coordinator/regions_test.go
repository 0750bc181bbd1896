package coordinator_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// A coordinator may not have heard of a new region, since its watch was cut or
// etcd was away: then etcd is asked before a caller is told for good that there
// is none.
func TestRegionThatTheCoordinatorHasNotHeardOf(t *testing.T) {
	f, etcd := deafFront(t)
	f.addRegion(t, "asia")
	etcd.deaf.Store(true)
	req := buy("p", 1)
	req.Region = "asia"
	if err := f.send(req); status.Code(err) != codes.Unavailable || holdfastv1.Reason(err) != holdfastv1.ReasonTopologyUnavailable {
		t.Errorf("without etcd: %v", err)
	}
	etcd.deaf.Store(false)
	if p, err := f.purchases.CreatePurchase(t.Context(), req); err != nil || p.GetRegion() != "asia" {
		t.Errorf("with etcd: %v, %v", p, err)
	}
	if err := f.send(&holdfastv1.ListPurchasesRequest{Region: "asia"}); err != nil {
		t.Error(err)
	}
}

// What a customer holds in hand is not said to be nowhere before etcd was asked. Once it was,
// no worker is.
func TestPurchaseOfARegionThatTheCoordinatorHasNotHeardOf(t *testing.T) {
	f, etcd := deafFront(t)
	asked := proto.Message(nil)
	f.shop.onChanges(func(req proto.Message) (*holdfastv1.Purchase, error) { asked = req; return &holdfastv1.Purchase{}, nil })
	id := holdfastv1.PurchaseID("asia", uuid.New())
	cancel, pay := &holdfastv1.CancelPurchaseRequest{PurchaseId: id}, &holdfastv1.PayOrderRequest{OrderId: id}

	for req, want := range map[proto.Message]string{cancel: holdfastv1.ReasonPurchaseNotFound, pay: holdfastv1.ReasonOrderNotFound} {
		if err := f.send(req); status.Code(err) != codes.NotFound || holdfastv1.Reason(err) != want || asked != nil {
			t.Errorf("of no region: %v, workers were asked %v", err, asked)
		}
	}
	f.addRegion(t, "asia")
	etcd.deaf.Store(true)
	for _, req := range []proto.Message{cancel, pay} {
		if err := f.send(req); status.Code(err) != codes.Unavailable || holdfastv1.Reason(err) != holdfastv1.ReasonTopologyUnavailable {
			t.Errorf("without etcd: %v", err)
		}
	}
	etcd.deaf.Store(false)
	if err := f.send(cancel); err != nil || asked == nil {
		t.Errorf("with etcd: %v, workers were asked %v", err, asked)
	}
}

// A misspelt region in a busy shop must not become a load on etcd.
func TestManyUnknownRegionsShareAReading(t *testing.T) {
	f, etcd := deafFront(t)
	etcd.reads.Store(0)
	const rounds = 3
	begun := time.Now()
	for range rounds {
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				req := buy("p", 1)
				req.Region = "asia"
				if err := f.send(req); holdfastv1.Reason(err) != holdfastv1.ReasonUnknownRegion {
					t.Errorf("got %v", err)
				}
			})
		}
		callers.Wait()
	}
	if got, most := etcd.reads.Load(), int64(time.Since(begun)/(100*time.Millisecond))+2; got > most {
		t.Errorf("etcd was read %d times for %d calls in %v, want at most %d", got, rounds*100, time.Since(begun), most)
	}
}

// hearsay is an etcd that sends no events, counts reads, and can be made deaf.
type hearsay struct {
	clientv3.KV
	clientv3.Watcher
	deaf  atomic.Bool
	reads atomic.Int64
}

func (h *hearsay) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	h.reads.Add(1)
	if h.deaf.Load() {
		return nil, errors.New("deaf")
	}
	return h.KV.Get(ctx, key, opts...)
}

func (h *hearsay) Watch(ctx context.Context, _ string, _ ...clientv3.OpOption) clientv3.WatchChan {
	events := make(chan clientv3.WatchResponse)
	context.AfterFunc(ctx, func() { close(events) })
	return events
}

// deafFront is a front that learns of changes only by reading.
func deafFront(t *testing.T) (*front, *hearsay) {
	t.Helper()
	s := newShops(t, "w1", "w2")
	own := *s
	client, _ := localtest.Etcd(t)
	h := &hearsay{KV: client.KV, Watcher: client.Watcher}
	wrapped := clientv3.NewCtxClient(client.Ctx())
	wrapped.KV, wrapped.Watcher = h, h
	own.directory.Client = wrapped
	f := own.front(quick)
	f.shops = s
	f.stock("p", 10)
	return f, h
}

// addRegion adds a shard to the topology in etcd.
func (f *front) addRegion(t *testing.T, name string) {
	t.Helper()
	view, err := f.directory.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next, err := view.Topology.Added(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.directory.SetTopology(t.Context(), view.Topology, next); err != nil {
		t.Fatal(err)
	}
}
