package link

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// unsent is the status of what never left this end: the worker cannot do it, now or later.
type unsent struct{ *status.Status }

// Error is part of error.
func (u unsent) Error() string { return u.Err().Error() }

// GRPCStatus has package status know the status.
func (u unsent) GRPCStatus() *status.Status { return u.Status }

func neverSent(err error) error { return unsent{status.Convert(err)} }

// NeverSent reports whether an error of a link, or of a call over a connection with
// [NoticeUnsent], says that the worker was not told of it, and so will not do it. Of those
// that do not say so some were not sent either.
func NeverSent(err error) bool {
	_, ok := err.(unsent) //nolint:errorlint // what wraps it is another answer
	return ok
}

// NoticeUnsent is an option of connections to workers: calls that fail before they are sent
// say so to [NeverSent], as where somebody listens who can show no certificate.
func NoticeUnsent() grpc.DialOption {
	return grpc.WithChainUnaryInterceptor(func(
		ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
	) error {
		var to peer.Peer // is filled in when a call has a stream to somebody
		err := invoke(ctx, method, req, reply, cc, append(opts[:len(opts):len(opts)], grpc.Peer(&to))...)
		if err != nil && to.Addr == nil {
			return neverSent(err)
		}
		return err
	})
}
