package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

const (
	patience       = time.Minute     // of a buyer, until he goes without an answer
	attemptTimeout = 5 * time.Second // of one call
	minPause       = 30 * time.Millisecond
	maxPause       = 120 * time.Millisecond // between two purchases of a buyer

	maxAmount = 5
	evergreen = 1 << 20 // stock of a product that does not sell out
	dropEvery = 5 * time.Second
)

// traffic is the buyers of a run. Two products never sell out; a new small one
// comes on sale every few seconds, so that the last units of something are
// always being fought over, and refusals are always being given.
type traffic struct {
	conn      *grpc.ClientConn
	products  holdfastv1.ProductServiceClient
	purchases holdfastv1.PurchaseServiceClient
	history   *History
	regions   []string
	seed      uint64
	name      string // of the run; begins all ids

	mu         sync.Mutex
	drops      []string // the newest last
	unexpected map[string]int
}

func newTraffic(address, name string, regions []string, seed uint64) (*traffic, error) {
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return nil, err
	}
	return &traffic{
		conn: conn, products: holdfastv1.NewProductServiceClient(conn),
		purchases: holdfastv1.NewPurchaseServiceClient(conn),
		history:   NewHistory(), regions: regions, seed: seed, name: name, unexpected: map[string]int{},
	}, nil
}

func (t *traffic) close() { _ = t.conn.Close() }

// create puts a product on sale. It is part of the history only when it exists.
func (t *traffic) create(ctx context.Context, id string, stock int64) error {
	t.history.addProduct(id, stock) // before anybody can buy it
	_, _, err := t.insist(ctx, func(ctx context.Context) error {
		_, err := t.products.CreateProduct(ctx, &holdfastv1.CreateProductRequest{ProductId: id, AmountInStorage: stock})
		return err
	})
	if err != nil {
		return fmt.Errorf("create product %s: %w", id, err)
	}
	return nil
}

func (t *traffic) evergreen(i int) string { return fmt.Sprintf("%s-evergreen-%d", t.name, i) }

// open creates the first products.
func (t *traffic) open(ctx context.Context, stock int64) error {
	for i := range 2 {
		if err := t.create(ctx, t.evergreen(i), evergreen); err != nil {
			return err
		}
	}
	return t.drop(ctx, stock)
}

// drop brings a new product with few units.
func (t *traffic) drop(ctx context.Context, stock int64) error {
	t.mu.Lock()
	id := fmt.Sprintf("%s-drop-%d", t.name, len(t.drops))
	t.mu.Unlock()
	if err := t.create(ctx, id, stock); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drops = append(t.drops, id)
	return nil
}

// dropRegularly brings new products until trade ends.
func (t *traffic) dropRegularly(ctx, trade context.Context) error {
	rng := rand.New(rand.NewPCG(t.seed, 1<<32))
	tick := time.NewTicker(dropEvery)
	defer tick.Stop()
	for {
		select {
		case <-trade.Done():
			return nil
		case <-tick.C:
			if err := t.drop(ctx, 150+rng.Int64N(350)); err != nil {
				return err
			}
		}
	}
}

// choose returns a product: mostly the newest drop, sometimes the one before,
// which is sold out or nearly, sometimes one of those that never are.
func (t *traffic) choose(rng *rand.Rand) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	newest := len(t.drops) - 1
	switch n := rng.IntN(10); {
	case n < 5:
		return t.drops[newest]
	case n < 7:
		return t.drops[max(newest-1, 0)]
	default:
		return t.evergreen(n % 2)
	}
}

// buyer buys until trade ends; what he has begun he finishes, while ctx lasts.
func (t *traffic) buyer(ctx, trade context.Context, number int) {
	rng := rand.New(rand.NewPCG(t.seed, uint64(number)<<33))
	for i := 0; trade.Err() == nil; i++ {
		t.buy(ctx, &holdfastv1.CreatePurchaseRequest{
			ProductId: t.choose(rng), Amount: 1 + rng.Int64N(maxAmount),
			CustomerId: fmt.Sprintf("customer-%d", number), Region: t.regions[rng.IntN(len(t.regions))],
			RequestId: fmt.Sprintf("%s-%d-%d", t.name, number, i),
		}, rng.IntN(10) == 0)
		select {
		case <-trade.Done():
		case <-time.After(minPause + time.Duration(rng.Int64N(int64(maxPause-minPause)))):
		}
	}
}

// buy insists on an answer and writes it down. Sometimes a buyer asks again
// after he was answered, and must be told the same.
func (t *traffic) buy(ctx context.Context, request *holdfastv1.CreatePurchaseRequest, again bool) Op {
	o := Op{
		Product: request.GetProductId(), RequestID: request.GetRequestId(), Amount: request.GetAmount(),
		Call: t.history.now(),
	}
	var p *holdfastv1.Purchase
	call := func(ctx context.Context) (err error) {
		p, err = t.purchases.CreatePurchase(ctx, request)
		return err
	}
	answered, attempts, err := t.insist(ctx, call)
	o.Return, o.Attempts = t.history.now(), attempts
	switch {
	case !answered:
		o.Failure = err.Error()
	case err == nil:
		o.Answer, o.PurchaseID = Admitted, p.GetPurchaseId()
	default:
		o.Answer = Refused
	}
	if again && o.Answer == Admitted {
		if answered, _, err := t.insist(ctx, call); answered && err == nil {
			o.Again = p.GetPurchaseId()
		} else if answered {
			o.Again = "a refusal"
		}
	}
	t.history.addOp(o)
	return o
}

// insist repeats a call until it is answered: with success or with the refusal
// that the units are not there.
func (t *traffic) insist(ctx context.Context, call func(context.Context) error) (answered bool, attempts int, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		attempts++
		attempt, done := context.WithTimeout(ctx, attemptTimeout)
		err = call(attempt)
		done()
		if err == nil || holdfastv1.Reason(err) == holdfastv1.ReasonInsufficientStock {
			return true, attempts, err
		}
		t.noteUnexpected(err)
		select {
		case <-ctx.Done():
			return false, attempts, fmt.Errorf("no answer in %d attempts: %w", attempts, err)
		case <-time.After(10*time.Millisecond + rand.N(50*time.Millisecond)):
		}
	}
}

// noteUnexpected remembers errors that no outage explains.
func (t *traffic) noteUnexpected(err error) {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted:
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unexpected[err.Error()]++
}
