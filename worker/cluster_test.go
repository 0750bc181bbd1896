package worker

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
	"github.com/holdfast-io/holdfast/lockmgr"
)

// testCluster is real etcd and real shards, for the workers of one test.
type testCluster struct {
	*shards
	directory cluster.Directory
	looker    *lockmgr.Manager // looks at locks and holds none
}

func newCluster(t *testing.T) *testCluster {
	t.Helper()
	client, prefix := localtest.Etcd(t)
	c := &testCluster{shards: newShards(t), directory: cluster.Directory{Client: client, Prefix: prefix}}
	if _, err := c.directory.Init(t.Context(), clusterID, cluster.Topology{Number: 1, Shards: regions}); err != nil {
		t.Fatal(err)
	}
	c.looker = c.manager(t, "looker")
	return c
}

// manager is a lock manager that does not run: it can look and evict.
func (c *testCluster) manager(t *testing.T, owner string) *lockmgr.Manager {
	t.Helper()
	m, err := lockmgr.New(lockmgr.Config{
		Client: c.directory.Client, Prefix: c.directory.LockPrefix(), Owner: owner, TTL: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// node is a worker that runs, and a client of it.
type node struct {
	*Worker
	holdfastv1.ProductServiceClient
	holdfastv1.PurchaseServiceClient
	holdfastv1.OrderServiceClient
	holdfastv1.EventServiceClient
	holdfastv1.WebhookServiceClient
	workers workerv1.WorkerServiceClient
	link    *link.Link
	stop    func() error // idempotent
}

// start runs a worker until the test ends, or stop is called.
func (c *testCluster) start(t *testing.T, name string, change ...func(*Config)) *node {
	t.Helper()
	l := listen(t)
	cfg := Config{
		Name: name, Advertise: l.Addr().String(), Directory: c.directory, DSNs: maps.Clone(c.dsns),
		Logger: localtest.Logger(t).Named(name), LockTTL: time.Minute, MinimumTenure: 50 * time.Millisecond,
	}
	for _, f := range change {
		f(&cfg)
	}
	w, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- w.Run(ctx, l) }()
	n := &node{
		Worker: w, ProductServiceClient: holdfastv1.NewProductServiceClient(conn),
		PurchaseServiceClient: holdfastv1.NewPurchaseServiceClient(conn), link: link.New(conn, 1000),
		OrderServiceClient: holdfastv1.NewOrderServiceClient(conn),
		EventServiceClient: holdfastv1.NewEventServiceClient(conn), WebhookServiceClient: holdfastv1.NewWebhookServiceClient(conn),
		workers: workerv1.NewWorkerServiceClient(conn),
		stop:    sync.OnceValue(func() error { cancel(); return <-ran }),
	}
	t.Cleanup(func() {
		if err := n.stop(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		n.link.Close()
		_ = conn.Close()
	})
	return n
}

// create creates a new product.
func (n *node) create(t *testing.T, amount int64) (product string) {
	t.Helper()
	product = newProduct()
	_, err := n.CreateProduct(t.Context(), &holdfastv1.CreateProductRequest{ProductId: product, AmountInStorage: amount})
	if err != nil {
		t.Fatal(err)
	}
	return product
}

func (n *node) buy(
	ctx context.Context, product, region, request string, amount int64, change ...func(*holdfastv1.CreatePurchaseRequest),
) (*holdfastv1.Purchase, error) {
	until := time.Now().Add(20 * time.Second) // longer than any bound that a worker keeps
	req := &holdfastv1.CreatePurchaseRequest{
		ProductId: product, Amount: amount, CustomerId: "ann", Region: region, RequestId: request,
	}
	for _, f := range change {
		f(req)
	}
	return n.link.Sell(ctx, req, until)
}

func (n *node) mustBuy(
	t *testing.T, product, region, request string, amount int64, change ...func(*holdfastv1.CreatePurchaseRequest),
) *holdfastv1.Purchase {
	t.Helper()
	p, err := n.buy(t.Context(), product, region, request, amount, change...)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	return p
}

func (n *node) wantAvailable(t *testing.T, product string, units int64) {
	t.Helper()
	p, err := n.GetProduct(t.Context(), &holdfastv1.GetProductRequest{ProductId: product})
	if err != nil || p.GetAmountAvailableForPurchase() != units {
		t.Fatalf("product %v, %v; want %d available", p, err, units)
	}
}

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	if holdfastv1.Reason(err) != reason {
		t.Fatalf("got %v, want %s", err, reason)
	}
}

// evict takes the lock from whoever holds the product.
func (c *testCluster) evict(t *testing.T, product string) {
	t.Helper()
	holder, err := c.looker.Holder(t.Context(), product)
	if err == nil {
		_, err = c.looker.Evict(t.Context(), holder)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (c *testCluster) wantLocks(t *testing.T, n int) {
	t.Helper()
	held, err := c.looker.Holders(t.Context())
	if err != nil || len(held) != n {
		t.Fatalf("locks held: %v, %v; want %d", held, err, n)
	}
}

// tally is what a crowd of buyers was told.
type tally struct {
	mu     sync.Mutex
	sold   int64
	reason map[string]int // how often a purchase was not sold for it
	others []error        // what no purchase should be told
}

func newTally() *tally { return &tally{reason: map[string]int{}} }

func (y *tally) add(amount int64, err error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	switch reason := holdfastv1.Reason(err); {
	case err == nil:
		y.sold += amount
	case reason != "":
		y.reason[reason]++
	default:
		y.others = append(y.others, err)
	}
}

func (y *tally) wantOnly(t *testing.T, reasons ...string) {
	t.Helper()
	y.mu.Lock()
	defer y.mu.Unlock()
	unwanted := maps.Clone(y.reason)
	for _, r := range reasons {
		delete(unwanted, r)
	}
	if len(unwanted) > 0 || len(y.others) > 0 {
		t.Fatalf("not sold for %v and %v, want only %v", unwanted, y.others, reasons)
	}
}

// crowd has buyers ask for one unit after the other, each of all workers in turn.
func crowd(ctx context.Context, nodes []*node, product string, buyers, each int) *tally {
	y := newTally()
	var wg sync.WaitGroup
	for b := range buyers {
		wg.Go(func() {
			for i := range each {
				n := b*each + i
				_, err := nodes[n%len(nodes)].buy(ctx, product, regions[b%2], fmt.Sprint("crowd", n), 1)
				y.add(1, err)
			}
		})
	}
	wg.Wait()
	return y
}
