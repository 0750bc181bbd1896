package failover

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

const (
	// patience is a buyer's own deadline; afterwards his purchase has failed.
	patience = 30 * time.Second

	// The pause before a call is repeated stays short: it is part of the outage
	// that is measured.
	minPause = 5 * time.Millisecond
	maxPause = 50 * time.Millisecond

	storage   = 1 << 40 // units of products that do not sell out
	atOnce    = 16      // calls under way while an experiment is prepared
	saidFully = 10      // failures and repetitions; the others are only counted
)

// market is where buyers buy: the coordinator, and what it told them.
type market struct {
	conn      *grpc.ClientConn
	products  holdfastv1.ProductServiceClient
	purchases holdfastv1.PurchaseServiceClient
	regions   []string
	run       string // begins all ids, since a data folder may hold another run's
	say       func(format string, args ...any)

	asked    atomic.Int64 // numbers the purchases
	admitted atomic.Int64
	repeated atomic.Int64 // calls made again, because the answer left open what happened
	failed   atomic.Int64
}

// sale is one purchase and how it went.
type sale struct {
	product  string
	asked    time.Time // when the buyer came
	answered time.Time // for the last time
	err      error     // nil: admitted
}

func (s sale) wait() time.Duration { return s.answered.Sub(s.asked) }

func newMarket(address string, regions []string, say func(string, ...any)) (*market, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &market{
		conn: conn, products: holdfastv1.NewProductServiceClient(conn), purchases: holdfastv1.NewPurchaseServiceClient(conn),
		regions: regions, run: strconv.FormatInt(time.Now().UnixNano(), 36), say: say,
	}, nil
}

func (m *market) close() { _ = m.conn.Close() }

// create puts new products on sale that do not sell out, and returns their ids.
func (m *market) create(ctx context.Context, count int) ([]string, error) {
	return m.createOf(ctx, count, storage)
}

// createOf puts new products of so many units each on sale. It is called once.
func (m *market) createOf(ctx context.Context, count int, units int64) ([]string, error) {
	ids := make([]string, count)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%d", m.run, i)
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			err := m.insist(ctx, func(ctx context.Context) error {
				request := &holdfastv1.CreateProductRequest{ProductId: ids[i], AmountInStorage: units}
				_, err := m.products.CreateProduct(ctx, request)
				return err
			})
			if err != nil {
				return fmt.Errorf("create product %s: %w", ids[i], err)
			}
			return nil
		})
	}
	return ids, group.Wait()
}

// hold buys one unit of every product, so that somebody holds it.
func (m *market) hold(ctx context.Context, products []string) error {
	before := m.failed.Load()
	m.buyEach(ctx, products, atOnce)
	if failed := m.failed.Load() - before; failed > 0 {
		return fmt.Errorf("%d of %d products could not be bought at the start", failed, len(products))
	}
	return ctx.Err()
}

// buyEach buys one unit of every product, with so many buyers at once, and
// returns when all have an answer.
func (m *market) buyEach(ctx context.Context, products []string, buyers int) {
	var group errgroup.Group
	group.SetLimit(buyers)
	for _, product := range products {
		group.Go(func() error { m.buy(ctx, product, time.Now()); return nil })
	}
	_ = group.Wait()
}

// buy buys one unit for a buyer who came at a given time.
func (m *market) buy(ctx context.Context, product string, asked time.Time) sale {
	s := m.try(ctx, m.request(product), asked)
	if ctx.Err() == nil { // else the experiment was interrupted
		m.count(s)
	}
	return s
}

// request asks for one unit, for the next customer.
func (m *market) request(product string) *holdfastv1.CreatePurchaseRequest {
	number := m.asked.Add(1)
	return &holdfastv1.CreatePurchaseRequest{
		ProductId: product, Amount: 1, CustomerId: fmt.Sprintf("customer-%d", number%1000),
		Region:    m.regions[number%int64(len(m.regions))],
		RequestId: fmt.Sprintf("%s-%d", m.run, number),
	}
}

// try is a purchase that may be refused, and is not counted.
func (m *market) try(ctx context.Context, request *holdfastv1.CreatePurchaseRequest, asked time.Time) sale {
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := m.insist(patient, func(ctx context.Context) error {
		_, err := m.purchases.CreatePurchase(ctx, request)
		return err
	})
	return sale{product: request.GetProductId(), asked: asked, answered: time.Now(), err: err}
}

func (m *market) count(s sale) {
	if s.err == nil {
		m.admitted.Add(1)
		return
	}
	if m.failed.Add(1) <= saidFully {
		m.say("a purchase of %s failed after %v: %v", s.product, s.wait().Round(time.Millisecond), s.err)
	}
}

// insist repeats a call as long as its answer leaves open what happened.
func (m *market) insist(ctx context.Context, call func(context.Context) error) error {
	for {
		err := call(ctx)
		if !leavesOpen(err) || ctx.Err() != nil {
			return err
		}
		if m.repeated.Add(1) <= saidFully {
			m.say("a call is repeated: %v", err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(minPause + rand.N(maxPause-minPause)):
		}
	}
}

func leavesOpen(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted:
		return true
	}
	return false
}

// crowd is buyers who each buy again as soon as they were answered.
type crowd struct {
	leave  context.CancelFunc
	buyers sync.WaitGroup
}

// gather has buyers buy what choose says until the crowd is sent away. Each sale
// is told, by several goroutines at once.
func (m *market) gather(ctx context.Context, buyers int, choose func() string, tell func(sale)) *crowd {
	trade, leave := context.WithCancel(ctx)
	c := &crowd{leave: leave}
	for range buyers {
		c.buyers.Go(func() {
			for trade.Err() == nil {
				tell(m.buy(ctx, choose(), time.Now()))
			}
		})
	}
	return c
}

// sendAway returns when every buyer has the answer he was waiting for.
func (c *crowd) sendAway() {
	c.leave()
	c.buyers.Wait()
}

// anyOf chooses evenly.
func anyOf(products []string) func() string {
	return func() string { return products[rand.IntN(len(products))] }
}

// pause lets time pass in which the buyers buy.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
