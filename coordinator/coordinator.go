package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"buf.build/go/protovalidate"
	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/api/traces"
)

// Config says what a coordinator needs. Fields without a default are required.
type Config struct {
	Directory cluster.Directory
	Logger    hclog.Logger
	Metrics   prometheus.Registerer // one of its own when nil
	Traces    trace.TracerProvider  // none when nil

	Deadline       time.Duration // 15 s; for calls that come without one
	AttemptTimeout time.Duration // 3 s; until a worker that does not answer is passed over
	DrainTimeout   time.Duration // 10 s
	MaxInFlight    int           // 20,000; purchases under way at each worker
	MaxWatches     int           // 10,000; watches of events and of products
	DefaultHold    time.Duration // 10 min; for holds of which nobody says how long they last
}

// Coordinator is the front door.
type Coordinator struct {
	cfg     Config
	router  *router
	service *service
	log     hclog.Logger
}

// New prepares a coordinator. It does not connect to anything.
func New(cfg Config) (*Coordinator, error) {
	if cfg.Directory.Client == nil {
		return nil, errors.New("coordinator: etcd client is required")
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
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	validator, err := protovalidate.New()
	if err != nil {
		return nil, fmt.Errorf("coordinator: %w", err)
	}
	r := newRouter(cfg, append(traces.DialOptions(cfg.Traces),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(), // workers are within reach
		grpc.WithInitialWindowSize(link.StreamWindow), grpc.WithInitialConnWindowSize(link.ConnWindow),
		// A worker that is gone costs one short attempt; one that comes back is
		// found within a second.
		grpc.WithConnectParams(grpc.ConnectParams{
			MinConnectTimeout: time.Second,
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 2, Jitter: 0.2, MaxDelay: time.Second},
		}),
	))
	s := &service{
		router: r, validate: validator, deadline: cfg.Deadline, hold: cfg.DefaultHold, maxWatches: int64(cfg.MaxWatches),
	}
	if cfg.Traces != nil {
		s.tracer = traces.Tracer(cfg.Traces)
	}
	r.metrics.watch(s)
	return &Coordinator{cfg: cfg, router: r, log: cfg.Logger.Named("coordinator"), service: s}, nil
}

// Run serves gRPC and HTTP on the listeners until ctx ends, then answers what it
// has accepted and returns. The listeners are closed.
func (c *Coordinator) Run(ctx context.Context, grpcListener, httpListener net.Listener) error {
	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	handler, err := httpHandler(serving, c.service)
	if err != nil {
		return fmt.Errorf("coordinator: %w", err)
	}
	defer c.router.close()
	grpcServer, healthServer := c.grpcServer(serving)
	httpServer := &http.Server{Handler: traced(c.cfg.Traces, handler), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, IdleTimeout: 2 * time.Minute}

	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWatching()
	var parts errgroup.Group
	parts.Go(func() error { return c.watch(watching) })
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

// streamWorkers is how many of gRPC's goroutines stay for the next call, with the stack
// that calls need: a new one grows it anew. Calls beyond them have a goroutine each.
const streamWorkers = 512

// grpcServer serves until serving ends; then it waits for calls only.
func (c *Coordinator) grpcServer(serving context.Context) (*grpc.Server, *health.Server) {
	server := grpc.NewServer(append(traces.ServerOptions(c.cfg.Traces),
		grpc.MaxRecvMsgSize(maxBody), grpc.NumStreamWorkers(streamWorkers),
		grpc.InitialWindowSize(link.StreamWindow), grpc.InitialConnWindowSize(link.ConnWindow),
		grpc.StreamInterceptor(func(
			srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler,
		) error {
			// Watches of the health would never end, and streams of purchases not soon.
			ctx, cancel := context.WithCancel(stream.Context())
			defer cancel()
			defer context.AfterFunc(serving, cancel)()
			return handler(srv, endingStream{stream, ctx})
		}))...)
	holdfastv1.RegisterProductServiceServer(server, c.service)
	holdfastv1.RegisterPurchaseServiceServer(server, c.service)
	holdfastv1.RegisterOrderServiceServer(server, c.service)
	holdfastv1.RegisterEventServiceServer(server, c.service)
	holdfastv1.RegisterWebhookServiceServer(server, c.service)
	healthServer := health.NewServer()
	healthpb.RegisterHealthServer(server, healthServer)
	return server, healthServer
}

// endingStream is a stream with an end of its own.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s endingStream) Context() context.Context { return s.ctx }

func closed(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
