package link

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// untilKey names, in the metadata of a call, until when it may be done: in milliseconds
// since 1970, UTC.
const untilKey = "holdfast-until"

// TellUntil has the calls of a context tell the worker until when they may be done.
func TellUntil(ctx context.Context, until time.Time) context.Context {
	return metadata.AppendToOutgoingContext(ctx, untilKey, strconv.FormatInt(until.UnixMilli(), 10))
}

// RefuseLate is a worker's interceptor: a call that it comes to read too late, because it
// was paused with the call in its hands, is not done. The coordinator may have told the
// caller what another worker decided.
func RefuseLate(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, value := range md.Get(untilKey) {
		until, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "%s: %v", untilKey, err)
		}
		if time.Now().After(time.UnixMilli(until)) {
			return nil, ErrLate
		}
	}
	return handler(ctx, req)
}

// PastHold stands for the end of a hold that was over when its coordinator was asked for it.
// Such a call can only be a repetition, which the worker knows. A hold that ends while the
// call is under way is a hold all the same.
var PastHold = time.UnixMicro(1).UTC()

// ErrLate is told of what a worker came to too late. Nobody waits for it any more.
var ErrLate = status.Error(codes.DeadlineExceeded, "the worker came to it too late")
