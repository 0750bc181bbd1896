package coordinator_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

func TestMain(m *testing.M) { localtest.Main(m) }

// patience is how long a test waits for what must happen; only a test that
// fails waits this long.
const patience = 30 * time.Second

// shops is a cluster of fake workers over one shop, on the shared etcd.
type shops struct {
	t         testing.TB
	directory cluster.Directory
	shop      *shop
	workers   map[string]*worker
}

func newShops(t testing.TB, names ...string) *shops {
	t.Helper()
	client, prefix := localtest.Etcd(t)
	s := &shops{
		t: t, directory: cluster.Directory{Client: client, Prefix: prefix},
		shop: newShop(), workers: map[string]*worker{},
	}
	topology := cluster.Topology{Number: 1, Shards: []string{"eu", "us"}}
	if _, err := s.directory.Init(t.Context(), uuid.New(), topology); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		s.open(name)
	}
	return s
}

// open starts a worker and returns once etcd knows it. One of the same name is
// replaced.
func (s *shops) open(name string) *worker {
	s.t.Helper()
	w := serveWorker(s.t, name, s.shop)
	s.workers[name] = w
	s.register(name, w.address())
	return w
}

// register enters a worker in etcd, and returns once it is known there.
func (s *shops) register(name, address string) {
	s.t.Helper()
	s.enter(cluster.Worker{Name: name, Address: address})
}

func (s *shops) enter(entry cluster.Worker) {
	s.t.Helper()
	entry.Instance = uuid.NewString()
	background(s.t, func(ctx context.Context) error {
		return s.directory.Register(ctx, entry, 5*time.Second, func(err error) { s.t.Log("register:", err) })
	})
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	err := s.directory.Watch(ctx, func(v cluster.View) {
		for _, known := range v.Workers {
			if known.Instance == entry.Instance {
				cancel()
			}
		}
	}, func(error) {})
	if !errors.Is(err, context.Canceled) {
		s.t.Fatalf("register %s: %v", entry.Name, err)
	}
}

// ranked returns the workers in the order in which a product's calls go.
func (s *shops) ranked(product string) (ranked []*worker) {
	names := slices.Collect(maps.Keys(s.workers))
	for len(ranked) < len(names) {
		first, _ := cluster.First(product, names, func(name string) bool { return !slices.Contains(ranked, s.workers[name]) })
		ranked = append(ranked, s.workers[first])
	}
	return ranked
}

// front is a coordinator that runs.
type front struct {
	*shops
	products  holdfastv1.ProductServiceClient
	purchases holdfastv1.PurchaseServiceClient
	events    holdfastv1.EventServiceClient
	orders    holdfastv1.OrderServiceClient
	conn      *grpc.ClientConn
	grpcAddr  string
	url       string
	stop      func() // ends Run's context, and does not wait
	stopped   <-chan struct{}
}

// openFront starts workers, then a coordinator. It knows them when it returns.
func openFront(t testing.TB, cfg coordinator.Config, workers ...string) *front {
	t.Helper()
	f := newShops(t, workers...).front(cfg)
	if len(workers) > 0 {
		// Waits until a worker is known, and all were there before.
		if _, err := f.products.ListProducts(t.Context(), &holdfastv1.ListProductsRequest{}); err != nil {
			t.Fatal(err)
		}
		f.shop.takeCalls()
	}
	return f
}

func (s *shops) front(cfg coordinator.Config) *front {
	s.t.Helper()
	cfg.Directory, cfg.Logger = s.directory, localtest.Logger(s.t)
	c, err := coordinator.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	grpcListener, httpListener := listen(s.t), listen(s.t)
	f := &front{shops: s, grpcAddr: grpcListener.Addr().String(), url: "http://" + httpListener.Addr().String()}
	f.stop, f.stopped = background(s.t, func(ctx context.Context) error { return c.Run(ctx, grpcListener, httpListener) })
	f.conn, err = grpc.NewClient(f.grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = f.conn.Close() })
	f.products, f.purchases = holdfastv1.NewProductServiceClient(f.conn), holdfastv1.NewPurchaseServiceClient(f.conn)
	f.events = holdfastv1.NewEventServiceClient(f.conn)
	f.orders = holdfastv1.NewOrderServiceClient(f.conn)
	return f
}

// stock creates a product.
func (f *front) stock(product string, amount int64) {
	f.t.Helper()
	_, err := f.products.CreateProduct(f.t.Context(), &holdfastv1.CreateProductRequest{ProductId: product, AmountInStorage: amount})
	if err != nil {
		f.t.Fatal(err)
	}
	f.shop.takeCalls()
}

// do sends an HTTP request with a JSON body, and returns status and body.
func (f *front) do(method, path, body string, header ...string) (int, string) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.url+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

func buy(product string, amount int64) *holdfastv1.CreatePurchaseRequest {
	return &holdfastv1.CreatePurchaseRequest{ProductId: product, Amount: amount, CustomerId: "customer-1"}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// background runs until the test ends or stop is called, and checks that what
// ended it was that.
func background(t testing.TB, run func(context.Context) error) (stop func(), stopped <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		http.DefaultClient.CloseIdleConnections()
		await(t, done, "the end of what ran in the background")
	})
	return cancel, done
}

func await[T any](t testing.TB, event <-chan T, what string) (value T) {
	t.Helper()
	select {
	case value = <-event:
	case <-time.After(patience):
		t.Errorf("waited in vain for %s", what)
	}
	return value
}
