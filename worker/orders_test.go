package worker

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
	"github.com/holdfast-io/holdfast/worker/payment"
	"github.com/holdfast-io/holdfast/worker/payment/simulated"
)

// till is a payment provider, and what it has in its books.
type till struct {
	*simulated.Server
	client    *simulated.Client
	providers payment.Providers
}

func newTill(t *testing.T) *till {
	t.Helper()
	server, err := simulated.NewServer(simulated.Faults{})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(server)
	t.Cleanup(web.Close)
	client, err := simulated.NewClient(simulated.Config{URL: web.URL, HTTP: web.Client()})
	if err != nil {
		t.Fatal(err)
	}
	providers, err := payment.NewProviders(map[string]payment.Provider{"simulated": payment.Within(client, time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	return &till{server, client, providers}
}

func (s *till) pays(cfg *Config) { cfg.Providers = s.providers }

// entry waits until the till's books say that of a payment.
func (s *till) await(t *testing.T, key string, so func(simulated.Entry) bool) {
	t.Helper()
	var last simulated.Entry
	for ctx := patient(t); ctx.Err() == nil; pause(ctx, time.Millisecond) {
		for e, err := range s.client.Ledger(ctx) {
			if err == nil && e.Key == key {
				last = e
			}
		}
		if so(last) {
			return
		}
	}
	t.Fatalf("%s: the till says %+v", key, last)
}

// find looks a payment up in the till's books.
func (s *till) find(t *testing.T, key string) (found simulated.Entry, ok bool) {
	t.Helper()
	for e, err := range s.client.Ledger(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Key == key {
			found, ok = e, true
		}
	}
	return found, ok
}

const euros = "EUR"

func line(product string, amount, price int64) *holdfastv1.OrderLine {
	l := &holdfastv1.OrderLine{ProductId: product, Amount: amount}
	if price > 0 {
		l.UnitPrice = &holdfastv1.Money{CurrencyCode: euros, MinorUnits: price}
	}
	return l
}

// place does what a coordinator does until an order is placed or has failed.
func (n *node) place(
	ctx context.Context, request, method string, lasts time.Duration, lines ...*holdfastv1.OrderLine,
) (*holdfastv1.Order, error) {
	return n.order(ctx, false, request, method, lasts, lines...)
}

// order does it, and has a placed order finished or not.
func (n *node) order(
	ctx context.Context, finish bool, request, method string, lasts time.Duration, lines ...*holdfastv1.OrderLine,
) (*holdfastv1.Order, error) {
	o := &holdfastv1.CreateOrderRequest{
		Lines: lines, CustomerId: "ann", Region: "eu", PaymentMethod: method, RequestId: request,
	}
	opened, err := n.workers.OpenOrder(ctx, &workerv1.OpenOrderRequest{Order: o})
	if err != nil {
		return nil, err
	}
	failure := &holdfastv1.OrderFailure{}
	hold := &holdfastv1.Hold{Expiration: &holdfastv1.Hold_ExpireTime{ExpireTime: timestamppb.New(time.Now().Add(lasts))}}
	for _, l := range lines {
		if !opened.GetOpen() {
			break
		}
		_, err := n.workers.HoldLine(ctx, &workerv1.HoldLineRequest{
			OrderId: opened.GetOrderId(), UnitPrice: l.GetUnitPrice(), Line: &holdfastv1.CreatePurchaseRequest{
				ProductId: l.GetProductId(), Amount: l.GetAmount(), CustomerId: "ann", Region: "eu", PaymentMethod: method,
				RequestId: request, Hold: hold,
			},
		})
		if err != nil {
			failure.Lines = append(failure.Lines, &holdfastv1.LineFailure{ProductId: l.GetProductId()})
		}
	}
	return n.workers.CloseOrder(ctx, &workerv1.CloseOrderRequest{OrderId: opened.GetOrderId(), Failure: failure, Finish: finish})
}

func (n *node) mustPlace(t *testing.T, request, method string, lasts time.Duration, lines ...*holdfastv1.OrderLine) *holdfastv1.Order {
	t.Helper()
	o, err := n.place(t.Context(), request, method, lasts, lines...)
	if err != nil || o.GetState() != holdfastv1.PurchaseState_PURCHASE_STATE_HELD || len(o.GetPurchases()) != len(lines) {
		t.Fatalf("%v, %v", o, err)
	}
	return o
}

func (n *node) pay(ctx context.Context, o *holdfastv1.Order) (*holdfastv1.Order, error) {
	return n.PayOrder(ctx, &holdfastv1.PayOrderRequest{OrderId: o.GetOrderId()})
}

// An order is all of its lines or none, and what it did not keep others can have.
func TestOrderIsAllOrNothing(t *testing.T) {
	c := newCluster(t)
	a, b := c.start(t, "a"), c.start(t, "b")
	ctx := t.Context()
	p, q := a.create(t, 10), b.create(t, 5)
	o := a.mustPlace(t, "o1", "", time.Hour, line(p, 4, 0), line(q, 5, 0))
	a.wantAvailable(t, p, 6)

	_, err := b.place(ctx, "o2", "", time.Hour, line(p, 6, 0), line(q, 1, 0))
	wantReason(t, err, holdfastv1.ReasonOrderFailed)
	a.wantAvailable(t, p, 6)
	_, err = a.place(ctx, "o2", "", time.Hour, line(p, 6, 0), line(q, 1, 0)) // has one outcome
	wantReason(t, err, holdfastv1.ReasonOrderFailed)
	_, err = a.place(ctx, "o2", "", time.Hour, line(p, 1, 0))
	wantReason(t, err, holdfastv1.ReasonRequestIDReused)

	first := o.GetPurchases()[0]
	_, err = a.ConfirmPurchase(ctx, confirm(first, "c", 0))
	wantReason(t, err, holdfastv1.ReasonPurchaseInOrder)
	for _, n := range []*node{a, b} {
		o, err := n.ConfirmOrder(ctx, &holdfastv1.ConfirmOrderRequest{OrderId: o.GetOrderId(), RequestId: "c"})
		if err != nil || o.GetState() != isConfirmed || o.GetPurchases()[1].GetState() != isConfirmed {
			t.Fatalf("%v, %v", o, err)
		}
	}
	_, err = a.CancelOrder(ctx, &holdfastv1.CancelOrderRequest{OrderId: o.GetOrderId(), RequestId: "x"})
	wantReason(t, err, holdfastv1.ReasonPurchaseConfirmed)
	got, err := a.ReturnPurchase(ctx, returnOf(first, "r", 1))
	wantState(t, got, err, isConfirmed, 1)

	o = a.mustPlace(t, "o3", "", time.Hour, line(p, 7, 0))
	o, err = b.CancelOrder(ctx, &holdfastv1.CancelOrderRequest{OrderId: o.GetOrderId(), RequestId: "x"})
	if err != nil || o.GetState() != isCancelled {
		t.Fatalf("%v, %v", o, err)
	}
	checkLedger(t, c.shards, p, 3)
	checkLedger(t, c.shards, q, 5)
}

// Whoever has an order fail may be killed before he has given its lines back. The same call
// gives them back then, long before their holds expire.
func TestRepetitionOfAFailedOrderGivesBack(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a")
	p := a.create(t, 10)
	o := a.mustPlace(t, "half failed", "", time.Hour, line(p, 4, 0))
	sh, id, _ := shardOf(t, c, o)
	c.exec(t, sh.Name(), "UPDATE orders SET state = 'failed', failure = '' WHERE order_id = $1", id)
	a.wantAvailable(t, p, 6)
	_, err := a.place(t.Context(), "half failed", "", time.Hour, line(p, 4, 0))
	wantReason(t, err, holdfastv1.ReasonOrderFailed)
	a.wantAvailable(t, p, 10)
}

// Money follows units: captured when they are confirmed, let go when they are not,
// refunded when they come back.
func TestMoneyFollowsUnits(t *testing.T) {
	c, money := newCluster(t), newTill(t)
	a := c.start(t, "a", money.pays)
	ctx := t.Context()
	p, q := a.create(t, 100), a.create(t, 100)

	o := a.mustPlace(t, "paid", "simulated:ok", time.Hour, line(p, 4, 250), line(q, 1, 99))
	_, err := a.ConfirmOrder(ctx, &holdfastv1.ConfirmOrderRequest{OrderId: o.GetOrderId(), RequestId: "c"})
	if err != nil {
		t.Fatalf("an order whose payment has not begun can be confirmed without one: %v", err)
	}
	o = a.mustPlace(t, "paid2", "simulated:ok", time.Hour, line(p, 4, 250), line(q, 1, 99))
	for range 2 { // the second one repeats the first
		paid, err := a.pay(ctx, o)
		if err != nil || paid.GetState() != isConfirmed {
			t.Fatalf("%v, %v", paid, err)
		}
	}
	money.await(t, o.GetOrderId(), func(e simulated.Entry) bool { return e.Captured == 1099 && e.Calls.Capture >= 1 })
	for _, part := range []struct{ amount, refunded int64 }{{1, 250}, {3, 1000}} {
		if _, err := a.ReturnPurchase(ctx, returnOf(o.GetPurchases()[0], fmt.Sprint("r", part.amount), part.amount)); err != nil {
			if _, err := a.ReturnPurchase(ctx, returnOf(o.GetPurchases()[1], fmt.Sprint("r", part.amount), part.amount)); err != nil {
				t.Fatal(err)
			}
		}
	}
	refunded := int64(0)
	for _, each := range o.GetPurchases() {
		got, err := a.GetPurchase(ctx, &holdfastv1.GetPurchaseRequest{PurchaseId: each.GetPurchaseId()})
		if err != nil {
			t.Fatal(err)
		}
		price := map[string]int64{p: 250, q: 99}[got.GetProductId()]
		refunded += got.GetAmountReleased() * price
	}
	money.await(t, o.GetOrderId(), func(e simulated.Entry) bool { return e.Refunded == refunded && refunded > 0 })

	no := a.mustPlace(t, "declined", "simulated:decline", time.Hour, line(p, 4, 250))
	_, err = a.pay(ctx, no)
	wantReason(t, err, holdfastv1.ReasonPaymentDeclined)
	_, err = a.pay(ctx, no)
	wantReason(t, err, holdfastv1.ReasonPaymentDeclined)

	gone := a.mustPlace(t, "cancelled", "simulated:ok", time.Hour, line(p, 4, 250))
	sh, _, id := shardOf(t, c, gone)
	if _, err := sh.BeginPayment(ctx, id); err != nil {
		t.Fatal(err)
	}
	_, err = a.ConfirmOrder(ctx, &holdfastv1.ConfirmOrderRequest{OrderId: gone.GetOrderId(), RequestId: "c"})
	wantReason(t, err, holdfastv1.ReasonPaymentPending)
	if _, err := a.CancelOrder(ctx, &holdfastv1.CancelOrderRequest{OrderId: gone.GetOrderId(), RequestId: "x"}); err != nil {
		t.Fatal(err)
	}
	money.await(t, gone.GetOrderId(), func(e simulated.Entry) bool { return e.State == payment.Voided })
	_, err = a.pay(ctx, gone)
	wantReason(t, err, holdfastv1.ReasonHoldExpired)
	if _, err := a.GetOrder(ctx, &holdfastv1.GetOrderRequest{OrderId: gone.GetOrderId()}); err != nil {
		t.Fatal(err)
	}
}

// Whatever step of a payment is the last before a crash, in the end the money and the
// units agree: the same call goes on, or nobody has anything.
func TestCrashBetweenStepsOfAPayment(t *testing.T) {
	c, money := newCluster(t), newTill(t)
	a := c.start(t, "a", money.pays, func(cfg *Config) { cfg.SweepInterval = 10 * time.Millisecond })
	ctx := t.Context()
	p := a.create(t, 1000)
	steps := []string{"placed", "payment stored", "authorized"}
	for last, step := range steps {
		for _, repeated := range []bool{true, false} {
			name := fmt.Sprintf("after %s, repeated %t", step, repeated)
			lasts := time.Hour
			if !repeated {
				lasts = 300 * time.Millisecond
			}
			o := a.mustPlace(t, name, "simulated:ok", lasts, line(p, 2, 300))
			sh, sold, id := shardOf(t, c, o)
			if last >= 1 {
				stored, err := sh.BeginPayment(ctx, id)
				if err != nil || stored.Payment == nil {
					t.Fatal(stored, err)
				}
				asked := payment.Payment{
					Key: o.GetOrderId(), Method: "ok", Begun: stored.Payment.CreateTime, Money: payment.Money{Currency: euros, MinorUnits: 600},
				}
				if last >= 2 {
					if _, err := money.client.Authorize(ctx, asked); err != nil {
						t.Fatal(err)
					}
				}
			}
			if repeated {
				paid, err := a.pay(ctx, o)
				if err != nil || paid.GetState() != isConfirmed {
					t.Fatalf("%s: %v, %v", name, paid, err)
				}
				money.await(t, o.GetOrderId(), func(e simulated.Entry) bool { return e.Captured == 600 })
				continue
			}
			c.await(t, "eu", "SELECT state = 'expired' FROM purchases WHERE order_id = $1", sold)
			if last >= 1 {
				money.await(t, o.GetOrderId(), func(e simulated.Entry) bool { return e.State == payment.Voided && e.Captured == 0 })
			}
			_, err := a.pay(ctx, o)
			wantReason(t, err, holdfastv1.ReasonHoldExpired)
		}
	}
	a.wantAvailable(t, p, 1000-6)
}

// The last step of an order does all that is left of it, and does it once however often it
// is asked for.
func TestLastStepFinishesAnOrder(t *testing.T) {
	c, money := newCluster(t), newTill(t)
	a := c.start(t, "a", money.pays)
	p, ctx := a.create(t, 1000), t.Context()
	for range 2 {
		paid, err := a.order(ctx, true, p+" paid", "simulated:ok", time.Hour, line(p, 3, 250))
		if err != nil || paid.GetState() != isConfirmed || paid.GetPayment().GetAmount().GetMinorUnits() != 750 {
			t.Errorf("paid: %v, %v", paid, err)
		}
		money.await(t, paid.GetOrderId(), func(e simulated.Entry) bool { return e.Captured == 750 })
		free, err := a.order(ctx, true, p+" free", "", time.Hour, line(p, 2, 0))
		if err != nil || free.GetState() != isConfirmed || free.GetPayment() != nil {
			t.Errorf("free: %v, %v", free, err)
		}
		_, err = a.order(ctx, true, p+" declined", "simulated:decline", time.Hour, line(p, 4, 250))
		wantReason(t, err, holdfastv1.ReasonPaymentDeclined)
		_, err = a.order(ctx, true, p+" ended", "simulated:ok", -time.Second, line(p, 4, 250))
		wantReason(t, err, holdfastv1.ReasonHoldExpired)
	}
	a.wantAvailable(t, p, 1000-5)

	held := a.mustPlace(t, p+" held", "simulated:ok", time.Hour, line(p, 5, 250))
	if _, err := a.CancelOrder(ctx, &holdfastv1.CancelOrderRequest{OrderId: held.GetOrderId(), RequestId: "x"}); err != nil {
		t.Fatal(err)
	}
	_, err := a.order(ctx, true, p+" held", "simulated:ok", time.Hour, line(p, 5, 250))
	wantReason(t, err, holdfastv1.ReasonHoldExpired)
	back, err := a.order(ctx, true, p+" paid", "simulated:ok", time.Hour, line(p, 3, 250))
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.ReturnPurchase(ctx, &holdfastv1.ReturnPurchaseRequest{PurchaseId: back.GetPurchases()[0].GetPurchaseId(), RequestId: "b"})
	if err != nil {
		t.Fatal(err)
	}
	back, err = a.order(ctx, true, p+" paid", "simulated:ok", time.Hour, line(p, 3, 250))
	if err != nil || back.GetState() != holdfastv1.PurchaseState_PURCHASE_STATE_RETURNED {
		t.Errorf("repeated after it was returned: %v, %v", back, err)
	}
	if e, ok := money.find(t, held.GetOrderId()); ok {
		t.Errorf("the provider was asked about a cancelled order: %+v", e)
	}
}

// forMoney is a purchase with a price, as a coordinator has it sold.
func (n *node) forMoney(
	ctx context.Context, finish bool, request, method string, lasts time.Duration, l *holdfastv1.OrderLine,
) (*holdfastv1.Order, error) {
	return n.workers.SellForMoney(ctx, &workerv1.SellForMoneyRequest{
		Order: &holdfastv1.CreateOrderRequest{
			Lines: []*holdfastv1.OrderLine{l}, CustomerId: "ann", Region: "eu", PaymentMethod: method, RequestId: request,
			Hold: &holdfastv1.Hold{Expiration: &holdfastv1.Hold_ExpireTime{ExpireTime: timestamppb.New(time.Now().Add(lasts))}},
		},
		Finish: finish, HoldUntil: timestamppb.New(time.Now().Add(time.Minute)),
	})
}

// A purchase with a price has one outcome, like any order: whoever asks again, of any
// worker, is told it, and pays once.
func TestPurchaseForMoneyHasOneOutcome(t *testing.T) {
	c, money := newCluster(t), newTill(t)
	a, b := c.start(t, "a", money.pays), c.start(t, "b", money.pays)
	p, ctx := a.create(t, 10), t.Context()
	var all *holdfastv1.Order
	for _, n := range []*node{a, b} {
		paid, err := n.forMoney(ctx, true, p+" paid", "simulated:ok", time.Hour, line(p, 3, 250))
		if err != nil || paid.GetState() != isConfirmed || paid.GetPayment().GetAmount().GetMinorUnits() != 750 {
			t.Fatalf("paid: %v, %v", paid, err)
		}
		money.await(t, paid.GetOrderId(), func(e simulated.Entry) bool { return e.Captured == 750 })
		_, err = n.forMoney(ctx, true, p+" declined", "simulated:decline", time.Hour, line(p, 4, 250))
		wantReason(t, err, holdfastv1.ReasonPaymentDeclined)
		_, err = n.forMoney(ctx, true, p+" ended", "simulated:ok", -time.Second, line(p, 4, 250))
		wantReason(t, err, holdfastv1.ReasonHoldExpired)
		_, err = n.forMoney(ctx, true, p+" paid", "simulated:ok", time.Hour, line(p, 2, 250))
		wantReason(t, err, holdfastv1.ReasonRequestIDReused)
		all, err = n.forMoney(ctx, false, p+" held", "simulated:ok", time.Hour, line(p, 7, 250))
		if err != nil || all.GetState() != holdfastv1.PurchaseState_PURCHASE_STATE_HELD || all.GetPayment() != nil {
			t.Fatalf("held: %v, %v", all, err)
		}
		_, err = n.forMoney(ctx, true, p+" refused", "simulated:ok", time.Hour, line(p, 2, 250))
		wantReason(t, err, holdfastv1.ReasonOrderFailed)
	}
	if _, err := a.CancelOrder(ctx, &holdfastv1.CancelOrderRequest{OrderId: all.GetOrderId(), RequestId: "x"}); err != nil {
		t.Fatal(err)
	}
	// Now the units are there, but the order has failed. Nothing of it stays held.
	_, err := b.forMoney(ctx, true, p+" refused", "simulated:ok", time.Hour, line(p, 2, 250))
	wantReason(t, err, holdfastv1.ReasonOrderFailed)
	_, err = b.forMoney(ctx, true, p+" refused", "simulated:ok", time.Hour, line(p, 1, 250))
	wantReason(t, err, holdfastv1.ReasonRequestIDReused)
	a.wantAvailable(t, p, 7)
	checkLedger(t, c.shards, p, 3)
}

// A request id that somebody uses twice, with other content, does not undo what was asked for
// with it first, however far that is.
func TestReusedRequestIDLeavesTheFirstPurchaseAlone(t *testing.T) {
	c, money := newCluster(t), newTill(t)
	a := c.start(t, "a", money.pays)
	p, ctx := a.create(t, 10), t.Context()
	o, err := a.forMoney(ctx, false, p, "simulated:ok", time.Hour, line(p, 1, 5))
	if err != nil {
		t.Fatal(err)
	}
	c.exec(t, "eu", "DELETE FROM orders WHERE order_id = $1", rowOf(t, o)) // as if it was yet to be stored
	_, err = a.forMoney(ctx, true, p, "simulated:ok", time.Hour, line(p, 2, 5))
	wantReason(t, err, holdfastv1.ReasonRequestIDReused)
	again, err := a.forMoney(ctx, true, p, "simulated:ok", time.Hour, line(p, 1, 5))
	if err != nil || again.GetState() != isConfirmed {
		t.Errorf("the first one was told %v, %v", again, err)
	}
	a.wantAvailable(t, p, 9)
}

// A task that its provider has done and whose end does not fit the payment's row, because an
// operator has moved money by hand, say, is given up, and holds up no other.
func TestTaskThatDoesNotFitHoldsUpNoOther(t *testing.T) {
	c, money := newCluster(t), newTill(t)
	a := c.start(t, "a", money.pays)
	p := a.create(t, 10)
	var orders []*holdfastv1.Order
	for i := range 2 {
		o := a.mustPlace(t, fmt.Sprint(p, i), "simulated:ok", time.Hour, line(p, 1, 5))
		if _, err := a.pay(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		money.await(t, o.GetOrderId(), func(e simulated.Entry) bool { return e.Captured == 5 })
		c.await(t, "eu", "SELECT state = 'captured' FROM payments WHERE order_id = $1", rowOf(t, o))
		orders = append(orders, o)
	}
	c.exec(t, "eu", "UPDATE payments SET captured = 0 WHERE order_id = $1", rowOf(t, orders[0]))
	for i, o := range orders {
		if _, err := a.ReturnPurchase(t.Context(), returnOf(o.GetPurchases()[0], fmt.Sprint("r", i), 1)); err != nil {
			t.Fatal(err)
		}
	}
	c.await(t, "eu", "SELECT state = 'dead' FROM payment_tasks WHERE action = 'refund' AND order_id = $1", rowOf(t, orders[0]))
	c.await(t, "eu", "SELECT refunded = 5 FROM payments WHERE order_id = $1", rowOf(t, orders[1]))
}

// The worker may be killed after the line is held and before the order is stored. A
// repetition goes on, and without one the hold ends and nobody was asked for money.
func TestPurchaseForMoneyIsKilledHalfway(t *testing.T) {
	c, money := newCluster(t), newTill(t)
	a := c.start(t, "a", money.pays, func(cfg *Config) { cfg.SweepInterval = 10 * time.Millisecond })
	p, ctx := a.create(t, 10), t.Context()
	for _, repeated := range []bool{true, false} {
		request, lasts := fmt.Sprint(p, repeated), time.Hour
		if !repeated {
			lasts = 300 * time.Millisecond
		}
		o, err := a.forMoney(ctx, false, request, "simulated:ok", lasts, line(p, 2, 300))
		if err != nil {
			t.Fatal(err)
		}
		c.exec(t, "eu", "DELETE FROM orders WHERE order_id = $1", rowOf(t, o))
		if !repeated {
			c.await(t, "eu", "SELECT state = 'expired' FROM purchases WHERE order_id = $1", rowOf(t, o))
		}
		again, err := a.forMoney(ctx, true, request, "simulated:ok", lasts, line(p, 2, 300))
		if repeated {
			if err != nil || again.GetState() != isConfirmed || again.GetOrderId() != o.GetOrderId() {
				t.Errorf("repeated: %v, %v", again, err)
			}
			money.await(t, o.GetOrderId(), func(e simulated.Entry) bool { return e.Captured == 600 })
			continue
		}
		wantReason(t, err, holdfastv1.ReasonHoldExpired)
		if e, ok := money.find(t, o.GetOrderId()); ok {
			t.Errorf("the provider was asked: %+v", e)
		}
	}
	a.wantAvailable(t, p, 8)
}

// A line that a worker comes to too late is not held: the buyer may have been told what
// another worker decided.
func TestPurchaseForMoneyIsNotHeldTooLate(t *testing.T) {
	c, money := newCluster(t), newTill(t)
	a := c.start(t, "a", money.pays)
	p := a.create(t, 10)
	_, err := a.workers.SellForMoney(t.Context(), &workerv1.SellForMoneyRequest{
		Order: &holdfastv1.CreateOrderRequest{
			Lines: []*holdfastv1.OrderLine{line(p, 1, 5)}, CustomerId: "ann", Region: "eu", PaymentMethod: "simulated:ok", RequestId: p,
			Hold: &holdfastv1.Hold{Expiration: &holdfastv1.Hold_ExpireTime{ExpireTime: timestamppb.New(time.Now().Add(time.Hour))}},
		},
		Finish: true, HoldUntil: timestamppb.New(time.Now().Add(-time.Millisecond)),
	})
	if !holdfastv1.IsTransient(err) {
		t.Errorf("got %v, want to be told that it was not decided", err)
	}
	a.wantAvailable(t, p, 10)
}

// rowOf is the id of an order in its shard.
func rowOf(t *testing.T, o *holdfastv1.Order) string {
	t.Helper()
	_, id, ok := holdfastv1.ParseID(o.GetOrderId())
	if !ok {
		t.Fatal(o.GetOrderId())
	}
	return id.String()
}

// A capture whose provider does not answer holds up no other one.
func TestStuckTaskHoldsUpNoOther(t *testing.T) {
	c, money := newCluster(t), newTill(t)
	stuck := &stuckCapture{Provider: money.client, release: make(chan struct{})}
	providers, err := payment.NewProviders(map[string]payment.Provider{"simulated": stuck})
	if err != nil {
		t.Fatal(err)
	}
	a := c.start(t, "a", func(cfg *Config) { cfg.Providers = providers })
	p := a.create(t, 1000)
	first := a.mustPlace(t, p+" first", "simulated:ok", time.Hour, line(p, 1, 5))
	stuck.key = first.GetOrderId()
	for _, o := range []*holdfastv1.Order{first, a.mustPlace(t, p+" second", "simulated:ok", time.Hour, line(p, 1, 7))} {
		if _, err := a.pay(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if o != first {
			money.await(t, o.GetOrderId(), func(e simulated.Entry) bool { return e.Captured == 7 })
		}
	}
	if e, _ := money.find(t, first.GetOrderId()); e.Captured != 0 {
		t.Fatalf("was not stuck: %+v", e)
	}
	close(stuck.release)
	money.await(t, first.GetOrderId(), func(e simulated.Entry) bool { return e.Captured == 5 })
}

// stuckCapture is a provider that does not answer one capture until it is released.
type stuckCapture struct {
	payment.Provider
	key     string
	release chan struct{}
}

func (s *stuckCapture) Capture(ctx context.Context, p payment.Payment, minorUnits int64) error {
	if p.Key == s.key {
		select {
		case <-s.release:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.Provider.Capture(ctx, p, minorUnits)
}

// A provider that takes its time, and whose answers are lost, holds up nobody else, and
// charges nobody twice.
func TestSlowProviderHoldsUpNobodyElse(t *testing.T) {
	c, money := newCluster(t), newTill(t)
	a := c.start(t, "a", money.pays)
	p := a.create(t, 1000)
	var slow sync.WaitGroup
	for i := range 20 {
		o := a.mustPlace(t, fmt.Sprint("slow", i), "simulated:slow", time.Hour, line(p, 1, 5))
		slow.Go(func() {
			if paid, err := a.pay(t.Context(), o); err != nil || paid.GetState() != isConfirmed {
				t.Errorf("%v, %v", paid, err)
			}
		})
	}
	began := time.Now()
	for i := range 50 {
		a.mustBuy(t, p, "eu", fmt.Sprint("quick", i), 1)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("50 purchases took %v", took)
	}
	slow.Wait()
	checkLedger(t, c.shards, p, 70)
	for e, err := range money.client.Ledger(t.Context()) {
		if err = errors.Join(err, e.Check()); err != nil || e.DoubleCaptures > 0 {
			t.Errorf("%+v, %v", e, err)
		}
	}
}

// shardOf is where an order is stored, and its id there.
func shardOf(t *testing.T, c *testCluster, o *holdfastv1.Order) (*ledger.Shard, string, uuid.UUID) {
	t.Helper()
	region, id, ok := holdfastv1.ParseID(o.GetOrderId())
	if !ok {
		t.Fatal(o.GetOrderId())
	}
	for _, sh := range c.open {
		if sh.Name() == region {
			return sh, id.String(), id
		}
	}
	t.Fatal(region)
	return nil, "", id
}
