package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
	"github.com/holdfast-io/holdfast/worker/payment"
)

const (
	outboxInterval = 200 * time.Millisecond // between looks: nobody waits, and what is done together costs less
	outboxAtOnce   = 256                    // tasks that providers are asked for at once
	maxOutboxPause = time.Minute            // until a task that failed is tried again
	taskTimeout    = 30 * time.Second
)

// outbox does what providers have to be asked for because of what was committed in one
// shard: at least once, in order for each payment. Providers know each task by its key.
type outbox struct {
	shard     *ledger.Shard
	providers payment.Providers
	log       hclog.Logger
}

func newOutbox(s *ledger.Shard, providers payment.Providers, log hclog.Logger) *outbox {
	return &outbox{shard: s, providers: providers, log: log.With("shard", s.Name())}
}

// run does tasks until ctx ends. No task waits for a provider that is slow to do another
// one.
func (o *outbox) run(ctx context.Context) {
	tick := time.NewTicker(outboxInterval)
	defer tick.Stop()
	var tasks sync.WaitGroup
	defer tasks.Wait()
	underWay, ended := map[int64]bool{}, make(chan endedTask, outboxAtOnce)
	var (
		done    []int64 // of those under way; yet to be stored
		storing bool
		stored  = make(chan []int64, 1) // whose end is stored, or that are done again
	)
	for ctx.Err() == nil {
		if len(done) > 0 && !storing {
			batch := done
			done, storing = nil, true
			tasks.Go(func() { stored <- o.end(ctx, batch) })
		}
		for _, t := range o.due(ctx, underWay) {
			underWay[t.TaskID] = true
			tasks.Go(func() { ended <- endedTask{t.TaskID, o.do(ctx, t)} })
		}
		full := len(underWay) == outboxAtOnce
		for again := false; !again; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				again = true
			case t := <-ended:
				if t.done {
					done = append(done, t.id)
				} else {
					delete(underWay, t.id)
				}
				again = full
			case ids := <-stored:
				storing = false
				for _, id := range ids {
					delete(underWay, id)
				}
				again = full
			}
		}
	}
}

// endedTask is a task that is not under way any more. If it is done, that is yet to be stored.
type endedTask struct {
	id   int64
	done bool
}

// end stores that tasks are done, together: it is one transaction for all that providers
// have answered since the one before. When the shard refuses it, one of them is to blame, and
// each is stored by itself. It returns the tasks, which are under way no more: one that was
// not stored is done again, which the provider takes for the repetition that it is.
func (o *outbox) end(ctx context.Context, done []int64) []int64 {
	storing, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	err := o.shard.EndTasks(storing, done)
	refused, isRefused := errors.AsType[*ledger.RefusedError](err)
	switch {
	case err == nil || ctx.Err() != nil:
	case isRefused && len(done) > 1:
		for _, id := range done {
			o.end(ctx, []int64{id})
		}
	case isRefused && !refused.Transient():
		o.log.Error("payment task done and given up: its end does not fit, an operator has to look", "task", done[0], "error", err)
		err = o.shard.FailTask(storing, done[0], err.Error(), 0, true)
		fallthrough
	default:
		if err != nil {
			o.log.Warn("payment tasks not stored", "tasks", len(done), "error", err)
			pause(ctx, dutyPause)
		}
	}
	return done
}

// due reads the tasks that are to be done next, as many as may be.
func (o *outbox) due(ctx context.Context, underWay map[int64]bool) []ledger.Task {
	room := outboxAtOnce - len(underWay)
	if room == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	tasks, err := o.shard.DueTasks(limited, room, slices.AppendSeq([]int64{}, maps.Keys(underWay)))
	if err != nil && ctx.Err() == nil {
		o.log.Warn("payment tasks not read", "error", err)
		pause(ctx, dutyPause)
	}
	return tasks
}

// do does one task, and reports whether it is done; if not it stores why. When the worker is
// killed before that is stored, the next one does it again, which the provider takes for
// the repetition that it is.
func (o *outbox) do(ctx context.Context, t ledger.Task) (done bool) {
	asking, cancel := context.WithTimeout(ctx, taskTimeout)
	err := o.ask(asking, t)
	cancel()
	if err == nil || ctx.Err() != nil {
		return err == nil
	}
	log := o.log.With("order", holdfastv1.PurchaseID(o.shard.Name(), t.Payment.OrderID), "action", t.Action)
	dead := isFinal(err)
	if dead {
		log.Error("payment task given up: an operator has to look", "error", err)
	} else {
		log.Warn("payment task not done yet", "attempts", t.Attempts+1, "error", err)
	}
	storing, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	err = o.shard.FailTask(storing, t.TaskID, err.Error(), backOff(t.Attempts), dead)
	if err != nil && ctx.Err() == nil {
		log.Warn("payment task not stored", "error", err)
	}
	return false
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
