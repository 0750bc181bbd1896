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
// caller what another worker decided. Nor does one that it has begun last longer.
func RefuseLate(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	until, told, err := toldUntil(ctx)
	switch {
	case err != nil:
		return nil, err
	case !told:
		return handler(ctx, req)
	case time.Now().After(until):
		return nil, ErrLate
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	return handler(ctx, req)
}

// toldUntil is until when a call may be done, if it says so.
func toldUntil(ctx context.Context) (until time.Time, told bool, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get(untilKey)
	if len(values) == 0 {
		return time.Time{}, false, nil
	}
	milliseconds, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil {
		return time.Time{}, false, status.Errorf(codes.InvalidArgument, "%s: %v", untilKey, err)
	}
	return time.UnixMilli(milliseconds), true, nil
}

// PastHold stands for the end of a hold that was over when its coordinator was asked for it.
// Such a call can only be a repetition, which the worker knows. A hold that ends while the
// call is under way is a hold all the same.
var PastHold = time.UnixMicro(1).UTC()

// ErrLate is told of what a worker came to too late. Nobody waits for it any more.
var ErrLate = status.Error(codes.DeadlineExceeded, "the worker came to it too late")
