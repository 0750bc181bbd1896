package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// buyer is one customer. He calls the coordinator of his number first.
type buyer struct {
	t       *traffic
	number  int
	rng     *rand.Rand
	made    int // requests
	errands []errand
}

// errand is what a buyer means to do with a purchase of his, and when.
type errand struct {
	due time.Time
	do  func(context.Context)
}

func (t *traffic) newBuyer(number int) *buyer {
	return &buyer{t: t, number: number, rng: rand.New(rand.NewPCG(t.seed, uint64(number)<<33))}
}

// buyer buys until trade ends; what he has begun he finishes, while ctx lasts.
func (t *traffic) buyer(ctx, trade context.Context, number int) {
	b := t.newBuyer(number)
	for trade.Err() == nil {
		if do := b.nextErrand(); do != nil {
			do(ctx)
		} else {
			b.shop(ctx)
		}
		b.t.rest(trade, b.rng)
	}
}

// rest pauses between two calls.
func (t *traffic) rest(trade context.Context, rng *rand.Rand) {
	sleep(trade, minPause+time.Duration(rng.Int64N(int64(maxPause-minPause))))
}

// nextErrand is the errand that is overdue the longest, or nil.
func (b *buyer) nextErrand() func(context.Context) {
	first := -1
	for i, e := range b.errands {
		if e.due.Before(time.Now()) && (first < 0 || e.due.Before(b.errands[first].due)) {
			first = i
		}
	}
	if first < 0 {
		return nil
	}
	do := b.errands[first].do
	b.errands = slices.Delete(b.errands, first, first+1)
	return do
}

// later means to do something after a time between two.
func (b *buyer) later(least, most time.Duration, do func(context.Context)) {
	b.errands = append(b.errands, errand{time.Now().Add(between(b.rng, least, most)), do})
}

func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rng.Int64N(int64(most-least)))
}

func (b *buyer) request() string {
	b.made++
	return fmt.Sprintf("%s-%d-%d", b.t.name, b.number, b.made)
}

func (b *buyer) chance(percent int) bool { return b.rng.IntN(100) < percent }

// shop buys or holds.
func (b *buyer) shop(ctx context.Context) {
	regions := b.t.regions()
	request := &holdfastv1.CreatePurchaseRequest{
		ProductId: b.t.choose(b.rng, b.number%lines), Amount: 1 + b.rng.Int64N(maxAmount),
		CustomerId: fmt.Sprintf("customer-%d", b.number), Region: regions[b.rng.IntN(len(regions))],
		RequestId: b.request(),
	}
	var lasts time.Duration
	final := b.t.isFinal(request.GetProductId())
	if !final && b.chance(60) {
		lasts = b.time()
		request.Hold = &holdfastv1.Hold{Expiration: &holdfastv1.Hold_Duration{Duration: durationpb.New(lasts)}}
		if b.chance(30) {
			request.Hold.Expiration = &holdfastv1.Hold_ExpireTime{ExpireTime: timestamppb.New(time.Now().Add(lasts))}
		}
	}
	o := b.t.buy(ctx, b.number, request, b.chance(10))
	switch {
	case o.Answer != Admitted || final:
	case o.Kind == Hold:
		b.plan(o, lasts)
	case b.chance(50):
		b.later(500*time.Millisecond, 4*time.Second, func(ctx context.Context) { b.giveBack(ctx, o, o.Amount) })
	}
}

// time is how long a hold is to last: mostly a moment, sometimes longer than the run.
func (b *buyer) time() time.Duration {
	switch n := b.rng.IntN(10); {
	case n < 6:
		return between(b.rng, 300*time.Millisecond, 1500*time.Millisecond)
	case n < 8:
		return between(b.rng, 3*time.Second, 6*time.Second)
	}
	return 10 * time.Minute
}

// plan is what he means to do with a hold that lasts so long.
func (b *buyer) plan(hold Op, lasts time.Duration) {
	const soon = 600 * time.Millisecond
	switch n := b.rng.IntN(20); {
	case n < 5:
		b.later(soon/10, soon, func(ctx context.Context) { b.confirm(ctx, hold) })
	case n < 8:
		b.later(soon/10, soon, func(ctx context.Context) { b.cancel(ctx, hold) })
	case n < 14 && lasts < time.Minute:
		b.later(lasts+20*time.Millisecond, lasts+1500*time.Millisecond, func(ctx context.Context) { b.confirm(ctx, hold) })
	case n < 16:
		b.later(soon/10, soon, func(ctx context.Context) { b.extend(ctx, hold) })
	case n < 18:
		b.later(soon/10, lasts+soon, func(ctx context.Context) { b.hesitate(ctx, hold) })
	}
	// Otherwise he forgets it.
}

// change does something to a purchase.
func (b *buyer) change(ctx context.Context, kind Kind, of Op, amount int64, call func(request string) call) Op {
	request := b.request()
	return b.t.do(ctx, b.number, Op{
		Kind: kind, Product: of.Product, PurchaseID: of.PurchaseID, RequestID: request, Amount: amount,
	}, b.chance(15), call(request))
}

// part is a part of an amount, or 0 for all of it.
func (b *buyer) part(amount int64) int64 {
	if b.chance(50) {
		return 0
	}
	return 1 + b.rng.Int64N(amount)
}

