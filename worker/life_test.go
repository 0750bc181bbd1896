package worker

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
	"github.com/holdfast-io/holdfast/api/link"
)

// hold holds units for so long; for a negative time it returns when the hold is over.
func (n *node) hold(t *testing.T, product, region, request string, amount int64, lasts time.Duration) *holdfastv1.Purchase {
	t.Helper()
	over := lasts < 0
	if over {
		lasts = 100 * time.Millisecond
	}
	p, err := n.tryHold(t.Context(), product, region, request, amount, lasts)
	if over {
		time.Sleep(lasts + 10*time.Millisecond) // the shard's clock decides, and cannot be set
	}
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	if p.GetState() != holdfastv1.PurchaseState_PURCHASE_STATE_HELD || p.GetExpireTime() == nil {
		t.Fatalf("%v is not held", p)
	}
	return p
}

func (n *node) tryHold(
	ctx context.Context, product, region, request string, amount int64, lasts time.Duration,
) (*holdfastv1.Purchase, error) {
	end := time.Now().Add(lasts).Truncate(time.Microsecond)
	if end.Before(link.PastHold.Add(time.Hour)) {
		end = link.PastHold
	}
	expires := timestamppb.New(end)
	return n.link.Sell(ctx, &holdfastv1.CreatePurchaseRequest{
		ProductId: product, Amount: amount, CustomerId: "ann", Region: region, RequestId: request,
		Hold: &holdfastv1.Hold{Expiration: &holdfastv1.Hold_ExpireTime{ExpireTime: expires}},
	}, time.Now().Add(20*time.Second))
}

func confirm(p *holdfastv1.Purchase, request string, amount int64) *holdfastv1.ConfirmPurchaseRequest {
	return &holdfastv1.ConfirmPurchaseRequest{PurchaseId: p.GetPurchaseId(), RequestId: request, Amount: amount}
}

func cancelOf(p *holdfastv1.Purchase, request string) *holdfastv1.CancelPurchaseRequest {
	return &holdfastv1.CancelPurchaseRequest{PurchaseId: p.GetPurchaseId(), RequestId: request}
}

func returnOf(p *holdfastv1.Purchase, request string, amount int64) *holdfastv1.ReturnPurchaseRequest {
	return &holdfastv1.ReturnPurchaseRequest{PurchaseId: p.GetPurchaseId(), RequestId: request, Amount: amount}
}

func wantState(t *testing.T, p *holdfastv1.Purchase, err error, state holdfastv1.PurchaseState, released int64) {
	t.Helper()
	if err != nil || p.GetState() != state || p.GetAmountReleased() != released {
		t.Fatalf("%v, %v; want %v with %d units released", p, err, state, released)
	}
}

const (
	isConfirmed = holdfastv1.PurchaseState_PURCHASE_STATE_CONFIRMED
	isCancelled = holdfastv1.PurchaseState_PURCHASE_STATE_CANCELLED
	isReturned  = holdfastv1.PurchaseState_PURCHASE_STATE_RETURNED
)

// Units that are given back are there for the next buyer, whichever worker they were given
// back through, and whichever shard they were in: nobody is refused a unit that is there.
func TestUnitsGivenBackAreSoldAgain(t *testing.T) {
	c := newCluster(t)
	seller, other := c.start(t, "a"), c.start(t, "b")
	ctx := t.Context()
	p := seller.create(t, 10)
	giveBack := map[string]func(t *testing.T, region string) int64{
		"cancelled": func(t *testing.T, region string) int64 {
			h := seller.hold(t, p, region, "held", 10, time.Hour)
			got, err := other.CancelPurchase(ctx, cancelOf(h, "c"))
			wantState(t, got, err, isCancelled, 10)
			return 10
		},
		"confirmed in part": func(t *testing.T, region string) int64 {
			h := seller.hold(t, p, region, "in part", 10, time.Hour)
			got, err := other.ConfirmPurchase(ctx, confirm(h, "c", 4))
			wantState(t, got, err, isConfirmed, 6)
			t.Cleanup(func() {
				got, err := other.ReturnPurchase(ctx, returnOf(h, "r", 0))
				wantState(t, got, err, isReturned, 10)
			})
			return 6
		},
		"expired": func(t *testing.T, region string) int64 {
			seller.hold(t, p, region, "expired", 10, -time.Second)
			return 10
		},
		"returned": func(t *testing.T, region string) int64 {
			b := seller.mustBuy(t, p, region, "bought", 10)
			got, err := other.ReturnPurchase(ctx, returnOf(b, "r1", 3))
			wantState(t, got, err, isConfirmed, 3)
			got, err = other.ReturnPurchase(ctx, returnOf(b, "r2", 0))
			wantState(t, got, err, isReturned, 10)
			return 10
		},
	}
	for name, give := range giveBack {
		t.Run(name, func(t *testing.T) {
			for i, region := range regions {
				t.Run(region, func(t *testing.T) {
					units := give(t, region)
					seller.wantAvailable(t, p, units)
					next := seller.mustBuy(t, p, regions[1-i], name+region, units)
					_, err := seller.buy(ctx, p, region, name+region+"none", 1)
					wantReason(t, err, holdfastv1.ReasonInsufficientStock)
					got, err := other.ReturnPurchase(ctx, returnOf(next, "back", 0))
					wantState(t, got, err, isReturned, units)
				})
				p = seller.create(t, 10)
			}
		})
	}
}

