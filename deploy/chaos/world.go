package chaos

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

	// lockTTL is short, so that many locks lapse in a short run. Pauses and
	// outages are longer than it.
	lockTTL = 2 * time.Second

	prefix = "/holdfast/"

	spareShard = "asia" // added to the topology by a fault
)

// World is everything that faults break: a stack whose processes reach each
// other through proxies.
type World struct {
	network *network
	stack   *local.Stack
	etcd    *clientv3.Client // not through a proxy
	locks   *lockmgr.Manager
	say     func(format string, args ...any)

	mu      sync.Mutex      // guards the processes of the stack, and:
	down    map[string]bool // processes that are meant not to run
	strange []string        // processes that ended by themselves

	topology sync.Mutex // guards:
	shards   []string   // of the topology, when it was last read
}

func startWorld(ctx context.Context, cfg local.StackConfig, say func(string, ...any)) (*World, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	w := &World{network: newNetwork(), say: say, down: map[string]bool{}}
	cfg.Shards, cfg.Workers, cfg.Coordinators = []string{"eu", "us"}, 3, 2
	w.shards = cfg.Shards
	cfg.Network = w.network.route
	cfg.WorkerArgs = append(cfg.WorkerArgs, "--lock-ttl", lockTTL.String())
	var err error
	if w.stack, err = local.StartStack(ctx, cfg); err != nil {
		w.network.close()
		return nil, err
	}
	if err := w.connect(); err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

func (w *World) connect() (err error) {
	w.etcd, err = clientv3.New(clientv3.Config{
		Endpoints: slices.Collect(maps.Values(w.stack.EtcdEndpoints())), Logger: zap.NewNop(),
		DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
	})
	if err != nil {
		return err
	}
	w.locks, err = lockmgr.New(lockmgr.Config{Client: w.etcd, Prefix: w.directory().LockPrefix(), Owner: "chaos"})
	return err
}

func (w *World) directory() cluster.Directory {
	return cluster.Directory{Client: w.etcd, Prefix: prefix}
}

func (w *World) stop() {
	if w.etcd != nil {
		_ = w.etcd.Close()
	}
	w.stack.Stop()
	w.network.close()
}

// worker is the process of that name as it is now.
func (w *World) worker(name string) *local.Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stack.Workers[name]
}

func (w *World) workerNames() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.stack.Workers))
}

func (w *World) setDown(name string, down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[name] = down
}

func (w *World) startWorker(name string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[name] = false
	return w.stack.StartWorker(name)
}

func (w *World) startCoordinator(c *local.CoordinatorProcess) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[c.Name] = false
	return c.Start()
}

// coordinators are the addresses that buyers know.
func (w *World) coordinators() (addresses []string) {
	for _, c := range w.stack.Coordinators {
		addresses = append(addresses, c.GRPCAddress)
	}
	return addresses
}

// shardNames are the shards that sell, as far as anybody was told.
func (w *World) shardNames() []string {
	w.topology.Lock()
	defer w.topology.Unlock()
	return w.shards
}

// readTopology asks etcd for the shards, and returns them.
func (w *World) readTopology(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	view, err := w.directory().View(ctx)
	if err != nil {
		return nil, err
	}
	w.topology.Lock()
	defer w.topology.Unlock()
	w.shards = view.Topology.Shards
	return w.shards, nil
}

// command runs a command of holdfast to its end.
func (w *World) command(ctx context.Context, args ...string) error {
	w.mu.Lock()
	wait, err := w.stack.Command(args...)
	w.mu.Unlock()
	if err != nil {
		return err
	}
	return wait(ctx)
}

// supervise starts processes that ended by themselves again, as any platform
// would, and remembers them: a worker may do so when it cannot reach etcd at its
// start, and for no other reason.
func (w *World) supervise(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.restartEnded()
		}
	}
}

func (w *World) restartEnded() {
	w.mu.Lock()
	defer w.mu.Unlock()
	restart := func(name string, p *local.Process, start func() error) {
		select {
		case <-p.Done():
		default:
			return
		}
		if w.down[name] {
			return
		}
		why := fmt.Sprintf("%s ended by itself: %v", name, p.Wait())
		w.strange = append(w.strange, why)
		w.say("%s; it is started again", why)
		if err := start(); err != nil {
			w.say("%s does not start: %v", name, err)
		}
	}
	for name, p := range maps.Clone(w.stack.Workers) {
		restart(name, p, func() error { return w.stack.StartWorker(name) })
	}
	for _, c := range w.stack.Coordinators {
		restart(c.Name, c.Process, c.Start)
	}
}

// holder is the worker that holds one of the products that are being sold, and
// which; any worker when etcd does not say.
func (w *World) holder(ctx context.Context, pick uint64) (name, why string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	holders, err := w.locks.Holders(ctx)
	workers := w.workerNames()
	if err != nil || len(holders) == 0 {
		return workers[pick%uint64(len(workers))], "no holder known"
	}
	slices.SortFunc(holders, func(a, b lockmgr.Holder) int { return int(b.Token - a.Token) })
	h := holders[pick%uint64(min(len(holders), 4))]
	owner := ownerName(h.Owner)
	if !slices.Contains(workers, owner) {
		return workers[pick%uint64(len(workers))], "holder unknown"
	}
	return owner, "holds " + h.Name
}

// ownerName is the name of the worker that an owner of a lock is, or "".
func ownerName(owner string) string {
	var w cluster.Worker
	if json.Unmarshal([]byte(owner), &w) != nil {
		return ""
	}
	return w.Name
}

// openShards opens the shards of the topology without a proxy. The caller closes
// them.
func (w *World) openShards(ctx context.Context) ([]*ledger.Shard, error) {
	names, err := w.readTopology(ctx)
	if err != nil {
		return nil, err
	}
	var shards []*ledger.Shard
	for _, name := range names {
		s, err := ledger.Open(ledger.Config{Name: name, DSN: w.stack.DSNs()[name]})
		if err != nil {
			closeShards(shards)
			return nil, err
		}
		shards = append(shards, s)
	}
	return shards, nil
}

func closeShards(shards []*ledger.Shard) {
	for _, s := range shards {
		s.Close()
	}
}

// audit has the ledger recount itself.
func (w *World) audit(ctx context.Context) (*ledger.AuditReport, error) {
	shards, err := w.openShards(ctx)
	if err != nil {
		return nil, err
	}
	defer closeShards(shards)
	report, err := ledger.Audit(ctx, shards)
	return report, errors.Join(err, ctx.Err())
}

func (w *World) stopWriters() {
	const grace = 15 * time.Second
	w.mu.Lock()
	defer w.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range w.stack.Coordinators {
		wg.Go(func() { c.Terminate(grace) })
	}
	wg.Wait()
	for _, p := range w.stack.Workers {
		wg.Go(func() { p.Terminate(grace) })
	}
	wg.Wait()
}
