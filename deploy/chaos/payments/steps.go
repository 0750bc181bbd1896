package payments

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
)

// Step is a moment of a payment at which workers are killed.
type Step struct {
	Name  string
	reach func(context.Context, *batch) error // brings the rounds there
	call  call                                // what buyers repeat

	// expires tells that in every other batch nobody does anything and the holds expire.
	expires bool
	// fresh tells that nothing is placed before: the rounds are purchases with a price.
	fresh bool
}

// call is what a buyer asks for.
type call func(context.Context, *shop, *round) error

// stopTimeout is how long rounds may take to a step; those that do not come are not counted.
const stopTimeout = 10 * time.Second

// Steps are all of them, in the order of a payment.
var Steps = []Step{
	{"held, the order not stored", atHeld, buy, false, true},
	{"held, the provider not asked", atBegin, pay, false, false},
	{"authorize arrived, not done", atAuthorize(arrived), pay, false, false},
	{"authorize arrived, done when all is over", atLateAuthorize, pay, false, false},
	{"authorize done, not answered", atAuthorize(done), pay, false, false},
	{"authorize answered, not stored", atSettle, pay, false, false},
	{"confirmed, the capture not asked for", atConfirmed, pay, false, false},
	{"capture arrived, not done", atCapture(arrived), pay, false, false},
	{"capture done, not answered", atCapture(done), pay, false, false},
	{"capture answered, not stored", stored(atCapture(arrived)), pay, false, false},
	{"cancelled, the void not asked for", atCancelled, cancel, false, false},
	{"void arrived, not done", atVoid(arrived), cancel, true, false},
	{"void done, not answered", atVoid(done), cancel, true, false},
	{"void answered, not stored", stored(atVoid(arrived)), cancel, true, false},
	{"returned, the refund not asked for", atReturned, giveBack, false, false},
	{"refund arrived, not done", atRefund(arrived), giveBack, false, false},
	{"refund done, not answered", atRefund(done), giveBack, false, false},
	{"refund answered, not stored", stored(atRefund(arrived)), giveBack, false, false},
}

func pay(ctx context.Context, s *shop, r *round) error {
	_, err := s.PayOrder(ctx, &holdfastv1.PayOrderRequest{OrderId: r.id})
	return err
}

func buy(ctx context.Context, s *shop, r *round) error {
	_, err := s.CreatePurchase(ctx, &holdfastv1.CreatePurchaseRequest{
		ProductId: r.line.GetProductId(), Amount: r.line.GetAmount(), UnitPrice: r.line.GetUnitPrice(),
		CustomerId: "ann", Region: r.shard, PaymentMethod: "simulated", RequestId: r.request,
	})
	return err
}

// sell asks a worker for the same as its coordinator does.
func sell(ctx context.Context, s *shop, r *round) error {
	now := time.Now()
	_, err := workerv1.NewWorkerServiceClient(s.conn).SellForMoney(ctx, &workerv1.SellForMoneyRequest{
		Order: &holdfastv1.CreateOrderRequest{
			Lines: []*holdfastv1.OrderLine{r.line}, CustomerId: "ann", Region: r.shard, PaymentMethod: "simulated", RequestId: r.request,
			Hold: &holdfastv1.Hold{Expiration: &holdfastv1.Hold_ExpireTime{ExpireTime: timestamppb.New(now.Add(r.lasts))}},
		},
		Finish: true, HoldUntil: timestamppb.New(now.Add(attemptTimeout)),
	})
	return err
}

func cancel(ctx context.Context, s *shop, r *round) error {
	_, err := s.CancelOrder(ctx, &holdfastv1.CancelOrderRequest{OrderId: r.id, RequestId: "cancel"})
	return err
}

func giveBack(ctx context.Context, s *shop, r *round) error {
	_, err := s.ReturnPurchase(ctx, &holdfastv1.ReturnPurchaseRequest{
		PurchaseId: r.purchase.GetPurchaseId(), Amount: 1, RequestId: "return",
	})
	return err
}

// victim chooses who is asked directly, as by a coordinator that dies with him: nobody
// repeats a call for the buyer.
func (b *batch) victim() *shop {
	name := b.next()
	b.victims = []string{name}
	return b.direct[name]
}

func (b *batch) askVictim(what call) {
	victim := b.victim()
	b.start(func(ctx context.Context, r *round) error { return what(ctx, victim, r) })
}

