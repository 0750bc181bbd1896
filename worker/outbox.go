package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
	"github.com/holdfast-io/holdfast/worker/payment"
)

const (
	outboxInterval = 200 * time.Millisecond // between looks, when this worker has written nothing itself
	outboxBatch    = 64                     // tasks that are read at once
	outboxAtOnce   = 16                     // tasks that providers are asked for at once
	maxOutboxPause = time.Minute            // until a task that failed is tried again
	taskTimeout    = 30 * time.Second
)

// outbox does what providers have to be asked for because of what was committed in one
// shard: at least once, in order for each payment. Providers know each task by its key.
type outbox struct {
	shard     *ledger.Shard
	providers payment.Providers
	log       hclog.Logger
	woken     chan struct{} // has room for one: "there may be a task"
}

func newOutbox(s *ledger.Shard, providers payment.Providers, log hclog.Logger) *outbox {
	return &outbox{shard: s, providers: providers, log: log.With("shard", s.Name()), woken: make(chan struct{}, 1)}
}

func (o *outbox) wake() { poke(o.woken) }

// run does tasks until ctx ends.
func (o *outbox) run(ctx context.Context) {
	tick := time.NewTicker(outboxInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		if o.doSome(ctx) == outboxBatch {
			continue
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-o.woken:
		}
	}
}

// doSome does the tasks that are due, and returns how many those were.
func (o *outbox) doSome(ctx context.Context) int {
	limited, cancel := context.WithTimeout(ctx, batchTimeout)
	tasks, err := o.shard.DueTasks(limited, outboxBatch)
	cancel()
	if err != nil && ctx.Err() == nil {
		o.log.Warn("payment tasks not read", "error", err)
		pause(ctx, dutyPause)
	}
	var all errgroup.Group
	all.SetLimit(outboxAtOnce)
	for _, t := range tasks {
		all.Go(func() error { o.do(ctx, t); return nil })
	}
	_ = all.Wait()
	return len(tasks)
}

// do does one task and stores how that went. When it is killed in between, the next one
// does it again, which the provider takes for the repetition that it is.
func (o *outbox) do(ctx context.Context, t ledger.Task) {
	asking, cancel := context.WithTimeout(ctx, taskTimeout)
	err := o.ask(asking, t)
	cancel()
	if ctx.Err() != nil {
		return
	}
	storing, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	log := o.log.With("order", holdfastv1.PurchaseID(o.shard.Name(), t.Payment.OrderID), "action", t.Action)
	if err == nil {
		err = o.shard.EndTask(storing, t.TaskID)
	} else {
		dead := isFinal(err)
		if dead {
			log.Error("payment task given up: an operator has to look", "error", err)
		} else {
			log.Warn("payment task not done yet", "attempts", t.Attempts+1, "error", err)
		}
		err = o.shard.FailTask(storing, t.TaskID, err.Error(), backOff(t.Attempts), dead)
	}
	if err != nil && ctx.Err() == nil {
		log.Warn("payment task not stored", "error", err)
	}
}

// ask asks the provider for what the task says.
func (o *outbox) ask(ctx context.Context, t ledger.Task) error {
	provider, asked, err := askedOf(o.providers, o.shard.Name(), &t.Payment)
	if err != nil {
		return err
	}
	switch t.Action {
	case ledger.TaskCapture:
		return provider.Capture(ctx, asked, t.MinorUnits)
	case ledger.TaskVoid:
		return provider.Void(ctx, asked)
	case ledger.TaskRefund:
		return provider.Refund(ctx, asked, t.Key, t.MinorUnits)
	}
	return fmt.Errorf("payment task %q: %w", t.Action, errors.ErrUnsupported)
}

// isFinal tells what no repetition mends.
func isFinal(err error) bool {
	_, declined := errors.AsType[*payment.DeclinedError](err)
	_, refused := errors.AsType[*payment.RefusedError](err)
	return declined || refused
}

// backOff is how long to wait after so many attempts, and half of it at least.
func backOff(attempts int) time.Duration {
	full := min(firstProviderPause<<min(attempts, 20), maxOutboxPause)
	return full/2 + rand.N(full/2)
}
