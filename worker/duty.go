package worker

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

const (
	// dutyTTL is how long nobody does what a killed worker did for all. None of it is
	// urgent: whoever needs the units of a hold whose time is up has them expired himself.
	dutyTTL = 10 * time.Second
	// dutyPause is until the next attempt after one that failed.
	dutyPause = time.Second
)

// doDuties does what one worker at a time does for all, until ctx ends. A second one would
// do no harm, only the same work.
func (w *Worker) doDuties(ctx context.Context, t *term) {
	var all sync.WaitGroup
	for i, s := range t.shards {
		all.Go(func() { w.whileOnDuty(ctx, "payments/"+s.Name(), t.service.outboxes[s.Name()].run) })
		if w.cfg.Webhooks.Refresh > 0 {
			all.Go(func() {
				w.whileOnDuty(ctx, "webhooks/"+s.Name(), func(ctx context.Context) { w.sendWebhooks(ctx, t, i) })
			})
		}
		if w.cfg.SweepInterval > 0 {
			all.Go(func() {
				w.whileOnDuty(ctx, "sweep/"+s.Name(), func(ctx context.Context) {
					var counting sync.WaitGroup
					counting.Go(func() { w.countHolds(ctx, s) })
					w.sweep(ctx, s)
					counting.Wait()
				})
			})
		}
	}
	if w.cfg.AuditInterval > 0 {
		all.Go(func() {
			w.whileOnDuty(ctx, "audit", func(ctx context.Context) { w.audit(ctx, t.shards) })
		})
	}
	all.Wait()
}

// whileOnDuty waits for the lock of a duty, and does it for as long as it has the lock;
// again and again, until ctx ends. The work must return when its context ends.
func (w *Worker) whileOnDuty(ctx context.Context, name string, work func(context.Context)) {
	for ctx.Err() == nil {
		lock, err := w.duty.Acquire(ctx, name)
		if err != nil {
			pause(ctx, dutyPause)
			continue
		}
		working, stop := context.WithCancel(ctx)
		ended := context.AfterFunc(lock.Context(), stop)
		work(working)
		ended()
		stop()
		release(ctx, lock)
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// sweep expires holds whose time is up, so that their units show as available and their
// buyers are told, though nobody else wants them.
func (w *Worker) sweep(ctx context.Context, s *ledger.Shard) {
	log := w.log.With("shard", s.Name())
	for ; ctx.Err() == nil; pause(ctx, w.cfg.SweepInterval) {
		if n := expireAll(ctx, s, log); n > 0 {
			w.metrics.holdsExpired.Add(float64(n))
		}
	}
}

// expireAll expires what is due now, and returns how many holds that were.
func expireAll(ctx context.Context, s *ledger.Shard, log hclog.Logger) (expired int64) {
	for {
		limited, cancel := context.WithTimeout(ctx, batchTimeout)
		n, err := s.ExpireDue(limited)
		cancel()
		if err != nil && ctx.Err() == nil {
			log.Warn("holds not expired", "error", err)
		}
		expired += n
		if err != nil || n == 0 {
			return expired
		}
	}
}

// audit recounts all shards again and again, and shows and logs what it finds. It compares
// shards with each other, so one worker does it for all of them.
func (w *Worker) audit(ctx context.Context, shards []*ledger.Shard) {
	for pause(ctx, w.cfg.AuditInterval); ctx.Err() == nil; pause(ctx, w.cfg.AuditInterval) {
		report, err := ledger.Audit(ctx, shards)
		if err != nil {
			if ctx.Err() == nil {
				w.log.Warn("audit not done", "error", err)
			}
			continue
		}
		w.metrics.audit.show(report, time.Now())
		for _, f := range report.Findings[:min(len(report.Findings), maxLogged)] {
			w.log.Error("audit", "kind", f.Kind, "product", f.ProductID, "shard", f.Shard, "problem", f.Problem)
		}
	}
}

// maxLogged bounds how many findings of one audit are logged; the command shows all.
const maxLogged = 20