func (b *buyer) confirm(ctx context.Context, hold Op) {
	amount := b.part(hold.Amount)
	o := b.change(ctx, Confirm, hold, amount, confirmation(hold, amount))
	if o.Answer == Admitted && b.chance(50) {
		if amount == 0 {
			amount = hold.Amount
		}
		b.later(200*time.Millisecond, 3*time.Second, func(ctx context.Context) { b.giveBack(ctx, hold, amount) })
	}
}

func confirmation(hold Op, amount int64) func(request string) call {
	return func(request string) call {
		return func(ctx context.Context, c coordinator) (*holdfastv1.Purchase, error) {
			return c.purchases.ConfirmPurchase(ctx, &holdfastv1.ConfirmPurchaseRequest{
				PurchaseId: hold.PurchaseID, Amount: amount, RequestId: request,
			})
		}
	}
}

func (b *buyer) cancel(ctx context.Context, hold Op) Op {
	return b.change(ctx, Cancel, hold, 0, cancellation(hold))
}

func cancellation(hold Op) func(request string) call {
	return func(request string) call {
		return func(ctx context.Context, c coordinator) (*holdfastv1.Purchase, error) {
			return c.purchases.CancelPurchase(ctx, &holdfastv1.CancelPurchaseRequest{PurchaseId: hold.PurchaseID, RequestId: request})
		}
	}
}

// hesitate confirms and cancels at the same time, through different coordinators: one of
// them happens.
func (b *buyer) hesitate(ctx context.Context, hold Op) {
	ops := map[Kind]func(string) call{Confirm: confirmation(hold, 0), Cancel: cancellation(hold)}
	var both sync.WaitGroup
	for i, kind := range []Kind{Confirm, Cancel} {
		request, again := b.request(), b.chance(15)
		both.Go(func() {
			b.t.do(ctx, b.number+i, Op{
				Kind: kind, Product: hold.Product, PurchaseID: hold.PurchaseID, RequestID: request,
			}, again, ops[kind](request))
		})
	}
	both.Wait()
}

// extend lets a hold end later, and then confirms it, cancels it or forgets it.
func (b *buyer) extend(ctx context.Context, hold Op) {
	end := b.t.history.start.Add(hold.Told.Expires + between(b.rng, 200*time.Millisecond, 5*time.Second))
	request := b.request()
	o := b.t.do(ctx, b.number, Op{
		Kind: Extend, Product: hold.Product, PurchaseID: hold.PurchaseID, RequestID: request, Until: b.t.history.at(end),
	}, b.chance(15), func(ctx context.Context, c coordinator) (*holdfastv1.Purchase, error) {
		return c.purchases.ExtendPurchase(ctx, &holdfastv1.ExtendPurchaseRequest{
			PurchaseId: hold.PurchaseID, RequestId: request,
			Hold: &holdfastv1.Hold{Expiration: &holdfastv1.Hold_ExpireTime{ExpireTime: timestamppb.New(end)}},
		})
	})
	if o.Answer != Admitted {
		return
	}
	hold.Told = o.Told
	switch rest := max(time.Until(end), time.Millisecond); b.rng.IntN(4) {
	case 0:
		b.later(0, rest+time.Second, func(ctx context.Context) { b.confirm(ctx, hold) })
	case 1:
		b.later(0, rest+time.Second, func(ctx context.Context) { b.cancel(ctx, hold) })
	case 2:
		b.later(0, rest+time.Second, func(ctx context.Context) { b.extend(ctx, hold) })
	}
}

// giveBack returns a part of what is sold, and then perhaps the rest.
func (b *buyer) giveBack(ctx context.Context, of Op, has int64) {
	amount := b.part(has)
	o := b.change(ctx, Return, of, amount, func(request string) call {
		return func(ctx context.Context, c coordinator) (*holdfastv1.Purchase, error) {
			return c.purchases.ReturnPurchase(ctx, &holdfastv1.ReturnPurchaseRequest{
				PurchaseId: of.PurchaseID, Amount: amount, RequestId: request,
			})
		}
	})
	if left := has - amount; o.Answer == Admitted && amount > 0 && left > 0 && b.chance(50) {
		b.later(100*time.Millisecond, 2*time.Second, func(ctx context.Context) { b.giveBack(ctx, of, left) })
	}
}

// operator delivers to the products of a line, and finds units missing, until trade ends.
func (t *traffic) operator(ctx, trade context.Context, line int) {
	rng := rand.New(rand.NewPCG(t.seed, uint64(line)<<34))
	for i := 0; trade.Err() == nil; i++ {
		amount := 1 + rng.Int64N(maxAmount)
		if rng.IntN(5) < 2 {
			amount = -amount
		}
		request := &holdfastv1.CreateDeliveryRequest{
			ProductId: t.choose(rng, line), Amount: amount, RequestId: fmt.Sprintf("%s-delivery-%d-%d", t.name, line, i),
		}
		t.do(ctx, line, Op{
			Kind: Deliver, Product: request.GetProductId(), RequestID: request.GetRequestId(), Amount: amount,
		}, rng.IntN(10) == 0, func(ctx context.Context, c coordinator) (*holdfastv1.Purchase, error) {
			d, err := c.products.CreateDelivery(ctx, request)
			return &holdfastv1.Purchase{PurchaseId: d.GetDeliveryId()}, err
		})
		sleep(trade, between(rng, 100*time.Millisecond, 600*time.Millisecond))
	}
}
