package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/holdfast-io/holdfast/api/certs"
	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/api/traces"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// term is the time a worker sells under one topology. A new topology means a new
// term: all tenures end, and those that follow fence the new list of shards under
// the new number.
type term struct {
	topology cluster.Topology
	shards   []*ledger.Shard
	lanes    *lanes
	tenures  *tenures
	takeover *takeover
	service  *service
}

// openTerm opens the shards of a topology and puts the parts together.
func (w *Worker) openTerm(ctx context.Context, view cluster.View) (*term, error) {
	t := &term{topology: view.Topology}
	if err := w.openShards(ctx, t, view); err != nil {
		t.close()
		return nil, fmt.Errorf("worker: %w", err)
	}
	behind := make([]shard, len(t.shards))
	for i, s := range t.shards {
		behind[i] = s
	}
	t.lanes = newLanes(behind, w.log, w.metrics)
	t.takeover = &takeover{
		locks: w.locks, log: w.log, past: map[eviction]pastTakeovers{}, metrics: w.metrics,
		dial: []grpc.DialOption{grpc.WithTransportCredentials(w.peerCredentials()), grpc.WithNoProxy()},
	}
	b := &beginner{
		topology: t.topology, shards: t.shards, locks: w.locks, lanes: t.lanes,
		timeout: w.cfg.BeginTimeout, log: w.log, metrics: w.metrics, takeover: t.takeover,
		tracer: traces.Tracer(w.cfg.Traces),
		newest: func(ctx context.Context) (int64, error) {
			view, err := w.cfg.Directory.View(ctx)
			return view.Topology.Number, err
		},
	}
	t.tenures = newTenures(w.cfg.MinimumTenure, w.cfg.IdleTenure, w.metrics)
	t.tenures.begin, t.tenures.follower = b.begin, w.follower
	t.service = &service{
		tenures: t.tenures, lanes: t.lanes, topology: t.topology, shards: t.shards, maxHold: w.cfg.MaxHold, log: w.log,
		tracer:    traces.Tracer(w.cfg.Traces),
		providers: w.cfg.Providers, outboxes: map[string]*outbox{},
		watches: newWatches(t.shards, w.cfg.MaxWatches, w.log),
	}
	for _, s := range t.shards {
		t.service.outboxes[s.Name()] = newOutbox(s, w.cfg.Providers, w.log)
	}
	return t, nil
}

// peerCredentials are for connections to other workers.
func (w *Worker) peerCredentials() credentials.TransportCredentials {
	if w.cfg.PeerCerts == nil {
		return insecure.NewCredentials()
	}
	return w.cfg.PeerCerts.Client(certs.Worker)
}

// lanesConns is how many connections the lanes of a shard use at the same time, but for whole
// batches that wait: those have two more opened for them.
const lanesConns = 6

func (w *Worker) openShards(ctx context.Context, t *term, view cluster.View) error {
	for _, name := range view.Topology.Shards {
		dsn := w.cfg.DSNs[name]
		if dsn == "" {
			return fmt.Errorf("shard %s of topology %d has no DSN: give --shard %s=DSN", name, view.Topology.Number, name)
		}
		s, err := ledger.Open(ledger.Config{
			Name: name, DSN: dsn, ClusterID: view.ID, MinConns: lanesConns,
			VerifyTLS: w.cfg.VerifyTLS, Traces: w.cfg.Traces,
		})
		if err != nil {
			return err
		}
		t.shards = append(t.shards, s)
	}
	for _, s := range t.shards {
		if err := w.checkShard(ctx, s, view.Topology.Number); err != nil {
			return err
		}
	}
	return nil
}

func (w *Worker) checkShard(ctx context.Context, s *ledger.Shard, topology int64) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	id, err := s.Identity(ctx)
	switch {
	case errors.Is(err, ledger.ErrWrongShard), errors.Is(err, ledger.ErrUnclaimed), errors.Is(err, ledger.ErrUnguarded):
		return err
	case err != nil:
		w.log.Warn("shard is down; going on without it", "shard", s.Name(), "error", err)
	case id.Topology > topology:
		return w.checkEtcd(ctx, s, id.Topology)
	}
	return nil
}

// checkEtcd refuses an etcd that is older than a shard. That the worker's own view
// is older says nothing: the topology may have changed since it was read.
func (w *Worker) checkEtcd(ctx context.Context, s *ledger.Shard, seen int64) error {
	view, err := w.cfg.Directory.View(ctx)
	switch {
	case err != nil:
		w.log.Warn("cluster not read", "error", err)
	case view.Topology.Number < seen:
		return fmt.Errorf("shard %s has seen topology %d, etcd only %d: etcd has lost data: run holdfast topology repair",
			s.Name(), seen, view.Topology.Number)
	}
	return nil
}

func (t *term) close() {
	for _, s := range t.shards {
		s.Close()
	}
}

// run sells until ctx ends or there is a newer topology, for which it returns the
// next term, opened while this one still sold. Before it returns it lets what is
// in flight settle and gives the locks back.
func (t *term) run(ctx context.Context, w *Worker) (next *term, err error) {
	base, stopLanes := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLanes()
	selling, stopSelling := context.WithCancel(base)
	defer stopSelling()
	t.tenures.starting, t.takeover.base = selling, selling
	lanesDone := make(chan struct{})
	go func() { t.lanes.run(base); close(lanesDone) }()

	onDuty, endDuties := context.WithCancel(base)
	defer endDuties()
	var duties sync.WaitGroup
	duties.Go(func() { w.doDuties(onDuty, t) })

	w.front.serve(t.service)
	w.metrics.now.term.Store(t)
	steps := 1 // to the next term, which every worker begins now: nobody could sell meanwhile
	select {
	case <-ctx.Done():
		steps = handoverSteps
	case view := <-w.newer:
		next, err = w.openTerm(ctx, view)
	}
	stopSelling()
	endDuties()
	t.service.watches.end() // who watches goes on at another worker
	drainCtx, cancel := context.WithTimeout(base, w.cfg.DrainTimeout)
	defer cancel()
	// Whoever comes meanwhile waits for the product's lock to be given back, and
	// is sent on then: the next worker finds it free, and need not queue for it.
	err = errors.Join(err, t.tenures.drain(drainCtx, steps))
	w.front.serve(nil)
	w.metrics.now.term.Store(nil)
	t.takeover.background.Wait()
	duties.Wait()
	t.service.watches.close()
	stopLanes()
	<-lanesDone
	t.close()
	return next, err
}
