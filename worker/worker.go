package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/holdfast-io/holdfast/api/certs"
	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/api/traces"
	"github.com/holdfast-io/holdfast/lockmgr"
	"github.com/holdfast-io/holdfast/worker/payment"
)

// Config says what a worker needs. Fields without a default are required.
type Config struct {
	Name string // stable over restarts: what is routed here depends on it
	// Advertise is the host:port at which coordinators and other workers reach this very
	// process: where nobody listens, they take it for dead.
	Advertise string
	Directory cluster.Directory
	DSNs      map[string]string // by shard; every shard of the topology
	Logger    hclog.Logger
	Metrics   prometheus.Registerer // one of its own when nil
	Traces    trace.TracerProvider  // none when nil
	Providers payment.Providers     // of payments; none when empty
	Region    string                // where it is; empty when there is one place for all

	// PeerCerts are for the connections of coordinators and between workers, which are in the
	// clear without them. VerifyTLS has every shard prove its name.
	PeerCerts *certs.Source
	VerifyTLS bool

	LockTTL       time.Duration // 15 s
	MinimumTenure time.Duration // 200 ms; others wait this long for a product at least
	IdleTenure    time.Duration // 1 min; a product not sold for this long is let go
	BeginTimeout  time.Duration // 10 s; to lock and fence one product
	DrainTimeout  time.Duration // 10 s
	MaxInFlight   int           // 50,000; purchases under way, of all coordinators
	MaxHold       time.Duration // 24 h; for which a hold lasts at most, however often it is extended
	MaxWatches    int           // 10,000; watches of events and of products
	Webhooks      WebhookConfig
	AuditInterval time.Duration // 10 min; between recounts of all shards; negative: never
	SweepInterval time.Duration // 1 s; between looks for holds whose time is up; negative: never
	// FollowAfter is how long a product must be asked for elsewhere before it moves there,
	// about: 10 s; negative: it never does.
	FollowAfter time.Duration
}

func (c *Config) validate() error {
	switch {
	case c.Name == "":
		return errors.New("worker: name is required")
	case c.Advertise == "":
		return errors.New("worker: advertise address is required")
	case c.Directory.Client == nil:
		return errors.New("worker: etcd client is required")
	case c.MaxInFlight < 0:
		return errors.New("worker: max-in-flight must be at least 1")
	case c.MaxWatches < 0:
		return errors.New("worker: max-watches must be at least 1")
	case c.MaxHold < 0:
		return errors.New("worker: max-hold must be above 0")
	}
	if err := cluster.ValidateRegion(c.Region); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	c.LockTTL = cmp.Or(c.LockTTL, 15*time.Second)
	c.MinimumTenure = cmp.Or(c.MinimumTenure, 200*time.Millisecond)
	c.IdleTenure = cmp.Or(c.IdleTenure, time.Minute)
	c.BeginTimeout = cmp.Or(c.BeginTimeout, 10*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 10*time.Second)
	c.MaxInFlight = cmp.Or(c.MaxInFlight, 50_000)
	c.MaxWatches = cmp.Or(c.MaxWatches, 10_000)
	c.MaxHold = cmp.Or(c.MaxHold, 24*time.Hour)
	c.Webhooks.complete()
	c.AuditInterval = cmp.Or(c.AuditInterval, 10*time.Minute)
	c.SweepInterval = cmp.Or(c.SweepInterval, time.Second)
	c.FollowAfter = cmp.Or(c.FollowAfter, 10*time.Second)
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	return nil
}

// registrationTTL is how long a killed worker is still called before coordinators
// forget it. Calls to it fail at once meanwhile, and go to the next worker.
const registrationTTL = 5 * time.Second

