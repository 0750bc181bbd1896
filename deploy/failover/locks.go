package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	locksTTL = 15 * time.Second // of the one worker that holds them all

	// atRest is for how long the locks are only held, before the load: what that
	// costs is seen best alone.
	atRest = 10 * time.Second

	// takeoverBuyers buy everything after the worker was killed.
	takeoverBuyers = 64
)

// LocksConfig says how many locks one worker holds, and under what load.
type LocksConfig struct {
	Config
	Products int
	Duration time.Duration // of the load
	Rate     float64       // purchases per second, over all products
}

// LocksFigures say what holding many locks costs, and how they change hands.
type LocksFigures struct {
	Locks      int     `json:"locks"`
	LockTTLMS  int64   `json:"lock_ttl_ms"`
	DurationMS int64   `json:"duration_ms"`
	Rate       float64 `json:"rate"`

	Lost         int64   `json:"lost"` // keys of locks that were deleted or replaced under load
	LeaseSamples int64   `json:"lease_samples"`
	LowestTTLMS  int64   `json:"lowest_ttl_ms"` // remaining, of all samples; whole seconds, rounded down
	MarginMS     int64   `json:"margin_ms"`     // of that, above a third of the TTL
	Reached      float64 `json:"purchases_per_second"`
	P50MS        float64 `json:"p50_ms"`
	P99MS        float64 `json:"p99_ms"`
	WorstMS      float64 `json:"worst_ms"`
	NotSent      int     `json:"not_sent"`

	// Memory of the worker: without locks, with all of them at rest, and after the
	// load; and what a lock adds at rest.
	MemoryBefore  int64 `json:"memory_before_bytes"`
	MemoryHeld    int64 `json:"memory_held_bytes"`
	MemoryAfter   int64 `json:"memory_after_bytes"`
	MemoryPerLock int64 `json:"memory_per_lock_bytes"`

	// Processor seconds per second: at rest, when locks are only renewed, and under
	// load, with the samples of leases. That of etcd is of all members together.
	EtcdRest   float64 `json:"etcd_cpu_at_rest"`
	WorkerRest float64 `json:"worker_cpu_at_rest"`
	EtcdLoad   float64 `json:"etcd_cpu_under_load"`
	WorkerLoad float64 `json:"worker_cpu_under_load"`

	HoldMS         float64 `json:"hold_ms"`     // to sell one unit of each product and so lock it
	TakeoverMS     float64 `json:"takeover_ms"` // from the kill until each was bought again
	LocksPerSecond float64 `json:"locks_per_second"`
	Verdict
}

// Promise returns an error when the promise was broken.
func (f *LocksFigures) Promise() error {
	failures := f.broken()
	if f.Lost > 0 {
		failures = errors.Join(failures, fmt.Errorf("lost: %d keys of locks were deleted or replaced", f.Lost))
	}
	if f.MarginMS < 0 {
		failures = errors.Join(failures, fmt.Errorf(
			"lowest_ttl_ms: a lease had %d ms left of %d, promised is a third", f.LowestTTLMS, f.LockTTLMS))
	}
	return failures
}

// Locks has one worker hold many locks under load, and kills it. The error is
// like that of [Kill].
func Locks(ctx context.Context, cfg LocksConfig) (*LocksFigures, error) {
	err := cmp.Or(above0("products", cfg.Products), above0("rate", cfg.Rate), above0("duration", cfg.Duration))
	if err != nil {
		return nil, err
	}
	cfg.Stack.Workers, cfg.Stack.EtcdMembers = 1, 3
	cfg.Stack.WorkerArgs = append(cfg.Stack.WorkerArgs, "--lock-ttl", locksTTL.String())
	cfg.Stack.WorkerArgs = append(cfg.Stack.WorkerArgs, keepIdle...)
	f := &LocksFigures{
		Locks: cfg.Products, LockTTLMS: locksTTL.Milliseconds(), DurationMS: cfg.Duration.Milliseconds(), Rate: cfg.Rate,
	}
	verdict, err := cfg.run(ctx, func(ctx context.Context, w *world) error { return cfg.measure(ctx, w, f) })
	if verdict == nil {
		return nil, err
	}
	f.Verdict = *verdict
	return f, err
}

func (cfg *LocksConfig) measure(ctx context.Context, w *world, f *LocksFigures) error {
	worker := w.onlyWorker()
	products, err := cfg.hold(ctx, w, worker, f)
	if err != nil {
		return err
	}
	w.say("worker %s holds %d locks; they are only renewed for %v", worker, len(products), min(atRest, cfg.Duration))
	if err := cfg.rest(ctx, w, worker, f); err != nil {
		return err
	}
	if err := cfg.load(ctx, w, worker, products, f); err != nil {
		return err
	}
	return w.takeOver(ctx, worker, products, f)
}

func (w *world) onlyWorker() (name string) {
	for name = range w.stack.Workers {
	}
	return name
}

