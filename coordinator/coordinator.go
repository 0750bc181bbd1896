package coordinator

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"buf.build/go/protovalidate"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/coordinator/auth"
)

// Config says what a coordinator needs. Fields without a default are required.
type Config struct {
	Directory cluster.Directory
	Logger    hclog.Logger
	Region    string // where it is; empty when there is one place for all

	Deadline       time.Duration // 15 s; for calls that come without one
	AttemptTimeout time.Duration // 3 s; until a worker that does not answer is passed over
	DrainTimeout   time.Duration // 10 s
	MaxInFlight    int           // 20,000; purchases under way at each worker
	MaxWatches     int           // 10,000; watches of events and of products
	DefaultHold    time.Duration // 10 min; for holds of which nobody says how long they last

	Authenticator *auth.Authenticator // nil: everybody may do everything
	Rates         auth.Rates          // of callers, where there is an authenticator
	// TLS is for both listeners, PeerCredentials for connections to workers. Without them
	// everything is in the clear.
	TLS             *tls.Config
	PeerCredentials credentials.TransportCredentials
	Metrics         prometheus.Registerer // one of its own when nil
}

// Coordinator is the front door.
type Coordinator struct {
	cfg     Config
	router  *router
	service *service
	edge    *edge
	log     hclog.Logger

	stopping atomic.Bool
}

// New prepares a coordinator. It does not connect to anything.
func New(cfg Config) (*Coordinator, error) {
	if cfg.Directory.Client == nil {
		return nil, errors.New("coordinator: etcd client is required")
	}
	if err := cluster.ValidateRegion(cfg.Region); err != nil {
		return nil, fmt.Errorf("coordinator: %w", err)
	}
	if cfg.DefaultHold < 0 {
		return nil, errors.New("coordinator: default-hold must be above 0")
	}
	if cfg.MaxInFlight < 0 {
		return nil, errors.New("coordinator: max-in-flight must be at least 1")
	}
	if cfg.MaxWatches < 0 {
		return nil, errors.New("coordinator: max-watches must be at least 1")
	}
	cfg.MaxWatches = cmp.Or(cfg.MaxWatches, 10_000)
	cfg.Deadline = cmp.Or(cfg.Deadline, 15*time.Second)
	cfg.AttemptTimeout = cmp.Or(cfg.AttemptTimeout, 3*time.Second)
	cfg.DrainTimeout = cmp.Or(cfg.DrainTimeout, 10*time.Second)
	cfg.MaxInFlight = cmp.Or(cfg.MaxInFlight, 20_000)
	cfg.DefaultHold = cmp.Or(cfg.DefaultHold, 10*time.Minute)
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.PeerCredentials == nil {
		cfg.PeerCredentials = insecure.NewCredentials()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	validator, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("coordinator: %w", err)
	}
	r := newRouter(cfg, append(link.TellRegion(cfg.Region),
		grpc.WithTransportCredentials(cfg.PeerCredentials),
		grpc.WithNoProxy(), // workers are within reach
		// Otherwise the name of each is looked up for its settings too, which takes seconds
		// where nobody answers for such names.
		grpc.WithDisableServiceConfig(),
		grpc.WithInitialWindowSize(link.StreamWindow), grpc.WithInitialConnWindowSize(link.ConnWindow),
		// A worker that is gone costs one short attempt; one that comes back is
		// found within a second.
		grpc.WithConnectParams(grpc.ConnectParams{
			MinConnectTimeout: time.Second,
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: time.Second},
		}),
	))
	limiter, err := limiterOf(cfg.Rates)
	if err != nil {
		return nil, err
	}
	e := &edge{
		authenticator: cfg.Authenticator, limiter: limiter, metrics: newMetrics(cfg.Metrics), audit: cfg.Logger.Named("audit"),
	}
	s := &service{
		router: r, edge: e, validate: validator, deadline: cfg.Deadline, hold: cfg.DefaultHold, maxWatches: int64(cfg.MaxWatches),
	}
	e.ownerOf = s.ownerOf
	return &Coordinator{cfg: cfg, router: r, service: s, edge: e, log: cfg.Logger.Named("coordinator")}, nil
}

// Ready reports whether the coordinator should be called: it knows a worker, and was not told to
// stop.
func (c *Coordinator) Ready() bool { return c.router.ready() && !c.stopping.Load() }

// Run serves gRPC and HTTP on the listeners until ctx ends, then answers what it
// has accepted and returns. The listeners are closed.
func (c *Coordinator) Run(ctx context.Context, grpcListener, httpListener net.Listener) error {
	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	handler, err := httpHandler(serving, c.service, c.edge)
	if err != nil {
		return fmt.Errorf("coordinator: %w", err)
	}
	defer c.router.close()
	grpcServer, healthServer := c.grpcServer(serving)
	httpServer := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: maxHeader, ErrorLog: c.log.Named("http").StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	if c.cfg.TLS != nil {
		httpListener = tls.NewListener(httpListener, c.cfg.TLS)
	}

	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWatching()
	var parts errgroup.Group
	parts.Go(func() error { return c.watch(watching) })
	parts.Go(func() error { return c.watchHomes(watching) })
	parts.Go(func() error {
		defer stopServing()
		return grpcServer.Serve(grpcListener)
	})
	parts.Go(func() error {
		defer stopServing()
		return closed(httpServer.Serve(httpListener))
	})
	c.log.Info("serving", "grpc", grpcListener.Addr().String(), "http", httpListener.Addr().String())

	<-serving.Done()
	c.stopping.Store(true)
	healthServer.Shutdown()
	c.stop(ctx, grpcServer, httpServer)
	stopWatching()
	err = parts.Wait()
	c.log.Info("stopped")
	return err
}

// stop accepts no more calls on either server, and lets those that were accepted
// finish, for the drain timeout at most.
func (c *Coordinator) stop(ctx context.Context, grpcServer *grpc.Server, httpServer *http.Server) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.DrainTimeout)
	defer cancel()
	force := context.AfterFunc(ctx, grpcServer.Stop)
	defer force()
	var grpcStopped sync.WaitGroup
	grpcStopped.Go(grpcServer.GracefulStop)
	if err := httpServer.Shutdown(ctx); err != nil {
		c.log.Warn("calls were cut off", "error", err)
		_ = httpServer.Close()
	}
	grpcStopped.Wait()
}

func (c *Coordinator) watch(ctx context.Context) error {
	err := c.cfg.Directory.Watch(ctx, func(view cluster.View) {
		c.awaitHomes(ctx, view.Workers)
		if err := c.router.update(view); err != nil {
			c.log.Error("worker has an address that cannot be called", "error", err)
		}
		c.log.Debug("cluster", "topology", view.Topology.Number, "workers", len(view.Workers))
	}, func(err error) { c.log.Warn("cluster not read", "error", err) })
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
