package main

import (
	"context"

	"github.com/spf13/pflag"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func healthFlag(flags *pflag.FlagSet) *string {
	return flags.String("health-listen", "", "address to serve nothing but gRPC's health on, in the clear: Kubernetes' probes speak no TLS (default none)")
}

// serveHealth tells whoever asks at the address whether the server is ready, until stop is
// called. With no address it serves nothing.
func serveHealth(ctx context.Context, address string, ready func() bool) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	listener, err := listen(ctx, "health-listen", address)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(grpc.MaxConcurrentStreams(16), grpc.MaxRecvMsgSize(1<<10))
	healthpb.RegisterHealthServer(server, probe{ready: ready})
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }() // its error is that it was stopped
	return func() { server.Stop(); <-done }, nil
}

// probe answers of the server as a whole.
type probe struct {
	healthpb.UnimplementedHealthServer
	ready func() bool
}

// Check is part of healthpb.HealthServer. The empty name asks whether the process serves; the
// name "ready" whether it should be sent calls.
func (p probe) Check(_ context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	switch {
	case req.GetService() != "" && req.GetService() != "ready":
		return nil, status.Error(codes.NotFound, "there is no such service")
	case req.GetService() == "ready" && !p.ready():
		return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_NOT_SERVING}, nil
	}
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}
