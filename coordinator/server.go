package coordinator

import (
	"context"
	"errors"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/api/traces"
)

const (
	// streamWorkers is how many of gRPC's goroutines stay for the next call, with the stack
	// that calls need: a new one grows it anew. Calls beyond them have a goroutine each.
	streamWorkers = 512
	// maxHeader bounds the metadata of a call: a token, and little else.
	maxHeader = 32 << 10
	// maxStreams bounds the calls under way of one connection.
	maxStreams = 2_000
	// pingEvery is how often a client may ask whether the connection lives.
	pingEvery = 5 * time.Second
)

// grpcServer serves until serving ends; then it waits for calls only.
func (c *Coordinator) grpcServer(serving context.Context) (*grpc.Server, *health.Server) {
	options := append(traces.ServerOptions(c.cfg.Traces),
		grpc.MaxRecvMsgSize(maxBody), grpc.MaxHeaderListSize(maxHeader), grpc.MaxConcurrentStreams(maxStreams),
		grpc.NumStreamWorkers(streamWorkers), grpc.ForceServerCodecV2(newFrugal()),
		grpc.InitialWindowSize(link.StreamWindow), grpc.InitialConnWindowSize(link.ConnWindow),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery}),
		grpc.UnaryInterceptor(c.edge.unary),
		grpc.ChainStreamInterceptor(endsWith(serving), c.edge.stream),
	)
	if c.cfg.Certs != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(c.cfg.Certs.Server())))
	}
	server := grpc.NewServer(options...)
	register(entering{server, c.edge}, c.service)
	healthServer := health.NewServer()
	healthpb.RegisterHealthServer(server, healthServer)
	c.edge.metrics.rpc.InitializeMetrics(server)
	return server, healthServer
}

// register has the public contract served.
func register(at grpc.ServiceRegistrar, s *service) {
	holdfastv1.RegisterProductServiceServer(at, s)
	holdfastv1.RegisterPurchaseServiceServer(at, s)
	holdfastv1.RegisterOrderServiceServer(at, s)
	holdfastv1.RegisterEventServiceServer(at, s)
	holdfastv1.RegisterWebhookServiceServer(at, s)
}

// endsWith ends streams when the coordinator stops: watches of the health would never end, and
// streams of purchases not soon.
func endsWith(serving context.Context) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		ctx, cancel := context.WithCancel(stream.Context())
		defer cancel()
		defer context.AfterFunc(serving, cancel)()
		return handler(srv, endingStream{stream, ctx})
	}
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
