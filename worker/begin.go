package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/api/traces"
	"github.com/holdfast-io/holdfast/lockmgr"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// beginner begins tenures: it acquires the product's lock, then raises the fence
// on every shard, and only then lets anybody sell.
type beginner struct {
	topology cluster.Topology
	shards   []*ledger.Shard // all shards of the topology
	locks    locks
	takeover *takeover
	lanes    *lanes
	newest   func(context.Context) (int64, error) // the number of etcd's topology
	timeout  time.Duration                        // to begin one tenure
	log      hclog.Logger
	metrics  *metrics
	tracer   trace.Tracer
}

// locks is what a beginner needs of lockmgr.Manager.
type locks interface {
	TryAcquire(ctx context.Context, name string) (*lockmgr.Lock, error)
	Acquire(ctx context.Context, name string) (*lockmgr.Lock, error)
	Holder(ctx context.Context, name string) (lockmgr.Holder, error)
	Evict(ctx context.Context, holder lockmgr.Holder) (evicted bool, err error)
	EvictOwner(ctx context.Context, owner string) (evicted int, err error)
}

// begin returns a tenure that sells. Its errors are ErrProductNotFound,
// ErrDraining, *LockError and *ShardError; afterwards it holds nothing.
func (b *beginner) begin(ctx context.Context, productID string, create *ledger.Product) (begun *tenure, err error) {
	ctx, span := b.tracer.Start(ctx, "begin tenure", trace.WithAttributes(traces.Product.String(productID)))
	defer func() { traces.End(span, err) }()
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	if create == nil {
		// Nothing is stored, not even a fence, for a product that is not there.
		if err := b.mustExist(ctx, productID); err != nil {
			return nil, err
		}
	}
	for attempt := 1; ; attempt++ {
		t, err := b.attempt(ctx, productID, create)
		if !errors.Is(err, ledger.ErrFenced) {
			return t, err
		}
		// Another worker sells under the next topology already.
		if newest, err := b.newest(ctx); err == nil && newest > b.topology.Number {
			return nil, ErrDraining
		}
		// A token below the fence's: we were paused since we got it, so the next
		// one is newer. If that goes on, etcd's revisions have gone back.
		if attempt == maxAttempts {
			traces.Log(ctx, b.log).Error("etcd gives tokens below the fences: was it wiped, or restored from a backup?",
				"product", productID, "error", err)
			return nil, err
		}
	}
}

// maxAttempts is how often a fence may turn a new tenure away before the
// purchase is told so.
const maxAttempts = 3

func (b *beginner) attempt(ctx context.Context, productID string, create *ledger.Product) (*tenure, error) {
	began := time.Now()
	lock, err := b.lock(ctx, productID)
	if err != nil {
		return nil, err
	}
	b.metrics.lockWait.Observe(time.Since(began).Seconds())
	t, err := b.fence(ctx, lock, productID, create)
	if err != nil {
		b.metrics.tenuresFailed.Inc()
		if !isContactLost(err) {
			traces.Log(ctx, b.log).Warn("tenure not begun", "product", productID, "token", lock.Token(), "error", err)
		}
		release(ctx, lock)
		return nil, err
	}
	b.metrics.tenuresBegun.Inc()
	b.metrics.tenureBegin.Observe(time.Since(began).Seconds())
	b.log.Debug("tenure begun", "product", productID, "token", lock.Token(), "available", t.available)
	return t, nil
}

// release gives a lock back, also when ctx has ended. Failure costs the next
// tenure some waiting and nothing else, so it is no error here: lockmgr goes on
// trying.
func release(ctx context.Context, lock *lockmgr.Lock) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = lock.Release(ctx)
}

// lock acquires the product's lock. While it waits, the holder is looked after:
// if it is dead, its lock is taken from it.
func (b *beginner) lock(ctx context.Context, productID string) (lock *lockmgr.Lock, err error) {
	ctx, span := b.tracer.Start(ctx, "lock")
	defer func() { traces.End(span, err) }()
	lock, err = b.locks.TryAcquire(ctx, productID)
	var held *lockmgr.HeldError
	if errors.As(err, &held) && b.takeover.evictIfGone(ctx, held.Holder) {
		lock, err = b.locks.TryAcquire(ctx, productID)
	}
	if errors.Is(err, lockmgr.ErrHeld) {
		stop := b.takeover.watch(ctx, productID)
		lock, err = b.locks.Acquire(ctx, productID)
		stop()
	}
	switch {
	case errors.Is(err, lockmgr.ErrDraining):
		return nil, ErrDraining
	case err != nil:
		return nil, &LockError{cause: err}
	}
	return lock, nil
}