// A buyer who comes when the holds are over gets a unit at once, though nobody sweeps.
func TestExpiredHoldsAreSoldOnDemand(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a", func(cfg *Config) { cfg.SweepInterval = -1 })
	p := a.create(t, 100)
	var holders sync.WaitGroup
	for i := range 100 {
		holders.Go(func() { a.hold(t, p, regions[i%2], fmt.Sprint("hold", i), 1, time.Second) })
	}
	holders.Wait()
	_, err := a.buy(t.Context(), p, "eu", "early", 1)
	wantReason(t, err, holdfastv1.ReasonInsufficientStock)
	time.Sleep(1100 * time.Millisecond) // the shard's clock decides, and cannot be set
	a.mustBuy(t, p, "eu", "in time", 1)
	a.wantAvailable(t, p, 99)
}

// What nobody asks for is given back all the same.
func TestHoldsAreSweptWhenTheirTimeIsUp(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a", func(cfg *Config) { cfg.SweepInterval = 20 * time.Millisecond })
	p := a.create(t, 10)
	h := a.hold(t, p, "us", "held", 10, -time.Second)
	c.await(t, "us", "SELECT state = 'expired' FROM purchases WHERE product_id = $1", p)
	_, err := a.ConfirmPurchase(t.Context(), confirm(h, "c", 0))
	wantReason(t, err, holdfastv1.ReasonToReadmit)
	a.wantAvailable(t, p, 10)
}

// A payment may take longer than the hold. When the units are still there the customer
// gets them, once; when not, he is told.
func TestLateConfirmationIsAdmittedAnewOrRefused(t *testing.T) {
	c := newCluster(t)
	a, b := c.start(t, "a"), c.start(t, "b")
	ctx := t.Context()
	p := a.create(t, 10)
	h := a.hold(t, p, "eu", "held", 10, -time.Second)
	a.wantAvailable(t, p, 10) // reading it has expired the hold
	if _, err := a.ConfirmPurchase(ctx, confirm(h, "c1", 6)); holdfastv1.Reason(err) != holdfastv1.ReasonToReadmit ||
		holdfastv1.Info(err).GetMetadata()["product_id"] != p {
		t.Fatalf("%v, want TO_READMIT of %s", err, p)
	}
	for _, n := range []*node{a, b, a} { // the first outcome, wherever it is asked for
		got, err := n.readmit(ctx, h, "c1", 6)
		wantState(t, got, err, isConfirmed, 4)
		a.wantAvailable(t, p, 4)
	}
	got, err := b.ConfirmPurchase(ctx, confirm(h, "c1", 6))
	wantState(t, got, err, isConfirmed, 4)
	_, err = b.ConfirmPurchase(ctx, confirm(h, "c2", 6))
	wantReason(t, err, holdfastv1.ReasonPurchaseConfirmed)

	late := a.hold(t, p, "us", "late", 4, -time.Second)
	a.mustBuy(t, p, "eu", "quicker", 4)
	_, err = a.readmit(ctx, late, "c1", 0)
	wantReason(t, err, holdfastv1.ReasonHoldExpired)
	_, err = a.readmit(ctx, late, "c1", 5)
	wantReason(t, err, holdfastv1.ReasonAmountExceeded)
	a.wantAvailable(t, p, 0)
	checkLedger(t, c.shards, p, 10)
}