func (b *batch) all() {
	for _, r := range b.rounds {
		r.reached = true
	}
}

// atHeld: the line is held, and the order is to be stored, which the harness keeps from all.
func atHeld(ctx context.Context, b *batch) (err error) {
	if b.lock, err = b.world.lock(ctx, lockOrders, b.rounds); err != nil {
		return err
	}
	b.askVictim(sell)
	return errors.Join(b.lock.await(ctx), b.onlyHeld(ctx))
}

// onlyHeld waits until the lines of all rounds are held, and goes on with those that are.
func (b *batch) onlyHeld(ctx context.Context) error {
	began := time.Now()
	for {
		err := b.findHeld(ctx)
		held := func(r *round) bool { return r.id != "" }
		all := !slices.ContainsFunc(b.rounds, func(r *round) bool { return !held(r) })
		if err == nil && !all && time.Since(began) < lockFor/2 && sleep(ctx, 10*time.Millisecond) {
			continue
		}
		b.rounds = slices.DeleteFunc(b.rounds, func(r *round) bool { return !held(r) })
		b.all()
		return err
	}
}

// atBegin: the payment is to be stored, which locks the purchases.
func atBegin(ctx context.Context, b *batch) (err error) {
	if b.lock, err = b.world.lock(ctx, lockPurchases, b.rounds); err != nil {
		return err
	}
	b.all()
	b.askVictim(pay)
	return b.lock.await(ctx)
}

func atAuthorize(at point) func(context.Context, *batch) error {
	return func(ctx context.Context, b *batch) error {
		b.gate = b.till.stop("authorize", at, b.rounds)
		b.askVictim(pay)
		b.gate.await(ctx, len(b.rounds), stopTimeout)
		b.asked(b.gate)
		return nil
	}
}

// atLateAuthorize: what the killed one has sent arrives when all is settled without it.
func atLateAuthorize(ctx context.Context, b *batch) error {
	b.late = true
	return atAuthorize(arrived)(ctx, b)
}

// atSettle: the provider answers while the harness holds a lock that is needed to store that.
func atSettle(ctx context.Context, b *batch) (err error) {
	if err := atAuthorize(arrived)(ctx, b); err != nil {
		return err
	}
	g := b.gate
	b.gate = nil
	b.lock, err = b.world.lock(ctx, lockPayments, b.rounds)
	b.till.open(g)
	return errors.Join(err, b.lock.await(ctx))
}

// atConfirmed: the confirmation is carried out, and nobody of the killed is told. Many are
// confirmed in one transaction because the worker's lane is busy with another order until
// all of them wait for it.
func atConfirmed(ctx context.Context, b *batch) error {
	if err := atAuthorize(arrived)(ctx, b); err != nil {
		return err
	}
	g := b.gate
	b.gate = nil
	return b.together(ctx, "capture", func() error {
		b.till.open(g)
		sleep(ctx, 200*time.Millisecond) // until the answers are there, and wait to be stored
		return nil
	})
}

func stored(reach func(context.Context, *batch) error) func(context.Context, *batch) error {
	return func(ctx context.Context, b *batch) (err error) {
		if err := reach(ctx, b); err != nil {
			return err
		}
		g := b.gate
		b.gate = nil
		b.lock, err = b.world.lock(ctx, lockTasks, b.rounds)
		b.till.open(g)
		return errors.Join(err, b.lock.await(ctx))
	}
}

func atCapture(at point) func(context.Context, *batch) error {
	return func(ctx context.Context, b *batch) error {
		b.gate = b.till.stop("capture", at, b.rounds)
		if err := b.each(func(_ int, r *round) error { return b.insist(ctx, pay, r) }); err != nil {
			return err
		}
		b.gate.await(ctx, len(b.rounds), stopTimeout)
		b.asked(b.gate)
		return nil
	}
}

// insist has the coordinator asked until it answers.
func (b *batch) insist(ctx context.Context, what call, r *round) error {
	return insist(ctx, func(ctx context.Context) error { return what(ctx, b.front, r) })
}

// unanswered has all payments authorized, and their buyers leave before they are told.
func (b *batch) unanswered(ctx context.Context) {
	g := b.till.stop("authorize", done, b.rounds)
	leaving, leave := context.WithCancel(ctx)
	defer leave()
	for _, r := range b.rounds {
		b.calls.Go(func() { _ = pay(leaving, b.front, r) })
	}
	g.await(ctx, len(b.rounds), stopTimeout)
	leave()
	b.calls.Wait()
	sleep(ctx, 100*time.Millisecond) // until the workers know that nobody listens
	b.till.open(g, "worker-1", "worker-2", "worker-3")
}