// fence raises the fence on every shard and adds up what they have sold.
// Selling before the last shard has answered would oversell: a former holder
// could still sell there what is not in the sum yet.
func (b *beginner) fence(
	ctx context.Context, lock *lockmgr.Lock, productID string, create *ledger.Product,
) (begun *tenure, err error) {
	ctx, span := b.tracer.Start(ctx, "raise fences")
	defer func() { traces.End(span, err) }()
	f := ledger.Fence{
		ProductID: productID, Topology: b.topology.Number, Token: lock.Token(), TenureID: uuid.New(),
	}
	raised := make([]ledger.Raised, len(b.shards))
	err = b.onEveryShard(ctx, func(ctx context.Context, i int, s *ledger.Shard) (err error) {
		l := b.lanes.byShard[s.Name()]
		raised[i], err = await(ctx, &l.fences, f)
		if err == nil && raised[i].Fenced {
			l.metrics.fenceRefusals.Inc()
			err = ledger.ErrFenced
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	product, err := b.completeProduct(ctx, f, raised, create)
	if err != nil {
		return nil, err
	}
	available, released := product.AmountInStorage, make([]int64, len(raised))
	for i, r := range raised {
		available += r.Released - r.Purchased
		released[i] = r.Released
	}
	return newTenure(f, *product, available, released, lock, b.lanes), nil
}

// completeProduct gives the product to the shards that lack it: those that its
// creator did not reach, or all of them when the product is to be created.
func (b *beginner) completeProduct(
	ctx context.Context, f ledger.Fence, raised []ledger.Raised, create *ledger.Product,
) (*ledger.Product, error) {
	var product *ledger.Product
	missing := 0
	for _, r := range raised {
		if r.Product == nil {
			missing++
			continue
		}
		product = r.Product
	}
	switch {
	case missing == 0:
		return product, nil
	case product == nil && create == nil:
		return nil, ErrProductNotFound
	case product == nil:
		// Microseconds are what the shards keep; all of them get the same time.
		created := *create
		created.CreateTime = time.Now().UTC().Truncate(time.Microsecond)
		product = &created
	}
	return product, b.onEveryShard(ctx, func(ctx context.Context, i int, s *ledger.Shard) error {
		if raised[i].Product != nil {
			return nil
		}
		stored, err := await(ctx, &b.lanes.byShard[s.Name()].puts, ledger.Put{Fence: f, Product: *product})
		if err == nil && !stored {
			err = ledger.ErrFenced
		}
		return err
	})
}

// mustExist returns ErrProductNotFound when no shard has the product. It asks
// all of them, before the lock is acquired: a worker that cannot reach a shard
// leaves the product to whoever holds it.
func (b *beginner) mustExist(ctx context.Context, productID string) error {
	found := make([]bool, len(b.shards))
	err := b.onEveryShard(ctx, func(ctx context.Context, i int, s *ledger.Shard) error {
		p, err := await(ctx, &b.lanes.byShard[s.Name()].products, productID)
		found[i] = p != nil
		return err
	})
	switch {
	case err != nil:
		return err
	case !slices.Contains(found, true):
		return ErrProductNotFound
	}
	return nil
}

// onEveryShard calls do for all shards in parallel and returns the first error,
// as a *ShardError that names the shard.
func (b *beginner) onEveryShard(ctx context.Context, do func(context.Context, int, *ledger.Shard) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range b.shards {
		g.Go(func() error {
			err := do(ctx, i, s)
			var named *ShardError
			if err != nil && !errors.As(err, &named) {
				err = &ShardError{Shard: s.Name(), cause: fmt.Errorf("begin tenure: %w", err)}
			}
			return err
		})
	}
	return g.Wait()
}
