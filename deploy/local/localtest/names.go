package localtest

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
)

// Unanswered has gRPC look names up at a name server that does not answer until told to.
// Like gRPC's own resolver it cannot be closed before.
func Unanswered() (dial grpc.DialOption, answer func()) {
	answered := make(chan struct{})
	return grpc.WithResolvers(unanswered{answered}), func() { close(answered) }
}

type unanswered struct{ answered chan struct{} }

func (unanswered) Scheme() string { return "dns" }

// Build is part of resolver.Builder.
func (u unanswered) Build(resolver.Target, resolver.ClientConn, resolver.BuildOptions) (resolver.Resolver, error) {
	return u, nil
}

func (unanswered) ResolveNow(resolver.ResolveNowOptions) {}

// Close is part of resolver.Resolver.
func (u unanswered) Close() { <-u.answered }