// atVoid: the orders are cancelled, or their holds expire.
func atVoid(at point) func(context.Context, *batch) error {
	return func(ctx context.Context, b *batch) error {
		b.unanswered(ctx)
		b.gate = b.till.stop("void", at, b.rounds)
		if !b.lone {
			b.start(func(ctx context.Context, r *round) error { return b.insist(ctx, cancel, r) })
		}
		b.gate.await(ctx, len(b.rounds), stopTimeout)
		b.asked(b.gate)
		return nil
	}
}

func atCancelled(ctx context.Context, b *batch) error {
	b.unanswered(ctx)
	victim := b.victim()
	return b.together(ctx, "void", func() error {
		b.all()
		b.start(func(ctx context.Context, r *round) error { return cancel(ctx, victim, r) })
		sleep(ctx, 200*time.Millisecond)
		return nil
	})
}

func atRefund(at point) func(context.Context, *batch) error {
	return func(ctx context.Context, b *batch) error {
		if err := b.each(func(_ int, r *round) error { return b.insist(ctx, pay, r) }); err != nil {
			return err
		}
		b.gate = b.till.stop("refund", at, b.rounds)
		if err := b.each(func(_ int, r *round) error { return b.insist(ctx, giveBack, r) }); err != nil {
			return err
		}
		b.gate.await(ctx, len(b.rounds), stopTimeout)
		b.asked(b.gate)
		return nil
	}
}

func atReturned(ctx context.Context, b *batch) error {
	if err := b.each(func(_ int, r *round) error { return b.insist(ctx, pay, r) }); err != nil {
		return err
	}
	victim := b.victim()
	return b.together(ctx, "refund", func() error {
		b.all()
		b.start(func(ctx context.Context, r *round) error { return giveBack(ctx, victim, r) })
		sleep(ctx, 200*time.Millisecond)
		return nil
	})
}

// together has the rounds change in one transaction of each shard, and stops it at the
// trigger, which is about to write their tasks.
func (b *batch) together(ctx context.Context, action string, gather func() error) error {
	victim := b.direct[b.victims[0]]
	plugs := &batch{world: b.world}
	for i, shard := range b.stack.Shards() {
		o, err := b.order(ctx, fmt.Sprintf("plug-%s-%d", b.rounds[0].id, i), shard, buyerHold)
		if err != nil {
			return err
		}
		row, err := rowID(o.GetOrderId())
		if err != nil {
			return err
		}
		plugs.rounds = append(plugs.rounds, &round{id: o.GetOrderId(), row: row, shard: shard})
	}
	first, err := b.world.lock(ctx, lockPurchases, plugs.rounds)
	if err != nil {
		return err
	}
	for _, r := range plugs.rounds {
		b.calls.Go(func() { _ = insist(ctx, func(ctx context.Context) error { return cancel(ctx, b.front, r) }) })
		b.calls.Go(func() { _ = cancel(b.ctx, victim, r) })
	}
	err = errors.Join(first.await(ctx), gather())
	b.lock, b.stored = nil, action
	l, lockErr := b.world.lock(ctx, insertTasks, b.rounds, func([]*round) any { return action }, keysOf(action))
	b.lock = l
	err = errors.Join(err, lockErr, first.release(ctx))
	if err != nil {
		return err
	}
	return l.await(ctx)
}

// keysOf is what follows the action in the keys of the tasks that the trigger will write.
func keysOf(action string) func([]*round) any {
	return func(rounds []*round) any {
		keys := make([]string, len(rounds))
		for i, r := range rounds {
			if action == "refund" {
				id, _ := rowID(r.purchase.GetPurchaseId()) // was made by the shard
				keys[i] = fmt.Sprintf("-%s-1", id)
			}
		}
		return keys
	}
}

// onlyStored takes rounds for reached of which the task was written.
func (b *batch) onlyStored(ctx context.Context) error {
	sleep(ctx, 200*time.Millisecond) // what waited goes on by itself
	found, err := b.found(ctx, selectTasks, b.stored)
	for _, r := range b.rounds {
		r.reached = r.reached && found[r.row]
	}
	return err
}
