package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-io/holdfast/api/cluster"
)

// memory is what processes hold in RAM, in bytes.
type memory struct{ workers, etcd int64 }

func (s *servers) memory() (m memory) {
	for _, w := range s.stack.Workers {
		m.workers += residentBytes(w.Pid())
	}
	for _, member := range s.stack.EtcdCluster.Members {
		m.etcd += residentBytes(member.Pid())
	}
	return m
}

// idle sells one unit of each of many products and then leaves them alone: what
// the workers have grown by, and what holding costs while nothing is sold.
func (b *bench) idle(ctx context.Context, s *servers) ([]Figures, error) {
	if s.stack == nil {
		return nil, errors.New("it measures processes on this machine, not those of a target")
	}
	d := idleDemand(b.Products)
	for chunk := range slices.Chunk(d.products, 10_000) {
		if err := s.stockHoldfast(ctx, chunk); err != nil {
			return nil, err
		}
	}
	if err := s.settle(ctx); err != nil {
		return nil, err
	}
	before := s.memory()
	sold, err := b.sellOnce(ctx, s, d, b.Products)
	if err != nil {
		return nil, err
	}
	after := s.memory()
	f := figuresOf("idle", "holdfast-batch", candidate{buyers: idleCallers, batch: idleBatch}, []sample{{result: sold}})
	if f.HeldProducts, err = s.held(ctx); err != nil {
		return nil, err
	}
	f.BytesPerHeld = ratio(float64(after.workers-before.workers), float64(f.HeldProducts))
	f.EtcdBytesPerHeld = ratio(float64(after.etcd-before.etcd), float64(f.HeldProducts))
	f.WorkerMB = float64(after.workers) / (1 << 20)
	if err := b.watchIdle(ctx, s, &f); err != nil {
		return nil, err
	}
	f.Oversold, err = s.audit(ctx)
	if err == nil && f.HeldProducts < int64(b.Products) {
		err = fmt.Errorf("of %d products only %d are held", b.Products, f.HeldProducts)
	}
	return []Figures{f}, err
}

// Few callers with small batches: every product of a batch begins a tenure.
const idleCallers, idleBatch = 4, 50

func idleDemand(products int) *demand {
	d := &demand{ids: "idle-", orders: int64(products)}
	for i := range products {
		d.products = append(d.products, product{fmt.Sprintf("idle-%d", i), plenty})
	}
	d.order = func(number int64, _ *dice, o *Order) { o.Product = d.products[number].id }
	return d
}

// sellOnce sells one unit of each product. A purchase is repeated with the same
// request id until it is answered: a product that is not held spoils the figure.
func (b *bench) sellOnce(ctx context.Context, s *servers, d *demand, products int) (*result, error) {
	strategy := &insistent{Strategy: newBatch(s), say: b.Say, total: products}
	defer strategy.Close()
	if err := strategy.Prepare(ctx, idleCallers); err != nil {
		return nil, err
	}
	l := load{buyers: idleCallers, batch: idleBatch, duration: time.Hour}
	sold := l.run(ctx, strategy, d, func() {}, func() {})
	if len(sold.errors) > 0 {
		return nil, fmt.Errorf("errors %v", sold.errors)
	}
	return sold, ctx.Err()
}

// hold has every product of a workload held by a worker.
func (b *bench) hold(ctx context.Context, s *servers, d *demand) error {
	b.Say("   selling one unit of each of %d products, so that workers hold them", len(d.products))
	each := *d
	each.orders = int64(len(d.products))
	each.order = func(number int64, _ *dice, o *Order) { o.Product = d.products[number].id }
	_, err := b.sellOnce(ctx, s, &each, len(d.products))
	return err
}

// held counts the locks in etcd.
func (s *servers) held(ctx context.Context) (int64, error) {
	prefix := cluster.Directory{Client: s.etcd, Prefix: "/holdfast/"}.LockPrefix()
	answer, err := s.etcd.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return 0, fmt.Errorf("count locks: %w", err)
	}
	return answer.Count, nil
}

// watchIdle measures what holding costs in CPU time while nothing is sold, over
// the time of one measurement or of the renewals that a lock needs.
func (b *bench) watchIdle(ctx context.Context, s *servers, f *Figures) error {
	const renewals = 15 * time.Second // the TTL of a lock, in which each is renewed a few times
	span := renewals
	if b.Quick {
		span = b.Duration
	}
	before, err := s.read(ctx)
	if err != nil {
		return err
	}
	begin := time.Now()
	await(begin.Add(span), ctx.Done())
	after, err := s.read(ctx)
	if err != nil {
		return err
	}
	used := after.less(before)
	f.IdleServiceCPU = used.service / time.Since(begin).Seconds()
	f.IdleEtcdCPU = used.etcd / time.Since(begin).Seconds()
	return nil
}
