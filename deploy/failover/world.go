package failover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/deploy/local"
	"github.com/holdfast-io/holdfast/lockmgr"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

const (
	startTimeout = time.Minute
	readTimeout  = 10 * time.Second // of etcd
	prefix       = "/holdfast/"
)

// Config is what every experiment needs. Fields without a default are required.
type Config struct {
	Stack local.StackConfig // Binary and Dir are required; the rest is chosen here

	// Say prints a line of progress; calls do not overlap.
	Say func(format string, args ...any)
}

// FieldError says that a field of a config is out of range.
type FieldError struct{ Field, Problem string }

func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// above0 returns an error that names the field unless the value is above 0.
func above0[T int | float64 | time.Duration](field string, value T) error {
	if value > 0 {
		return nil
	}
	return &FieldError{field, fmt.Sprintf("must be above 0, got %v", value)}
}

// Verdict is what every experiment comes to besides its own figures.
type Verdict struct {
	Purchases int64 `json:"purchases"` // admitted
	Repeated  int64 `json:"repeated"`  // calls that buyers made again, after an answer that left it open
	Failed    int64 `json:"failed"`    // purchases that had no answer in half a minute, or an error for one
	Oversold  int64 `json:"oversold"`
}

// broken returns the promises that every experiment gives and that were broken.
func (v *Verdict) broken() error {
	if v.Failed > 0 {
		return fmt.Errorf("%d purchases failed", v.Failed)
	}
	return nil
}

// run has do measure something in a world of its own, then audits the shards. It
// returns a verdict also when the audit has found something, with an error that
// says what.
func (cfg *Config) run(ctx context.Context, do func(context.Context, *world) error) (*Verdict, error) {
	w, err := startWorld(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer w.stop()
	if err := do(ctx, w); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return w.judge(ctx)
}

// world is a local stack, its buyers, and a view of its etcd.
type world struct {
	stack     *local.Stack
	directory cluster.Directory
	locks     *lockmgr.Manager
	market    *market
	say       func(format string, args ...any)
	before    int64 // purchases of former runs in the same folder
}

func startWorld(ctx context.Context, cfg *Config) (*world, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	w := &world{say: timeline(cfg.Say)}
	stack := cfg.Stack
	stack.Shards = []string{"eu", "us"}
	w.say("starting %d etcd, two Postgres servers, a coordinator and %d workers", max(1, stack.EtcdMembers), stack.Workers)
	var err error
	if w.stack, err = local.StartStack(ctx, stack); err != nil {
		return nil, err
	}
	if err := w.open(ctx, stack.Workers); err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

// timeline puts the time since the start before each line.
func timeline(say func(string, ...any)) func(string, ...any) {
	start, mu := time.Now(), sync.Mutex{}
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		say("%7.2fs  %s", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
}

// open connects to everything and waits until all workers are known.
func (w *world) open(ctx context.Context, workers int) (err error) {
	w.market, err = newMarket(w.stack.GRPCAddress, w.stack.Shards(), w.say)
	if err != nil {
		return err
	}
	client, err := newClient(slices.Sorted(maps.Values(w.stack.EtcdEndpoints()))...)
	if err != nil {
		return err
	}
	w.directory = cluster.Directory{Client: client, Prefix: prefix}
	w.locks, err = lockmgr.New(lockmgr.Config{Client: client, Prefix: w.directory.LockPrefix(), Owner: "failover"})
	if err != nil {
		return err
	}
	report, err := w.audit(ctx)
	if err != nil {
		return err
	}
	w.before = report.Purchases
	return w.await(ctx, func(v cluster.View) bool { return len(v.Workers) == workers })
}

func newClient(endpoints ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: endpoints, Logger: zap.NewNop(),
		DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
	})
}

func (w *world) stop() {
	if w.market != nil {
		w.market.close()
	}
	if w.directory.Client != nil {
		_ = w.directory.Client.Close()
	}
	w.stack.Stop()
}

// await returns when etcd has a view of the cluster that is as wanted.
func (w *world) await(ctx context.Context, wanted func(cluster.View) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, errors.New("workers did not register in time"))
	defer cancel()
	seen := false
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var last error
	_ = w.directory.Watch(watching, func(v cluster.View) {
		if seen = seen || wanted(v); seen {
			stop()
		}
	}, func(err error) { last = err }) // ends with its context only
	if seen {
		return nil
	}
	return errors.Join(context.Cause(ctx), last)
}

