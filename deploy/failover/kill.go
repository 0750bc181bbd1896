package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// killWithin is the time after all workers are there in which the next one is
	// killed. A product goes home to a worker that came back in the first half of
	// it, so some are killed while they hand over.
	killWithin = time.Second

	// killPromise bounds 99 of 100 recoveries.
	killPromise = time.Second
)

// KillConfig says how often a holder is killed.
type KillConfig struct {
	Config
	Kills   int
	LockTTL time.Duration
	Buyers  int
}

// KillFigures say how long a product was not sold after its holder was killed:
// until a purchase was admitted that was asked for after the kill.
type KillFigures struct {
	Kills     int     `json:"kills"`
	LockTTLMS int64   `json:"lock_ttl_ms"`
	P50MS     float64 `json:"p50_ms"`
	P99MS     float64 `json:"p99_ms"`
	WorstMS   float64 `json:"worst_ms"`

	// Until the first answer at all, to a purchase asked for before or after.
	FirstAnswerP50MS   float64 `json:"first_answer_p50_ms"`
	FirstAnswerWorstMS float64 `json:"first_answer_worst_ms"`

	LongestWaitMS float64 `json:"longest_wait_ms"` // of any buyer
	Verdict
}

// Promise returns an error when the promise was broken.
func (f *KillFigures) Promise() error {
	failures := f.broken()
	if f.P99MS >= milliseconds(killPromise) {
		failures = errors.Join(failures, fmt.Errorf("p99_ms: sold again after %.0f ms, promised are %v", f.P99MS, killPromise))
	}
	return failures
}

// Kill kills the holder of one product again and again while buyers buy it. The
// error says that it could not be done, or that the audit found something; the
// figures are valid in the second case too.
func Kill(ctx context.Context, cfg KillConfig) (*KillFigures, error) {
	err := cmp.Or(above0("kills", cfg.Kills), above0("lock-ttl", cfg.LockTTL), above0("buyers", cfg.Buyers))
	if err != nil {
		return nil, err
	}
	cfg.Stack.Workers = 3
	cfg.Stack.WorkerArgs = append(cfg.Stack.WorkerArgs, "--lock-ttl", cfg.LockTTL.String())
	f := &KillFigures{Kills: cfg.Kills, LockTTLMS: cfg.LockTTL.Milliseconds()}
	verdict, err := cfg.run(ctx, func(ctx context.Context, w *world) error { return cfg.measure(ctx, w, f) })
	if verdict == nil {
		return nil, err
	}
	f.Verdict = *verdict
	return f, err
}

func (cfg *KillConfig) measure(ctx context.Context, w *world, f *KillFigures) error {
	products, err := w.market.create(ctx, 1)
	if err != nil {
		return err
	}
	r := &recovery{}
	buyers := w.market.gather(ctx, cfg.Buyers, anyOf(products), r.tell)
	defer buyers.sendAway()
	w.say("%d buyers buy one product", cfg.Buyers)
	var recovered, answered []time.Duration
	for i := range cfg.Kills {
		if err := pause(ctx, rand.N(killWithin)); err != nil {
			return err
		}
		victim, err := w.killHolder(ctx, products[0], r)
		if err != nil {
			return fmt.Errorf("kill %d: %w", i+1, err)
		}
		recovered, answered = append(recovered, r.recovered), append(answered, r.answered)
		w.say("kill %2d of %d: %s held the product; sold again after %4.0f ms",
			i+1, cfg.Kills, victim, milliseconds(r.recovered))
		if err := w.start(ctx, victim); err != nil {
			return fmt.Errorf("start %s again: %w", victim, err)
		}
	}
	f.P50MS, f.P99MS = milliseconds(percentile(recovered, 50)), milliseconds(percentile(recovered, 99))
	f.WorstMS = milliseconds(percentile(recovered, 100))
	f.FirstAnswerP50MS, f.FirstAnswerWorstMS = milliseconds(percentile(answered, 50)), milliseconds(percentile(answered, 100))
	buyers.sendAway()
	f.LongestWaitMS = milliseconds(r.longest)
	return nil
}

// killHolder kills the worker that holds the product, and returns when the
// product was sold again.
func (w *world) killHolder(ctx context.Context, product string, r *recovery) (victim string, err error) {
	victim, err = w.holder(ctx, product)
	if err != nil {
		return "", err
	}
	process := w.stack.Workers[victim]
	if process == nil {
		return "", fmt.Errorf("the holder is %q, which is not of this stack", victim)
	}
	sold := r.begin(time.Now())
	if err := process.Kill(); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not sold again within %v", patience))
	defer cancel()
	select {
	case <-sold:
		return victim, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// recovery watches the sales after a kill.
type recovery struct {
	mu      sync.Mutex
	killed  time.Time     // the last time
	sold    chan struct{} // closed with the first new purchase; nil when there was one
	longest time.Duration // any buyer has ever waited

	// Since the kill, until the first admission; of a purchase asked for after it,
	// and of any. The experiment reads them after sold was closed.
	recovered, answered time.Duration
}

// begin returns what is closed when something was sold that was asked for after
// the kill.
func (r *recovery) begin(killed time.Time) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.killed, r.sold = killed, make(chan struct{})
	r.recovered, r.answered = 0, 0
	return r.sold
}

func (r *recovery) tell(s sale) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.longest = max(r.longest, s.wait())
	if r.sold == nil || s.err != nil {
		return
	}
	if r.answered == 0 {
		r.answered = s.answered.Sub(r.killed)
	}
	if s.asked.After(r.killed) {
		r.recovered = s.answered.Sub(r.killed)
		close(r.sold)
		r.sold = nil
	}
}