// Worker sells the products that are routed to it.
type Worker struct {
	cfg   Config
	self  cluster.Worker
	locks *lockmgr.Manager
	duty  *lockmgr.Manager // for what one worker does for all
	log   hclog.Logger
	front *front
	term  *term // owned by New, then by Run

	metrics  *metrics
	follower *follower // nil without a region

	newer    chan cluster.View // topologies above the term's
	stopping atomic.Bool
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
		cfg: cfg, log: cfg.Logger.Named("worker"), front: newFront(), newer: make(chan cluster.View, 1),
		metrics: newMetrics(cfg.Metrics),
		self: cluster.Worker{
			Name: cfg.Name, Instance: uuid.NewString(), Address: cfg.Advertise, Region: cfg.Region,
			Shards: slices.Sorted(maps.Keys(cfg.DSNs)),
		},
	}
	if cfg.Region != "" && cfg.FollowAfter > 0 {
		w.follower = newFollower(&cfg, w.log, w.metrics)
	}
	owner, err := json.Marshal(w.self)
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	w.locks, err = lockmgr.New(lockmgr.Config{
		Client: cfg.Directory.Client, Prefix: cfg.Directory.LockPrefix(),
		Owner: string(owner), TTL: cfg.LockTTL, Logger: cfg.Logger.Named("lockmgr"), Alive: w.front.alive,
	})
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	w.duty, err = lockmgr.New(lockmgr.Config{
		Client: cfg.Directory.Client, Prefix: cfg.Directory.DutyPrefix(), Owner: string(owner), TTL: dutyTTL,
		Logger: cfg.Logger.Named("duty"),
	})
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	w.term, err = w.openTerm(ctx, view)
	return w, err
}

// Ready reports whether the worker can be called: from when it sells for the first time until it
// is told to stop.
func (w *Worker) Ready() bool {
	select {
	case <-w.front.opened:
		return !w.stopping.Load()
	default:
		return false
	}
}

// Run serves on the listener until ctx ends, then drains: it lets what is in flight
// settle, gives its locks back, takes itself off the list of workers, and
// returns. When the topology changes it does the same, and goes on under the new
// one. The listener is closed and no goroutine is left.
func (w *Worker) Run(ctx context.Context, listener net.Listener) error {
	defer context.AfterFunc(ctx, func() { w.stopping.Store(true) })()
	// Parts that others rely on stop after those that rely on them.
	base, stopBase := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBase()
	links := link.NewServer(w.front.sell, w.cfg.MaxInFlight)
	links.Answered = w.metrics.answered
	server, healthServer := w.grpcServer(links)
	var parts errgroup.Group
	parts.Go(func() error { return ended(base, w.locks.Run(base)) })
	parts.Go(func() error { return ended(base, w.duty.Run(base)) })
	parts.Go(func() error { return ended(base, w.watchTopology(base)) })
	if w.follower != nil {
		parts.Go(func() error { w.follower.run(base); return nil })
	}

	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	registered, unregister := context.WithCancel(base)
	defer unregister()
	var front errgroup.Group
	front.Go(func() error {
		defer stopServing()
		<-w.front.opened
		return server.Serve(listener)
	})
	front.Go(func() error {
		<-w.front.opened
		return ended(registered, w.cfg.Directory.Register(registered, w.self, registrationTTL, func(err error) {
			w.log.Warn("not on the list of workers", "error", err)
		}))
	})
	sellErr := w.sell(serving)
	unregister() // not before: what comes until then is sent on when the next worker can have it
	stopServing()
	links.Stop()
	healthServer.Shutdown()
	force := time.AfterFunc(time.Second, server.Stop) // answers are out by now, or never will be
	server.GracefulStop()
	force.Stop()
	err := front.Wait()
	stopBase()
	err = errors.Join(sellErr, err, parts.Wait())
	w.log.Info("stopped")
	return err
}

// sell sells under one topology after the other, until ctx ends or a topology
// comes that this worker cannot sell under.
func (w *Worker) sell(ctx context.Context) error {
	for {
		w.log.Info("selling", "name", w.self.Name, "address", w.self.Address,
			"topology", w.term.topology.Number, "shards", w.term.topology.Shards)
		next, err := w.term.run(ctx, w)
		if next == nil || err != nil || ctx.Err() != nil {
			if next != nil {
				next.close()
			}
			return err
		}
		w.term = next
	}
}

