package coordinator

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"buf.build/go/protovalidate"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/holdfast-io/holdfast/api/certs"
	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/api/traces"
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
	// MaxStreamsPerBuyer (100) bounds the watches and streams of purchases of each who only buys.
	MaxStreamsPerBuyer int

	Authenticator *auth.Authenticator // nil: everybody may do everything
	Rates         auth.Rates          // of callers, where there is an authenticator
	// Certs are for the listeners, PeerCerts for connections to workers. Without them these
	// are in the clear.
	Certs, PeerCerts *certs.Source

	Metrics prometheus.Registerer // one of its own when nil
	Traces  trace.TracerProvider  // none when nil
}

func (c *Config) complete() error {
	switch {
	case c.Directory.Client == nil:
		return errors.New("etcd client is required")
	case c.DefaultHold < 0:
		return errors.New("default-hold must be above 0")
	case c.MaxInFlight < 0:
		return errors.New("max-in-flight must be at least 1")
	case c.MaxWatches < 0:
		return errors.New("max-watches must be at least 1")
	case c.MaxStreamsPerBuyer < 0:
		return errors.New("max-streams-per-buyer must be at least 1")
	case c.Rates.PerBuyer < 0 || c.Rates.PerCaller < 0:
		return errors.New("rates must not be below 0")
	}
	c.MaxWatches = cmp.Or(c.MaxWatches, 10_000)
	c.MaxStreamsPerBuyer = cmp.Or(c.MaxStreamsPerBuyer, 100)
	c.Deadline = cmp.Or(c.Deadline, 15*time.Second)
	c.AttemptTimeout = cmp.Or(c.AttemptTimeout, 3*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 10*time.Second)
	c.MaxInFlight = cmp.Or(c.MaxInFlight, 20_000)
	c.DefaultHold = cmp.Or(c.DefaultHold, 10*time.Minute)
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	return cluster.ValidateRegion(c.Region)
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
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("coordinator: %w", err)
	}
	validator, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("coordinator: %w", err)
	}
	r := newRouter(cfg, toWorkers(cfg))
	e, err := newEdge(cfg, r.metrics)
	if err != nil {
		return nil, fmt.Errorf("coordinator: %w", err)
	}
	s := &service{
		router: r, edge: e, validate: validator, deadline: cfg.Deadline, hold: cfg.DefaultHold, maxWatches: int64(cfg.MaxWatches),
	}
	if cfg.Traces != nil {
		s.tracer = traces.Tracer(cfg.Traces)
	}
	e.ownerOf = s.ownerOf
	r.metrics.watch(s)
	return &Coordinator{cfg: cfg, router: r, service: s, edge: e, log: cfg.Logger.Named("coordinator")}, nil
}

// toWorkers is how workers are connected to.
func toWorkers(cfg Config) []grpc.DialOption {
	creds := insecure.NewCredentials()
	if cfg.PeerCerts != nil {
		creds = cfg.PeerCerts.Client(certs.Worker)
	}
	return slices.Concat(link.TellRegion(cfg.Region), traces.DialOptions(cfg.Traces), []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		link.NoticeUnsent(),
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
	})
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
		Handler: traced(c.cfg.Traces, handler), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: maxHeader, ErrorLog: c.log.Named("http").StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
	}
	if c.cfg.Certs != nil {
		httpListener = tls.NewListener(httpListener, c.cfg.Certs.Server())
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
