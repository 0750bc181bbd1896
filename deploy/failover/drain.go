package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// afterDrain is how long the load goes on after the worker has ended.
	afterDrain = 2 * time.Second

	// drainPromise bounds every wait while a worker drains.
	drainPromise = 250 * time.Millisecond
)

// DrainConfig says what is sold while a worker is told to stop.
type DrainConfig struct {
	Config
	Products int           // that the worker holds and buyers want
	Rate     float64       // purchases per second, over all of them
	Before   time.Duration // of load before the worker is told; 5 s when zero
}

// DrainFigures say how long purchases waited that were under way when the worker
// was told to stop, or came later.
type DrainFigures struct {
	Products      int     `json:"products"`
	Rate          float64 `json:"rate"`
	LongestWaitMS float64 `json:"longest_wait_ms"`
	P99MS         float64 `json:"p99_ms"`

	LongestWaitBeforeMS float64 `json:"longest_wait_before_ms"` // of those answered before it was told
	P99BeforeMS         float64 `json:"p99_before_ms"`

	NotSent   int     `json:"not_sent"`
	DrainedMS float64 `json:"drained_ms"` // from SIGTERM until the process has ended
	Held      int     `json:"held"`       // locks that the worker gave back
	Verdict
}

// Promise returns an error when the promise was broken.
func (f *DrainFigures) Promise() error {
	failures := f.broken()
	if f.LongestWaitMS >= milliseconds(drainPromise) {
		failures = errors.Join(failures, fmt.Errorf(
			"longest_wait_ms: a purchase waited for %.0f ms, promised are %v", f.LongestWaitMS, drainPromise))
	}
	return failures
}

// Drain tells a worker to stop (SIGTERM) under a steady load on what it holds.
// The error is like that of [Kill].
func Drain(ctx context.Context, cfg DrainConfig) (*DrainFigures, error) {
	if err := cmp.Or(above0("products", cfg.Products), above0("rate", cfg.Rate)); err != nil {
		return nil, err
	}
	cfg.Before = cmp.Or(cfg.Before, 5*time.Second)
	cfg.Stack.Workers = 3
	cfg.Stack.WorkerArgs = append(cfg.Stack.WorkerArgs, keepIdle...)
	f := &DrainFigures{Products: cfg.Products, Rate: cfg.Rate}
	verdict, err := cfg.run(ctx, func(ctx context.Context, w *world) error { return cfg.measure(ctx, w, f) })
	if verdict == nil {
		return nil, err
	}
	f.Verdict = *verdict
	return f, err
}

// keepIdle has workers keep products for longer than any experiment lasts.
var keepIdle = []string{"--idle-tenure", "24h"}

func (cfg *DrainConfig) measure(ctx context.Context, w *world, f *DrainFigures) error {
	victim, held, err := cfg.prepare(ctx, w)
	if err != nil {
		return err
	}
	f.Held = len(held)
	w.say("%.0f purchases/s of %d of the %d products that %s holds", cfg.Rate, cfg.Products, len(held), victim)
	load := w.market.offer(ctx, cfg.Rate, anyOf(held[:cfg.Products]))
	told, err := cfg.drain(ctx, w, victim, f)
	sales, notSent := load.end()
	if err != nil {
		return err
	}
	f.NotSent = notSent
	before, after := split(sales, told)
	f.LongestWaitMS, f.P99MS = milliseconds(percentile(after, 100)), milliseconds(percentile(after, 99))
	f.LongestWaitBeforeMS, f.P99BeforeMS = milliseconds(percentile(before, 100)), milliseconds(percentile(before, 99))
	return nil
}

// prepare has three workers hold three times the products, so that the one which
// holds the most holds enough of them.
func (cfg *DrainConfig) prepare(ctx context.Context, w *world) (victim string, held []string, err error) {
	w.say("creating %d products, selling one unit of each", 3*cfg.Products)
	products, err := w.market.create(ctx, 3*cfg.Products)
	if err != nil {
		return "", nil, err
	}
	if err := w.market.hold(ctx, products); err != nil {
		return "", nil, err
	}
	byWorker, err := w.awaitHeld(ctx, len(products))
	if err != nil {
		return "", nil, err
	}
	for name, products := range byWorker {
		if len(products) > len(held) {
			victim, held = name, products
		}
	}
	if len(held) < cfg.Products {
		return "", nil, fmt.Errorf("drain: no worker holds %d products: %s holds the most, %d", cfg.Products, victim, len(held))
	}
	return victim, held, nil
}

// drain tells the victim to stop after a while, and returns when, and returns a
// while after it has ended.
func (cfg *DrainConfig) drain(ctx context.Context, w *world, victim string, f *DrainFigures) (told time.Time, err error) {
	if err := pause(ctx, cfg.Before); err != nil {
		return told, err
	}
	told = time.Now()
	if !w.stack.Workers[victim].Terminate(stopGrace) {
		return told, fmt.Errorf("%s did not end within %v of SIGTERM", victim, stopGrace)
	}
	f.DrainedMS = milliseconds(time.Since(told))
	w.say("%s was told to stop, and ended after %.0f ms", victim, f.DrainedMS)
	return told, pause(ctx, afterDrain)
}
