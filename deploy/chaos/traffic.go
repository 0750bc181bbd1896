package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
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
	maxPause       = 120 * time.Millisecond // between two things that a buyer does

	maxAmount = 5
	lines     = 4       // of products, each with buyers of its own
	evergreen = 1 << 20 // stock of a product that does not sell out
	dropEvery = 6 * time.Second

	longWait = 3 * time.Second // is worth a line of the timeline, if it is the longest so far by a second
)

// traffic is the buyers and operators of a run. There are several lines of products, so that
// not all buyers wait when one product cannot be sold, and so that no product has
// more operations than the checker can order. In each line one product never
// sells out; a new small one comes on sale every few seconds, so that the last
// units of something are always being fought over, and refusals are always being
// given, while others give units back.
type traffic struct {
	coordinators []coordinator
	regions      func() []string // that there are now
	history      *History
	seed         uint64
	name         string        // of the run; begins all ids
	patience     time.Duration // of the buyers
	say          func(format string, args ...any)

	mu         sync.Mutex
	drops      [lines][]string // the newest last
	final      map[string]bool // products of which nobody gives anything back
	unexpected map[string]int
	longest    time.Duration // that a buyer has waited
}

// coordinator is a connection to one.
type coordinator struct {
	conn      *grpc.ClientConn
	products  holdfastv1.ProductServiceClient
	purchases holdfastv1.PurchaseServiceClient
}

func newTraffic(w *World, name string, seed uint64) (*traffic, error) {
	t := &traffic{
		regions: w.shardNames, history: NewHistory(), seed: seed, name: name, say: w.say, patience: patience,
		final: map[string]bool{}, unexpected: map[string]int{},
	}
	for _, address := range w.coordinators() {
		conn, err := grpc.NewClient(address,
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
				MinConnectTimeout: time.Second,
			}))
		if err != nil {
			t.close()
			return nil, err
		}
		t.coordinators = append(t.coordinators, coordinator{
			conn, holdfastv1.NewProductServiceClient(conn), holdfastv1.NewPurchaseServiceClient(conn),
		})
	}
	return t, nil
}

func (t *traffic) close() {
	for _, c := range t.coordinators {
		_ = c.conn.Close()
	}
}

// create puts a product on sale. It is part of the history only when it exists.
func (t *traffic) create(ctx context.Context, id string, stock int64) error {
	t.history.addProduct(id, stock) // before anybody can buy it
	created := t.insist(ctx, 0, func(ctx context.Context, c coordinator) error {
		_, err := c.products.CreateProduct(ctx, &holdfastv1.CreateProductRequest{ProductId: id, AmountInStorage: stock})
		return err
	})
	if !created.answered {
		return fmt.Errorf("create product %s: %s", id, created.failure)
	}
	return nil
}

func (t *traffic) evergreen(line int) string { return fmt.Sprintf("%s-evergreen-%d", t.name, line) }

// open creates the first products of some lines.
func (t *traffic) open(ctx context.Context, count int, stock int64) error {
	for line := range count {
		if err := t.create(ctx, t.evergreen(line), evergreen); err != nil {
			return err
		}
		if err := t.drop(ctx, line, stock); err != nil {
			return err
		}
	}
	return nil
}

// drop brings a new product with few units.
func (t *traffic) drop(ctx context.Context, line int, stock int64) error {
	id := t.nextDrop(line)
	if err := t.create(ctx, id, stock); err != nil {
		return err
	}
	t.publish(line, id)
	return nil
}

func (t *traffic) nextDrop(line int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Sprintf("%s-drop-%d-%d", t.name, line, len(t.drops[line]))
}

// publish lets the buyers of a line know of a product.
func (t *traffic) publish(line int, id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drops[line] = append(t.drops[line], id)
}

// keep has buyers keep what they buy of a product, and buy of no other one once it is on sale.
func (t *traffic) keep(product string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.final[product] = true
}

func (t *traffic) isFinal(product string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.final[product]
}

// dropRegularly brings new products until trade ends.
func (t *traffic) dropRegularly(ctx, trade context.Context, line int) {
	rng := rand.New(rand.NewPCG(t.seed, uint64(line)<<32))
	tick := time.NewTicker(dropEvery)
	defer tick.Stop()
	for {
		select {
		case <-trade.Done():
			return
		case <-tick.C:
			if err := t.drop(ctx, line, 20+rng.Int64N(80)); err != nil {
				t.say("no more new products: %v", err)
				return
			}
		}
	}
}

// all are the products that were ever on sale.
func (t *traffic) all() (products []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for line, drops := range t.drops {
		products = append(append(products, t.evergreen(line)), drops...)
	}
	return products
}

