package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/lockmgr"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// Config says what a worker needs. Fields without a default are required.
type Config struct {
	Name      string // stable over restarts: what is routed here depends on it
	Advertise string // host:port at which coordinators and other workers reach it
	Directory cluster.Directory
	DSNs      map[string]string // by shard; every shard of the topology
	Logger    hclog.Logger

	LockTTL       time.Duration // 15 s
	MinimumTenure time.Duration // 200 ms; others wait this long for a product at least
	IdleTenure    time.Duration // 1 min; a product not sold for this long is let go
	BeginTimeout  time.Duration // 10 s; to lock and fence one product
	DrainTimeout  time.Duration // 10 s
}

func (c *Config) validate() error {
	switch {
	case c.Name == "":
		return errors.New("worker: name is required")
	case c.Advertise == "":
		return errors.New("worker: advertise address is required")
	case c.Directory.Client == nil:
		return errors.New("worker: etcd client is required")
	}
	c.LockTTL = cmp.Or(c.LockTTL, 15*time.Second)
	c.MinimumTenure = cmp.Or(c.MinimumTenure, 200*time.Millisecond)
	c.IdleTenure = cmp.Or(c.IdleTenure, time.Minute)
	c.BeginTimeout = cmp.Or(c.BeginTimeout, 10*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 10*time.Second)
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return nil
}

// registrationTTL is how long a killed worker is still called before coordinators
// forget it. Calls to it fail at once meanwhile, and go to the next worker.
const registrationTTL = 5 * time.Second

// Worker sells the products that are routed to it.
type Worker struct {
	cfg     Config
	self    cluster.Worker
	shards  []*ledger.Shard
	lanes   *lanes
	locks   *lockmgr.Manager
	tenures *tenures
	service *service
	log     hclog.Logger
}

// New reads the topology and opens the shards. It refuses a shard without a DSN,
// a DSN that points at another database, and an etcd that is older than the
// shards. A shard that is down is no reason not to start.
func New(ctx context.Context, cfg Config) (*Worker, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	view, err := cfg.Directory.View(ctx)
	if err != nil {
		return nil, err
	}
	w := &Worker{
		cfg: cfg, log: cfg.Logger.Named("worker"),
		self: cluster.Worker{Name: cfg.Name, Instance: uuid.NewString(), Address: cfg.Advertise},
	}
	if err := w.openShards(ctx, view); err != nil {
		w.closeShards()
		return nil, err
	}
	if err := w.assemble(view.Topology); err != nil {
		w.closeShards()
		return nil, err
	}
	return w, nil
}

// assemble puts the parts together.
func (w *Worker) assemble(topology cluster.Topology) error {
	owner, err := json.Marshal(w.self)
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	w.locks, err = lockmgr.New(lockmgr.Config{
		Client: w.cfg.Directory.Client, Prefix: w.cfg.Directory.LockPrefix(),
		Owner: string(owner), TTL: w.cfg.LockTTL, Logger: w.cfg.Logger.Named("lockmgr"),
	})
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	behind := make([]shard, len(w.shards))
	for i, s := range w.shards {
		behind[i] = s
	}
	w.lanes = newLanes(behind, w.log)
	b := &beginner{
		topology: topology, shards: w.shards, locks: w.locks, lanes: w.lanes,
		timeout: w.cfg.BeginTimeout, log: w.log,
		takeover: &takeover{
			locks: w.locks, log: w.log, past: map[string]pastTakeovers{},
			dial: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())},
		},
	}
	w.tenures = &tenures{
		begin: b.begin, minimum: w.cfg.MinimumTenure, idle: w.cfg.IdleTenure, byProduct: map[string]*slot{},
	}
	w.service = &service{tenures: w.tenures, lanes: w.lanes, topology: topology, shards: w.shards, log: w.log}
	return nil
}

func (w *Worker) openShards(ctx context.Context, view cluster.View) error {
	for _, name := range view.Topology.Shards {
		dsn := w.cfg.DSNs[name]
		if dsn == "" {
			return fmt.Errorf("worker: shard %s of topology %d has no DSN: give --shard %s=DSN",
				name, view.Topology.Number, name)
		}
		s, err := ledger.Open(ledger.Config{Name: name, DSN: dsn, ClusterID: view.ID})
		if err != nil {
			return fmt.Errorf("worker: %w", err)
		}
		w.shards = append(w.shards, s)
	}
	for _, s := range w.shards {
		if err := w.checkShard(ctx, s, view.Topology.Number); err != nil {
			return fmt.Errorf("worker: %w", err)
		}
	}
	return nil
}

func (w *Worker) checkShard(ctx context.Context, s *ledger.Shard, topology int64) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	id, err := s.Identity(ctx)
	switch {
	case errors.Is(err, ledger.ErrWrongShard), errors.Is(err, ledger.ErrUnclaimed):
		return err
	case err != nil:
		w.log.Warn("shard is down; starting without it", "shard", s.Name(), "error", err)
	case id.Topology > topology:
		return fmt.Errorf("shard %s has seen topology %d, etcd only %d: etcd lost its data or was restored from a backup",
			s.Name(), id.Topology, topology)
	}
	return nil
}

func (w *Worker) closeShards() {
	for _, s := range w.shards {
		s.Close()
	}
}

// Run serves on the listener until ctx ends, then drains: it takes itself off
// the list of workers, lets what is in flight settle, gives its locks back, and
// returns. The listener is closed and no goroutine is left.
func (w *Worker) Run(ctx context.Context, listener net.Listener) error {
	// Parts that others rely on stop after those that rely on them.
	base, stopBase := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBase()
	selling, stopSelling := context.WithCancel(base)
	defer stopSelling()
	w.tenures.starting = selling

	server, healthServer := w.grpcServer()
	var parts errgroup.Group
	parts.Go(func() error { w.lanes.run(base); return nil })
	parts.Go(func() error { return ended(base, w.locks.Run(base)) })

	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	var front errgroup.Group
	front.Go(func() error {
		defer stopServing()
		return server.Serve(listener)
	})
	front.Go(func() error {
		return ended(serving, w.cfg.Directory.Register(serving, w.self, registrationTTL, func(err error) {
			w.log.Warn("not on the list of workers", "error", err)
		}))
	})
	w.log.Info("selling", "name", w.self.Name, "address", w.self.Address, "shards", len(w.shards))

	<-serving.Done()
	healthServer.Shutdown()
	drainErr := w.drain(ctx, stopSelling)
	force := time.AfterFunc(time.Second, server.Stop) // answers are out by now, or never will be
	server.GracefulStop()
	force.Stop()
	err := front.Wait()
	stopBase()
	err = errors.Join(drainErr, err, parts.Wait())
	w.closeShards()
	w.log.Info("stopped")
	return err
}

func (w *Worker) drain(ctx context.Context, stopSelling context.CancelFunc) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.cfg.DrainTimeout)
	defer cancel()
	stopSelling()
	return w.tenures.drain(ctx)
}

func (w *Worker) grpcServer() (*grpc.Server, *health.Server) {
	server := grpc.NewServer()
	holdfastv1.RegisterProductServiceServer(server, w.service)
	holdfastv1.RegisterPurchaseServiceServer(server, w.service)
	healthServer := health.NewServer()
	healthServer.SetServingStatus(w.self.Instance, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(server, healthServer)
	return server, healthServer
}

// ended drops the error of a part that stopped because it was told to.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}
