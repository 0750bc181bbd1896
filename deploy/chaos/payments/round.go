package payments

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/durationpb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// round is one order of a batch.
type round struct {
	id       string
	row      uuid.UUID
	shard    string
	purchase *holdfastv1.Purchase  // the first line
	line     *holdfastv1.OrderLine // of a fresh one, which is sold
	request  string                // with this request id
	lasts    time.Duration         // and held for so long
	returns  bool                  // the buyer repeats his call after the kill
	reached  bool                  // the call was at the step when its worker was killed
	settled  time.Duration         // from the kill on
}

// batch is rounds that are at the same step when their workers are killed.
type batch struct {
	*world
	rounds  []*round
	victims []string // who is to be killed
	killed  time.Time

	gate *gate // to be opened after the kill, if not nil
	lock *lock // to be released after the kill, if not nil
	late bool  // the gate is opened only when all is settled
	lone bool  // no buyer comes back before the kill: all holds are short

	// stored, if not empty, is the task without which a round was not at the step.
	stored string

	calls  sync.WaitGroup // of buyers, to workers that may be killed
	cancel context.CancelFunc
	ctx    context.Context // of calls that end with the kill
}

// buyerHold is of holds whose buyer comes back: longer than anything that is done to him.
const buyerHold = 2 * time.Minute

// place places orders: every other one for a buyer who comes back.
func (b *batch) place(ctx context.Context, name string, n int, hold time.Duration) error {
	regions := b.stack.Shards()
	b.rounds = make([]*round, n)
	return b.each(func(i int, _ *round) error {
		// Both kinds in both shards.
		r := &round{shard: regions[i/2%len(regions)], returns: i%2 == 0}
		b.rounds[i] = r
		lasts := hold
		if r.returns && !b.lone {
			lasts = buyerHold
		}
		o, err := b.order(ctx, fmt.Sprintf("%s-%d", name, i), r.shard, lasts)
		for try := 1; try < 10 && holdfastv1.Reason(err) == holdfastv1.ReasonOrderFailed; try++ { // its hold was too short
			o, err = b.order(ctx, fmt.Sprintf("%s-%d-%d", name, i, try), r.shard, lasts)
		}
		if err != nil {
			return fmt.Errorf("place order: %w", err)
		}
		r.id, r.purchase = o.GetOrderId(), o.GetPurchases()[0]
		r.row, err = rowID(r.id)
		return err
	})
}

// intend has rounds of which nobody has asked for anything yet, otherwise as place has them.
func (b *batch) intend(name string, n int, hold time.Duration) {
	regions := b.stack.Shards()
	for i := range n {
		r := &round{
			shard: regions[i/2%len(regions)], line: products[0], request: fmt.Sprintf("%s-%d", name, i), lasts: hold, returns: i%2 == 0,
		}
		if r.returns {
			r.lasts = buyerHold
		}
		b.rounds = append(b.rounds, r)
	}
}

// findHeld finds the orders that the lines of fresh rounds are held for.
func (b *batch) findHeld(ctx context.Context) error {
	for _, r := range b.rounds {
		err := b.shards[r.shard].QueryRow(ctx, selectHeld, r.line.GetProductId(), r.request).Scan(&r.row)
		switch {
		case err == nil:
			r.id = holdfastv1.PurchaseID(r.shard, r.row)
		case !errors.Is(err, pgx.ErrNoRows):
			return err
		}
	}
	return nil
}

func (w *world) order(ctx context.Context, request, region string, hold time.Duration) (o *holdfastv1.Order, err error) {
	err = insist(ctx, func(ctx context.Context) (err error) {
		o, err = w.front.CreateOrder(ctx, &holdfastv1.CreateOrderRequest{
			Lines: products, CustomerId: "ann", Region: region, PaymentMethod: "simulated", RequestId: request,
			Hold: &holdfastv1.Hold{Expiration: &holdfastv1.Hold_Duration{Duration: durationpb.New(hold)}},
		})
		return err
	})
	return o, err
}

func rowID(orderID string) (uuid.UUID, error) {
	raw, err := hex.DecodeString(orderID[strings.LastIndexByte(orderID, '-')+1:])
	if err != nil {
		return uuid.UUID{}, err
	}
	return uuid.FromBytes(raw)
}

// each does something for all rounds at once.
func (b *batch) each(do func(i int, r *round) error) error {
	failures := make(chan error, len(b.rounds))
	var all sync.WaitGroup
	for i, r := range b.rounds {
		all.Go(func() {
			if err := do(i, r); err != nil {
				failures <- err
			}
		})
	}
	all.Wait()
	close(failures)
	return <-failures
}

// start does something for all rounds while their workers are killed; what it comes to is
// the buyers' and nobody else's.
func (b *batch) start(call func(context.Context, *round) error) {
	for _, r := range b.rounds {
		b.calls.Go(func() { _ = call(b.ctx, r) })
	}
}

func byShard(rounds []*round) map[string][]*round {
	by := map[string][]*round{}
	for _, r := range rounds {
		by[r.shard] = append(by[r.shard], r)
	}
	return by
}

func uuids(rounds []*round) []uuid.UUID {
	ids := make([]uuid.UUID, len(rounds))
	for i, r := range rounds {
		ids[i] = r.row
	}
	return ids
}

// found is the orders of which a statement finds something.
func (b *batch) found(ctx context.Context, statement string, more ...any) (map[uuid.UUID]bool, error) {
	found := map[uuid.UUID]bool{}
	for shard, of := range byShard(b.rounds) {
		rows, err := b.shards[shard].Query(ctx, statement, append([]any{uuids(of)}, more...)...)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var id uuid.UUID
			if err := rows.Scan(&id); err != nil {
				return nil, err
			}
			found[id] = true
		}
		if err := rows.Err(); err != nil {
			return nil, err
		}
	}
	return found, nil
}

const (
	selectHeld = `SELECT order_id FROM purchases WHERE product_id = $1 AND request_id = $2`

	selectTasks = `SELECT order_id FROM payment_tasks WHERE order_id = ANY ($1) AND action = $2`

	selectSettled = `
SELECT o.order_id FROM unnest($1::uuid[]) AS o (order_id)
 WHERE EXISTS (SELECT FROM purchases p WHERE p.order_id = o.order_id)
   AND NOT EXISTS (SELECT FROM purchases p WHERE p.order_id = o.order_id AND p.state = 'held')
   AND NOT EXISTS (SELECT FROM payment_tasks t WHERE t.order_id = o.order_id AND t.state = 'pending')
   AND NOT EXISTS (SELECT FROM payments p WHERE p.order_id = o.order_id AND p.state IN ('authorizing', 'authorized'))`
)

// awaitSettled notes how long each round took until nothing of it was under way.
func (b *batch) awaitSettled(ctx context.Context, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		settled, err := b.found(ctx, selectSettled)
		open := 0
		for _, r := range b.rounds {
			switch {
			case r.settled > 0:
			case settled[r.row]:
				r.settled = time.Since(b.killed)
			default:
				open++
			}
		}
		if open == 0 && err == nil {
			return nil
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return fmt.Errorf("%d of %d orders were not settled %v after the kill", open, len(b.rounds), most)
		}
	}
}

// asked are the workers that asked the provider, and marks their rounds.
func (b *batch) asked(g *gate) {
	asker := g.reached()
	for _, r := range b.rounds {
		name := asker[r.id]
		r.reached = name != ""
		if r.reached && !slices.Contains(b.victims, name) {
			b.victims = append(b.victims, name)
		}
	}
}
