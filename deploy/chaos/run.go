package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/deploy/local"
)

const defaultBuyers = 24

// recoveryBound is how long after the last fault is healed every product must be
// sellable again.
const recoveryBound = 30 * time.Second

// sweepBound is how long after all is healed no hold may be left whose time was up: the duty
// of a worker that was killed may not be taken over for 10 s.
const sweepBound = 20 * time.Second

// Config says what a run is. Fields without a default are required.
type Config struct {
	Stack    local.StackConfig // Binary and Dir are required; the rest is chosen here
	Seed     uint64
	Duration time.Duration
	Faults   []Fault // see Faults
	Buyers   int     // 24 when zero

	// Say prints a line of the timeline; it is called by several goroutines.
	Say func(format string, args ...any)
}

// Report is what a run came to.
type Report struct {
	Verdict
	Faults     map[string]int // injected, by name
	Recovered  time.Duration  // from the last heal until every product was sellable
	Swept      time.Duration  // from the last heal until no hold was overdue
	Unexpected map[string]int // errors that no outage explains, by message
	Ended      []string       // processes that ended by themselves
	Failures   []string       // what is wrong besides the verdict
}

// Err is nil when all promises were kept.
func (r *Report) Err() error {
	var failures error
	for _, f := range r.Failures {
		failures = errors.Join(failures, errors.New(f))
	}
	return errors.Join(r.Verdict.Err(), failures)
}

// Run sells through a new world while it breaks. The error says that the run
// itself could not be done; what it found is in the report.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	cfg.Stack.EtcdMembers, cfg.Stack.SpareShards = 3, []string{spareShard}
	// A tenure outlives the pause of its worker, and is held on to for a while: so
	// holders that were taken over try to sell.
	cfg.Stack.WorkerArgs = []string{"--idle-tenure", "10s", "--minimum-tenure", "500ms"}
	// Shorter than the lock's life, as it is by default.
	cfg.Stack.CoordinatorArgs = []string{"--attempt-timeout", (lockTTL / 2).String()}
	timeline := newTimeline(cfg.Say)
	w, err := startWorld(ctx, cfg.Stack, timeline.say)
	if err != nil {
		return nil, err
	}
	defer w.stop()
	t, err := newTraffic(w, fmt.Sprintf("run-%d", cfg.Seed), cfg.Seed)
	if err != nil {
		return nil, err
	}
	defer t.close()
	if err := t.open(ctx, lines, 60); err != nil {
		return nil, err
	}
	r := &Report{Faults: map[string]int{}}
	for _, f := range cfg.Faults {
		r.Faults[f.Name] = 0
	}
	timeline.restart()
	cfg.sell(ctx, w, t, r)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	timeline.say("stopping workers, reading all rows")
	err = r.judge(ctx, w, t, filepath.Join(cfg.Stack.Dir, "rows.txt"))
	timeline.say("judged")
	return r, errors.Join(err, t.history.save(filepath.Join(cfg.Stack.Dir, "history.txt")))
}

// sell runs buyers and faults, waits for recovery, and returns when the last
// buyer has his answer.
func (cfg *Config) sell(ctx context.Context, w *World, t *traffic, r *Report) {
	trade, stopTrade := context.WithCancel(ctx)
	supervised, stopSupervisor := context.WithCancel(ctx)
	var buyers, supervisor sync.WaitGroup
	supervisor.Go(func() { w.supervise(supervised) })
	for line := range lines {
		buyers.Go(func() { t.dropRegularly(ctx, trade, line) })
		buyers.Go(func() { t.operator(ctx, trade, line) })
	}
	for i := range cmp.Or(cfg.Buyers, defaultBuyers) {
		buyers.Go(func() { t.buyer(ctx, trade, i) })
	}
	injector := &injector{world: w, counts: r.Faults}
	injector.run(ctx, Schedule(cfg.Seed, cfg.Duration, cfg.Faults), cfg.Duration)
	r.Failures = append(r.Failures, injector.failures...)
	healed := time.Now()
	w.say("all healed; every product must be sellable within %v", recoveryBound)
	r.awaitRecovery(ctx, w, t)
	stopTrade()
	buyers.Wait()
	r.awaitSweep(ctx, w, t, healed)
	stopSupervisor()
	supervisor.Wait()
	r.Ended = w.strange
	r.Unexpected = t.unexpected
}

// awaitRecovery buys one unit of every product.
func (r *Report) awaitRecovery(ctx context.Context, w *World, t *traffic) {
	ctx, cancel := context.WithTimeout(ctx, recoveryBound)
	defer cancel()
	began := time.Now()
	products, regions := t.all(), t.regions()
	var probes sync.WaitGroup
	var mu sync.Mutex
	for i, product := range products {
		probes.Go(func() {
			o := t.buy(ctx, i, &holdfastv1.CreatePurchaseRequest{
				ProductId: product, Amount: 1, CustomerId: "probe", Region: regions[i%len(regions)],
				RequestId: fmt.Sprintf("%s-probe-%d", t.name, i),
			}, false)
			if o.Answer == Unanswered {
				mu.Lock()
				defer mu.Unlock()
				r.Failures = append(r.Failures, fmt.Sprintf("%s is not sellable %v after the last heal: %s", product, recoveryBound, o.Failure))
			}
		})
	}
	probes.Wait()
	r.Recovered = time.Since(began)
	w.say("%d products asked for, recovered in %v", len(products), r.Recovered.Round(time.Millisecond))
}

// awaitSweep waits until no hold is left whose time is up.
func (r *Report) awaitSweep(ctx context.Context, w *World, t *traffic, healed time.Time) {
	began, due := time.Now(), t.history.now()
	for {
		rows, err := w.rows(ctx, t.history)
		overdue := -1
		if err == nil {
			overdue = rows.overdue(due)
		}
		if overdue == 0 {
			r.Swept = time.Since(healed)
			w.say("no hold is overdue %v after the last heal", r.Swept.Round(time.Millisecond))
			return
		}
		if ctx.Err() != nil || time.Since(began) > sweepBound {
			r.Failures = append(r.Failures, fmt.Sprintf("%d holds are overdue by %v: %v", overdue, sweepBound, err))
			return
		}
		sleep(ctx, 200*time.Millisecond)
	}
}

// judge compares the history with the rows, and has the ledger audit itself.
func (r *Report) judge(ctx context.Context, w *World, t *traffic, path string) error {
	w.stopWriters()
	rows, err := w.rows(ctx, t.history)
	if err != nil {
		return err
	}
	r.Verdict = *Check(t.history, rows)
	audit, err := w.audit(ctx)
	if err != nil {
		return err
	}
	for _, f := range audit.Findings {
		r.Failures = append(r.Failures, fmt.Sprintf("audit: product %s, shard %q: %s", f.ProductID, f.Shard, f.Problem))
	}
	return rows.save(path)
}