func (n *node) readmit(ctx context.Context, p *holdfastv1.Purchase, request string, amount int64) (*holdfastv1.Purchase, error) {
	return n.workers.Readmit(ctx, &workerv1.ReadmitRequest{ProductId: p.GetProductId(), Confirmation: confirm(p, request, amount)})
}

// Each change has one outcome, however often it is asked for, and what is not possible any
// more is said with its reason and changes nothing.
func TestChangesHaveOneOutcome(t *testing.T) {
	c := newCluster(t)
	a, b := c.start(t, "a"), c.start(t, "b")
	ctx := t.Context()
	p := a.create(t, 100)
	extend := func(h *holdfastv1.Purchase, request string, lasts time.Duration) *holdfastv1.ExtendPurchaseRequest {
		return &holdfastv1.ExtendPurchaseRequest{PurchaseId: h.GetPurchaseId(), RequestId: request, Hold: &holdfastv1.Hold{
			Expiration: &holdfastv1.Hold_ExpireTime{ExpireTime: timestamppb.New(time.Now().Add(lasts))},
		}}
	}
	h := a.hold(t, p, "eu", "h", 10, time.Minute)
	extended, err := a.ExtendPurchase(ctx, extend(h, "e", time.Hour))
	wantState(t, extended, err, holdfastv1.PurchaseState_PURCHASE_STATE_HELD, 0)
	if !extended.GetExpireTime().AsTime().After(h.GetExpireTime().AsTime().Add(time.Minute)) {
		t.Fatalf("%v was not extended", extended)
	}
	_, err = a.ExtendPurchase(ctx, extend(h, "e2", 48*time.Hour))
	wantReason(t, err, holdfastv1.ReasonHoldTooLong)
	_, err = a.tryHold(ctx, p, "eu", "too long", 1, 48*time.Hour)
	wantReason(t, err, holdfastv1.ReasonHoldTooLong)
	_, err = a.ReturnPurchase(ctx, returnOf(h, "r", 1))
	wantReason(t, err, holdfastv1.ReasonPurchaseHeld)
	_, err = a.ConfirmPurchase(ctx, confirm(h, "c", 11))
	wantReason(t, err, holdfastv1.ReasonAmountExceeded)
	for _, n := range []*node{a, b} {
		got, err := n.ConfirmPurchase(ctx, confirm(h, "c", 9))
		wantState(t, got, err, isConfirmed, 1)
	}
	_, err = a.ConfirmPurchase(ctx, confirm(h, "c", 8))
	wantReason(t, err, holdfastv1.ReasonRequestIDReused)
	_, err = a.CancelPurchase(ctx, cancelOf(h, "x"))
	wantReason(t, err, holdfastv1.ReasonPurchaseConfirmed)
	_, err = a.ReturnPurchase(ctx, returnOf(h, "r", 10))
	wantReason(t, err, holdfastv1.ReasonAmountExceeded)
	for _, n := range []*node{a, b} {
		got, err := n.ReturnPurchase(ctx, returnOf(h, "r", 2))
		wantState(t, got, err, isConfirmed, 3)
	}
	cancelled := a.hold(t, p, "us", "x", 5, time.Minute)
	for _, n := range []*node{a, b} {
		got, err := n.CancelPurchase(ctx, cancelOf(cancelled, "x"))
		wantState(t, got, err, isCancelled, 5)
	}
	_, err = a.ConfirmPurchase(ctx, confirm(cancelled, "c", 0))
	wantReason(t, err, holdfastv1.ReasonPurchaseCancelled)
	_, err = a.CancelPurchase(ctx, &holdfastv1.CancelPurchaseRequest{PurchaseId: "eu-" + fmt.Sprintf("%032d", 1), RequestId: "x"})
	wantReason(t, err, holdfastv1.ReasonPurchaseNotFound)
	a.wantAvailable(t, p, 93)
	checkLedger(t, c.shards, p, 7)
}