// choose returns a product of a line: mostly the newest drop, sometimes the one
// before, which is sold out or nearly, sometimes the one that never is.
func (t *traffic) choose(rng *rand.Rand, line int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	drops := t.drops[line]
	newest := len(drops) - 1
	switch n := rng.IntN(10); {
	case n < 5, t.final[drops[newest]]:
		return drops[newest]
	case n < 8:
		return drops[max(newest-1, 0)]
	default:
		return t.evergreen(line)
	}
}

// call is one call, which answers with a purchase; a delivery, with one that has its id.
type call func(context.Context, coordinator) (*holdfastv1.Purchase, error)

// do insists on an answer and writes it down. When again is set the same is asked once more
// after it was done, and must be told the same.
func (t *traffic) do(ctx context.Context, first int, o Op, again bool, call call) Op {
	var p *holdfastv1.Purchase
	once := func(ctx context.Context, c coordinator) (err error) {
		p, err = call(ctx, c)
		return err
	}
	o.Call = t.history.now()
	limited, cancel := context.WithTimeout(ctx, t.patience)
	defer cancel()
	said := t.insist(limited, first, once)
	o.Return, o.Attempts, o.Failure = t.history.now(), said.attempts, said.failure
	switch {
	case said.answered && said.refusal == nil:
		o.Answer, o.PurchaseID, o.Told = Admitted, p.GetPurchaseId(), t.history.told(p)
	case said.answered:
		o.Answer, o.Reason = Refused, holdfastv1.Reason(said.refusal)
	}
	t.noteWait(o)
	if again && o.Answer == Admitted {
		if said := t.insist(ctx, first+1, once); said.answered && said.refusal == nil {
			o.Again = p.GetPurchaseId()
		} else if said.answered {
			o.Again = holdfastv1.Reason(said.refusal)
		}
	}
	t.history.addOp(o)
	return o
}

func (t *traffic) buy(ctx context.Context, first int, request *holdfastv1.CreatePurchaseRequest, again bool) Op {
	o := Op{Kind: Buy, Product: request.GetProductId(), RequestID: request.GetRequestId(), Amount: request.GetAmount()}
	if request.GetHold() != nil {
		o.Kind = Hold
		if until := request.GetHold().GetExpireTime(); until != nil {
			o.Until = t.history.at(until.AsTime())
		}
	}
	return t.do(ctx, first, o, again, func(ctx context.Context, c coordinator) (*holdfastv1.Purchase, error) {
		return c.purchases.CreatePurchase(ctx, request)
	})
}

// said is what a caller who insists was told.
type said struct {
	answered bool
	refusal  error // the answer, unless it is nil
	attempts int
	failure  string // the last that was no answer
}

// answers are the reasons of errors that say what became of a call. After others it is to
// be repeated.
var answers = []string{
	holdfastv1.ReasonInsufficientStock, holdfastv1.ReasonPurchaseHeld, holdfastv1.ReasonPurchaseConfirmed,
	holdfastv1.ReasonPurchaseCancelled, holdfastv1.ReasonHoldExpired, holdfastv1.ReasonPurchaseReturned,
	holdfastv1.ReasonAmountExceeded, holdfastv1.ReasonHoldTooLong, holdfastv1.ReasonInvalidField,
	holdfastv1.ReasonPurchaseNotFound, holdfastv1.ReasonRequestIDReused, holdfastv1.ReasonToReadmit,
}

// insist repeats a call until it is answered: with success, or with a refusal that says
// why. After a failure it goes to the other coordinator.
func (t *traffic) insist(ctx context.Context, first int, call func(context.Context, coordinator) error) (result said) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		c := t.coordinators[(first+result.attempts)%len(t.coordinators)]
		result.attempts++
		attempt, done := context.WithTimeout(ctx, attemptTimeout)
		err := call(attempt, c)
		done()
		if err == nil || slices.Contains(answers, holdfastv1.Reason(err)) {
			result.answered, result.refusal = true, err
			return result
		}
		result.failure = err.Error()
		t.noteUnexpected(err)
		select {
		case <-ctx.Done():
			return result
		case <-time.After(10*time.Millisecond + rand.N(50*time.Millisecond)):
		}
	}
}

// noteWait says when somebody had to wait much longer than anybody before.
func (t *traffic) noteWait(o Op) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if wait := o.Return - o.Call; wait > max(t.longest+time.Second, longWait) {
		t.longest = wait
		t.say("waited longest so far   %v, %d attempts, before: %s", o, o.Attempts, o.Failure)
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