// start starts a worker, also one that was killed before under this name, and
// returns when it is on the list.
func (w *world) start(ctx context.Context, name string) error {
	before, err := w.directory.View(ctx)
	if err != nil {
		return err
	}
	if err := w.stack.StartWorker(name); err != nil {
		return err
	}
	return w.await(ctx, func(now cluster.View) bool {
		i := instance(now, name)
		return i != "" && i != instance(before, name)
	})
}

// instance is that of the worker of this name, or "".
func instance(v cluster.View, name string) string {
	for _, worker := range v.Workers {
		if worker.Name == name {
			return worker.Instance
		}
	}
	return ""
}

// holder waits until a worker holds the product, and returns its name.
func (w *world) holder(ctx context.Context, product string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		h, err := w.locks.Holder(ctx, product)
		if !errors.Is(err, lockmgr.ErrNotHeld) {
			return w.ownerName(h.Owner), err
		}
		select {
		case <-ctx.Done():
			return "", err
		case <-tick.C:
		}
	}
}

// awaitHeld waits until so many products are held, and returns them by the name of
// the worker. A product that is just handed over is held by nobody for a moment.
func (w *world) awaitHeld(ctx context.Context, products int) (byWorker map[string][]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		holders, err := w.locks.Holders(ctx)
		if err == nil && len(holders) == products {
			return w.byWorker(holders), nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("%d products are held, want %d", len(holders), products), err)
		case <-tick.C:
		}
	}
}

func (w *world) byWorker(holders []lockmgr.Holder) map[string][]string {
	held := map[string][]string{}
	for _, h := range holders {
		name := w.ownerName(h.Owner)
		held[name] = append(held[name], h.Name)
	}
	return held
}

// ownerName is the name of the worker that an owner of a lock is.
func (w *world) ownerName(owner string) string {
	var worker cluster.Worker
	if err := json.Unmarshal([]byte(owner), &worker); err != nil {
		return owner
	}
	return worker.Name
}

// judge ends those who write, and holds the rows of the shards against what the
// buyers were told.
func (w *world) judge(ctx context.Context) (*Verdict, error) {
	w.say("stopping workers, auditing all shards")
	w.stopWriters()
	report, err := w.audit(ctx)
	if err != nil {
		return nil, err
	}
	v := &Verdict{
		Purchases: w.market.admitted.Load(), Repeated: w.market.repeated.Load(), Failed: w.market.failed.Load(),
		Oversold: report.Oversold,
	}
	var failures error
	for _, f := range report.Findings {
		failures = errors.Join(failures, fmt.Errorf("audit: product %s, shard %q: %s", f.ProductID, f.Shard, f.Problem))
	}
	rows := report.Purchases - w.before
	if rows < v.Purchases || rows > v.Purchases+v.Failed { // what failed may have been stored all the same
		failures = errors.Join(failures, fmt.Errorf(
			"audit: %d purchases were admitted and %d failed, but %d are stored", v.Purchases, v.Failed, rows))
	}
	w.say("%d purchases on %d shards; running totals and fences agree: %v", report.Purchases, len(w.stack.Shards()), report.Clean())
	return v, failures
}

func (w *world) audit(ctx context.Context) (*ledger.AuditReport, error) {
	var shards []*ledger.Shard
	for name, dsn := range w.stack.DSNs() {
		s, err := ledger.Open(ledger.Config{Name: name, DSN: dsn})
		if err != nil {
			return nil, err
		}
		defer s.Close()
		shards = append(shards, s)
	}
	report, err := ledger.Audit(ctx, shards)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return report, nil
}

func (w *world) stopWriters() {
	w.stack.Coordinator.Terminate(stopGrace)
	var wg sync.WaitGroup
	for _, p := range w.stack.Workers {
		wg.Go(func() { p.Terminate(stopGrace) })
	}
	wg.Wait()
}

// stopGrace is longer than workers and coordinators take to drain.
const stopGrace = 20 * time.Second