// What is delivered may be sold at once, and what is found missing is never sold.
func TestDeliveriesChangeWhatMayBeSold(t *testing.T) {
	c := newCluster(t)
	a, b := c.start(t, "a"), c.start(t, "b")
	ctx := t.Context()
	p := a.create(t, 10)
	deliver := func(n *node, request string, amount int64) (*holdfastv1.Delivery, error) {
		return n.CreateDelivery(ctx, &holdfastv1.CreateDeliveryRequest{ProductId: p, Amount: amount, RequestId: request})
	}
	a.mustBuy(t, p, "us", "all", 10)
	for _, n := range []*node{b, a} {
		if d, err := deliver(n, "d1", 5); err != nil || d.GetAmount() != 5 {
			t.Fatalf("%v, %v", d, err)
		}
	}
	a.mustBuy(t, p, "eu", "of the delivery", 2)
	for _, n := range []*node{b, a} {
		if d, err := deliver(n, "d2", -3); err != nil || d.GetAmount() != -3 {
			t.Fatalf("%v, %v", d, err)
		}
	}
	_, err := deliver(a, "d3", -1)
	wantReason(t, err, holdfastv1.ReasonInsufficientStock)
	_, err = deliver(a, "d2", -1)
	wantReason(t, err, holdfastv1.ReasonRequestIDReused)
	_, err = a.CreateDelivery(ctx, &holdfastv1.CreateDeliveryRequest{ProductId: "none", Amount: 1, RequestId: "d"})
	wantReason(t, err, holdfastv1.ReasonProductNotFound)
	_, err = a.CreateDelivery(ctx, &holdfastv1.CreateDeliveryRequest{ProductId: "none", Amount: -1, RequestId: "d"})
	wantReason(t, err, holdfastv1.ReasonProductNotFound)
	got, err := a.GetProduct(ctx, &holdfastv1.GetProductRequest{ProductId: p})
	if err != nil || got.GetAmountDelivered() != 2 || got.GetAmountAvailableForPurchase() != 0 || got.GetAmountInStorage() != 10 {
		t.Fatalf("%v, %v", got, err)
	}
	checkLedger(t, c.shards, p, 12)
}

// A limit holds over all shards and whoever sells, and what a customer has given back he
// may have again.
func TestLimitsHoldOverAllShards(t *testing.T) {
	c := newCluster(t)
	nodes := []*node{c.start(t, "a"), c.start(t, "b")}
	ctx := t.Context()
	p := newProduct()
	_, err := nodes[0].CreateProduct(ctx, &holdfastv1.CreateProductRequest{
		ProductId: p, AmountInStorage: 1000, MaxPerCustomer: 10, MaxPerPurchase: 4,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = nodes[0].CreateProduct(ctx, &holdfastv1.CreateProductRequest{ProductId: p, AmountInStorage: 1000, MaxPerPurchase: 4})
	wantReason(t, err, holdfastv1.ReasonProductExists)
	_, err = nodes[0].buy(ctx, p, "eu", "too much", 5)
	wantReason(t, err, holdfastv1.ReasonLimitExceeded)

	y := crowd(ctx, nodes, p, 8, 5) // all of them are one customer
	y.wantOnly(t, holdfastv1.ReasonLimitExceeded)
	if y.sold != 10 || y.reason[holdfastv1.ReasonLimitExceeded] != 30 {
		t.Fatalf("%d sold and %v, want 10 and 30", y.sold, y.reason)
	}
	checkLedger(t, c.shards, p, 10)
	_, err = nodes[0].buy(ctx, p, "us", "one more", 1)
	if has := holdfastv1.Info(err).GetMetadata()["has"]; has != "10" {
		t.Fatalf("%v, want that he has 10", err)
	}
	list, err := nodes[1].ListPurchases(ctx, &holdfastv1.ListPurchasesRequest{ProductId: p})
	if err != nil {
		t.Fatal(err)
	}
	_, err = nodes[1].ReturnPurchase(ctx, returnOf(list.GetPurchases()[3], "back", 1))
	if err != nil {
		t.Fatal(err)
	}
	nodes[0].mustBuy(t, p, "us", "one more", 1)
	h := nodes[0].mustBuy(t, p, "eu", "another customer's", 4, func(r *holdfastv1.CreatePurchaseRequest) { r.CustomerId = "bob" })
	if h.GetCustomerId() != "bob" {
		t.Fatal(h)
	}
	checkLedger(t, c.shards, p, 14)
}