// hold has the worker lock all products, and reads its memory before.
func (cfg *LocksConfig) hold(ctx context.Context, w *world, worker string, f *LocksFigures) (products []string, err error) {
	if f.MemoryBefore, err = residentBytes(w.stack.Workers[worker].Pid()); err != nil {
		return nil, err
	}
	w.say("creating %d products, selling one unit of each", cfg.Products)
	began := time.Now()
	if products, err = w.market.create(ctx, cfg.Products); err != nil {
		return nil, err
	}
	if err := w.market.hold(ctx, products); err != nil {
		return nil, err
	}
	f.HoldMS = milliseconds(time.Since(began))
	_, err = w.awaitHeld(ctx, cfg.Products)
	return products, err
}

// rest measures what it costs to hold the locks and do nothing else.
func (cfg *LocksConfig) rest(ctx context.Context, w *world, worker string, f *LocksFigures) (err error) {
	f.EtcdRest, f.WorkerRest, err = w.processors(worker, func() error { return pause(ctx, min(atRest, cfg.Duration)) })
	if err != nil {
		return err
	}
	if f.MemoryHeld, err = residentBytes(w.stack.Workers[worker].Pid()); err != nil {
		return err
	}
	f.MemoryPerLock = (f.MemoryHeld - f.MemoryBefore) / int64(cfg.Products)
	return nil
}

// load measures what becomes of the locks under load.
func (cfg *LocksConfig) load(ctx context.Context, w *world, worker string, products []string, f *LocksFigures) error {
	leader, err := w.stack.EtcdCluster.AwaitLeader(ctx)
	if err != nil {
		return err
	}
	watch, err := w.watchLocks(ctx, leader)
	if err != nil {
		return err
	}
	load := w.market.offer(ctx, cfg.Rate, anyOf(products))
	w.say("%.0f purchases/s of all of them, for %v", cfg.Rate, cfg.Duration)
	began := time.Now()
	f.EtcdLoad, f.WorkerLoad, err = w.processors(worker, func() error { return cfg.watchFor(ctx, w, watch) })
	over := time.Now()
	sales, notSent := load.end()
	if err := errors.Join(err, watch.end()); err != nil {
		return err
	}
	f.take(watch)
	f.NotSent = notSent
	answered, _ := split(sales, over)
	f.Reached = float64(len(answered)) / over.Sub(began).Seconds()
	all, _ := split(sales, time.Now())
	f.P50MS, f.P99MS = milliseconds(percentile(all, 50)), milliseconds(percentile(all, 99))
	f.WorstMS = milliseconds(percentile(all, 100))
	f.MemoryAfter, err = residentBytes(w.stack.Workers[worker].Pid())
	return err
}

// take takes over what was seen of the locks.
func (f *LocksFigures) take(l *lockWatch) {
	f.Lost, f.LeaseSamples = l.lost.Load(), l.samples.Load()
	f.LowestTTLMS = l.lowest.Load() * 1000
	f.MarginMS = f.LowestTTLMS - f.LockTTLMS/3
}

// watchFor lets the load run, and says every tenth how it goes.
func (cfg *LocksConfig) watchFor(ctx context.Context, w *world, l *lockWatch) error {
	for tenth := 1; tenth <= 10; tenth++ {
		if err := pause(ctx, cfg.Duration/10); err != nil {
			return err
		}
		w.say("%3d%%: %d purchases, %d locks lost, lowest TTL seen %d s",
			10*tenth, w.market.admitted.Load(), l.lost.Load(), l.lowest.Load())
	}
	return nil
}

// processors measures the processor time per second, of all members of etcd and
// of the worker, that passes during do.
func (w *world) processors(worker string, do func() error) (etcd, own float64, err error) {
	var members []int
	for _, m := range w.stack.EtcdCluster.Members {
		members = append(members, m.Pid())
	}
	began := time.Now()
	read := func() (etcd, own time.Duration, err error) {
		etcd, etcdErr := processorTime(members...)
		own, ownErr := processorTime(w.stack.Workers[worker].Pid())
		return etcd, own, errors.Join(etcdErr, ownErr)
	}
	etcdBefore, ownBefore, err := read()
	if err != nil {
		return 0, 0, err
	}
	if err := do(); err != nil {
		return 0, 0, err
	}
	etcdAfter, ownAfter, err := read()
	seconds := time.Since(began).Seconds()
	return (etcdAfter - etcdBefore).Seconds() / seconds, (ownAfter - ownBefore).Seconds() / seconds, err
}

// successor is the worker that takes everything over.
const successor = "worker-2"

// takeOver kills the worker that holds everything, and has everything bought.
func (w *world) takeOver(ctx context.Context, worker string, products []string, f *LocksFigures) error {
	if err := w.start(ctx, successor); err != nil {
		return err
	}
	w.say("killing %s; %d buyers buy one unit of each product from %s", worker, takeoverBuyers, successor)
	killed := time.Now()
	if err := w.stack.Workers[worker].Kill(); err != nil {
		return err
	}
	w.market.buyEach(ctx, products, takeoverBuyers)
	took := time.Since(killed)
	f.TakeoverMS, f.LocksPerSecond = milliseconds(took), float64(len(products))/took.Seconds()
	w.say("all %d locks were taken over after %.0f ms", len(products), f.TakeoverMS)
	return nil
}
