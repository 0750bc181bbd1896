package payments

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/deploy/books"
	"github.com/holdfast-io/holdfast/deploy/local"
)

const (
	startTimeout   = 2 * time.Minute
	attemptTimeout = 5 * time.Second
	patience       = time.Minute

	workers = 3
)

// products are what every order has of, and at which price: two lines.
var products = []*holdfastv1.OrderLine{
	{ProductId: "chair", Amount: 3, UnitPrice: &holdfastv1.Money{CurrencyCode: "EUR", MinorUnits: 4999}},
	{ProductId: "table", Amount: 1, UnitPrice: &holdfastv1.Money{CurrencyCode: "EUR", MinorUnits: 25001}},
}

// shop is the API that buyers call: of a coordinator, or of one worker.
type shop struct {
	holdfastv1.ProductServiceClient
	holdfastv1.PurchaseServiceClient
	holdfastv1.OrderServiceClient
	conn *grpc.ClientConn
}

func openShop(address string) (*shop, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &shop{
		holdfastv1.NewProductServiceClient(conn), holdfastv1.NewPurchaseServiceClient(conn), holdfastv1.NewOrderServiceClient(conn), conn,
	}, nil
}

// world is a stack, its provider, and ways to all of it.
type world struct {
	till      *till
	stack     *local.Stack
	directory cluster.Directory
	shards    books.Shards
	front     *shop            // the coordinator's
	direct    map[string]*shop // the workers'
	turn      int              // which worker is next
}

func startWorld(ctx context.Context, cfg local.StackConfig) (*world, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	w := &world{direct: map[string]*shop{}}
	var err error
	if w.till, err = openTill(ctx); err != nil {
		return nil, err
	}
	if err := w.start(ctx, cfg); err != nil {
		w.stop()
		return nil, fmt.Errorf("start: %w", err)
	}
	return w, nil
}

func (w *world) start(ctx context.Context, cfg local.StackConfig) (err error) {
	cfg.Shards, cfg.Workers = []string{"eu", "us"}, workers
	cfg.WorkerArgsOf = func(name string) []string {
		return []string{"--payment-simulator", w.till.url + "/" + name, "--payment-timeout", "10s"}
	}
	if w.stack, err = local.StartStack(ctx, cfg); err != nil {
		return err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{w.stack.Etcd.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	w.directory = cluster.Directory{Client: client, Prefix: "/holdfast/"}
	if w.shards, err = books.Open(context.WithoutCancel(ctx), w.stack.DSNs()); err != nil {
		return err
	}
	if w.front, err = openShop(w.stack.GRPCAddress); err != nil {
		return err
	}
	if err := w.await(ctx, slices.Collect(maps.Keys(w.stack.Workers)), nil); err != nil {
		return err
	}
	for _, p := range products {
		err := insist(ctx, func(ctx context.Context) error {
			_, err := w.front.CreateProduct(ctx, &holdfastv1.CreateProductRequest{ProductId: p.GetProductId(), AmountInStorage: 1 << 40})
			return err
		})
		if err != nil {
			return fmt.Errorf("create product: %w", err)
		}
	}
	return nil
}

func (w *world) stop() {
	for _, s := range w.direct {
		_ = s.conn.Close()
	}
	if w.front != nil {
		_ = w.front.conn.Close()
	}
	w.shards.Close()
	if w.directory.Client != nil {
		_ = w.directory.Client.Close()
	}
	if w.stack != nil {
		w.stack.Stop()
	}
	w.till.close()
}

// await waits until these workers are on the list, with other instances than before.
func (w *world) await(ctx context.Context, names []string, before map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		view, err := w.directory.View(ctx)
		fresh := func(name string) bool {
			return slices.ContainsFunc(view.Workers, func(of cluster.Worker) bool {
				return of.Name == name && of.Instance != before[name]
			})
		}
		if err == nil && !slices.ContainsFunc(names, func(name string) bool { return !fresh(name) }) {
			return w.connect(view.Workers)
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return errors.Join(errors.New("workers did not register in time"), err)
		}
	}
}

func (w *world) connect(list []cluster.Worker) (err error) {
	for _, of := range list {
		if old := w.direct[of.Name]; old != nil {
			_ = old.conn.Close()
		}
		if w.direct[of.Name], err = openShop(of.Address); err != nil {
			return err
		}
	}
	return nil
}

// kill kills workers at once.
func (w *world) kill(names []string) error {
	var all sync.WaitGroup
	failures := make([]error, len(names))
	for i, name := range names {
		all.Go(func() { failures[i] = w.stack.Workers[name].Kill() })
	}
	all.Wait()
	return errors.Join(failures...)
}

// restart starts workers that were killed, and returns when they are on the list.
func (w *world) restart(ctx context.Context, names []string) error {
	view, err := w.directory.View(ctx)
	if err != nil {
		return err
	}
	before := map[string]string{}
	for _, of := range view.Workers {
		before[of.Name] = of.Instance
	}
	for _, name := range names {
		if err := w.stack.StartWorker(name); err != nil {
			return err
		}
	}
	return w.await(ctx, names, before)
}

// next is the worker whose turn it is to be killed.
func (w *world) next() string {
	w.turn++
	return fmt.Sprintf("worker-%d", w.turn%workers+1)
}

// insist repeats a call until its answer says what happened.
func insist(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := call(attempt)
		cancel()
		switch status.Code(err) {
		case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.ResourceExhausted, codes.Canceled:
		default:
			return err
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return err
		}
	}
}