// watchTopology tells the term of topologies above its own, the follower where workers are,
// and the operator of an etcd that has gone back.
func (w *Worker) watchTopology(ctx context.Context) error {
	highest := w.term.topology.Number
	return w.cfg.Directory.Watch(ctx, func(view cluster.View) {
		if w.follower != nil {
			w.follower.learn(view.Workers)
		}
		switch {
		case view.Topology.Number < highest:
			w.log.Error("etcd has lost data: run holdfast topology repair",
				"topology", view.Topology.Number, "known", highest)
		case view.Topology.Number > highest:
			highest = view.Topology.Number
			select {
			case <-w.newer: // the newest one counts
			default:
			}
			w.newer <- view
		}
	}, func(err error) { w.log.Warn("cluster not read", "error", err) })
}

func (w *Worker) grpcServer(links *link.Server) (*grpc.Server, *health.Server) {
	options := append(traces.ServerOptions(w.cfg.Traces),
		// What a coordinator that hangs was sold counts as under way until it takes the answers.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 5 * time.Second, Timeout: 5 * time.Second}),
		grpc.InitialWindowSize(link.StreamWindow), grpc.InitialConnWindowSize(link.ConnWindow),
		grpc.ChainUnaryInterceptor(w.metrics.rpc.UnaryServerInterceptor(), link.RefuseLate),
		grpc.StreamInterceptor(exceptLinks(w.metrics.rpc.StreamServerInterceptor())),
	)
	if w.cfg.PeerCerts != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(w.cfg.PeerCerts.ServerFor(
			[]string{certs.Coordinator, certs.Worker},
			func(why certs.Refusal) { w.metrics.peerRefused.WithLabelValues(string(why)).Inc() },
		))))
	}
	server := grpc.NewServer(options...)
	holdfastv1.RegisterProductServiceServer(server, w.front)
	holdfastv1.RegisterPurchaseServiceServer(server, w.front)
	holdfastv1.RegisterOrderServiceServer(server, w.front)
	holdfastv1.RegisterEventServiceServer(server, w.front)
	holdfastv1.RegisterWebhookServiceServer(server, w.front)
	workerv1.RegisterWorkerServiceServer(server, forCoordinators{links, w.front})
	healthServer := health.NewServer()
	healthServer.SetServingStatus(w.self.Instance, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(server, healthServer)
	w.metrics.rpc.InitializeMetrics(server)
	return server, healthServer
}

// exceptLinks has links pass an interceptor by: they last as long as their coordinators, and
// what they bring is counted by itself.
func exceptLinks(intercept grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if info.FullMethod == workerv1.WorkerService_Sell_FullMethodName {
			return handler(srv, stream)
		}
		return intercept(srv, stream, info, handler)
	}
}

// forCoordinators is what a worker answers beside the public contract.
type forCoordinators struct {
	*link.Server
	front *front
}

// Readmit is part of workerv1.WorkerServiceServer.
func (f forCoordinators) Readmit(ctx context.Context, req *workerv1.ReadmitRequest) (*holdfastv1.Purchase, error) {
	return pass(ctx, f.front, req, (*service).readmit)
}

// OpenOrder is part of workerv1.WorkerServiceServer, as are the next two.
func (f forCoordinators) OpenOrder(ctx context.Context, req *workerv1.OpenOrderRequest) (*workerv1.OpenOrderResponse, error) {
	return pass(ctx, f.front, req, (*service).openOrder)
}

// HoldLine holds a line of an order.
func (f forCoordinators) HoldLine(ctx context.Context, req *workerv1.HoldLineRequest) (*holdfastv1.Purchase, error) {
	return pass(ctx, f.front, req, (*service).holdLine)
}

// CloseOrder places an order or has it fail.
func (f forCoordinators) CloseOrder(ctx context.Context, req *workerv1.CloseOrderRequest) (*holdfastv1.Order, error) {
	return pass(ctx, f.front, req, (*service).closeOrder)
}

// SellForMoney is all of that for a purchase with a price.
func (f forCoordinators) SellForMoney(ctx context.Context, req *workerv1.SellForMoneyRequest) (*holdfastv1.Order, error) {
	return pass(ctx, f.front, req, (*service).sellForMoney)
}

// ended drops the error of a part that stopped because it was told to.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}
