package coordinator

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// steady is how long a watch at a worker lasts that has not failed at once.
const steady = time.Second

var errWatchStopped = status.Error(codes.Unavailable, "the watch has ended; begin another one with the last cursor")

// watch has workers tell something, one after the other, for as long as the caller wants to
// know. It gives up when none has said anything until the deadline of a call.
type watch[Msg any] struct {
	key  string
	open func(context.Context, grpc.ClientConnInterface) (grpc.ServerStreamingClient[Msg], error)
	pass func(*Msg) error // an error ends the watch
}

func (w *watch[Msg]) run(ctx context.Context, s *service) error {
	if s.watching.Add(1) > s.maxWatches {
		s.watching.Add(-1)
		return holdfastv1.Error(codes.ResourceExhausted, holdfastv1.ReasonTooManyWatches,
			fmt.Sprintf("%d watches are open, and no more may be; repeat later", s.maxWatches), nil,
			&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	}
	defer s.watching.Add(-1)
	until, way := time.Now().Add(s.deadline), &way{}
	for !over(ctx, until) {
		p := s.router.next(w.key, way)
		if p == nil {
			s.router.pause(ctx, until, way)
			continue
		}
		began := time.Now()
		gone, err := w.at(ctx, p, s.router.attemptTimeout)
		if gone || err != nil && answered(err) && holdfastv1.Reason(err) != holdfastv1.ReasonShardUnavailable {
			return err
		}
		if way.last = err; time.Since(began) > steady {
			until = time.Now().Add(s.deadline)
			way.turn, way.asked = 0, []*peer{p}
		}
	}
	if ctx.Err() != nil {
		return errWatchStopped
	}
	return gaveUp(ctx, way.last)
}

// at passes on what one worker says, until it says no more. It reports whether the caller
// has gone. A worker has to say something within the timeout, and to be heard from then on.
func (w *watch[Msg]) at(ctx context.Context, p *peer, timeout time.Duration) (gone bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if heard := p.heard.Load(); heard.Err() == nil {
		defer context.AfterFunc(heard, cancel)()
	}
	silent := time.AfterFunc(timeout, cancel)
	defer silent.Stop()
	stream, err := w.open(ctx, p.conn)
	if err != nil {
		return false, err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return false, err
		}
		silent.Stop()
		if err := w.pass(m); err != nil {
			return true, err
		}
	}
}

// WatchEvents passes the events of a worker on. When it goes away, the next one goes on
// after what the caller was told last.
func (s *service) WatchEvents(
	req *holdfastv1.WatchEventsRequest, stream grpc.ServerStreamingServer[holdfastv1.WatchEventsResponse],
) error {
	if err := s.check(req); err != nil {
		return err
	}
	if req.GetFromNow() && req.GetCursor() != "" {
		return holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "from_now", "does not go with a cursor")
	}
	next := proto.CloneOf(req)
	w := &watch[holdfastv1.WatchEventsResponse]{
		key: s.watchKey(req.GetProductId()),
		open: func(ctx context.Context, conn grpc.ClientConnInterface) (grpc.ServerStreamingClient[holdfastv1.WatchEventsResponse], error) {
			return holdfastv1.NewEventServiceClient(conn).WatchEvents(ctx, next)
		},
		pass: func(m *holdfastv1.WatchEventsResponse) error {
			next.Cursor, next.FromNow = m.GetCursor(), false
			return stream.Send(m)
		},
	}
	return w.run(stream.Context(), s)
}

// watchKey spreads the watches of all events over the workers.
func (s *service) watchKey(productID string) string {
	if productID != "" {
		return productID
	}
	return fmt.Sprint(s.watches.Add(1))
}

// WatchProduct passes on what a worker tells of a product, and not again what the caller
// knows already. All who watch a product are told by the same worker, if they can.
func (s *service) WatchProduct(
	req *holdfastv1.WatchProductRequest, stream grpc.ServerStreamingServer[holdfastv1.Product],
) error {
	if err := s.check(req); err != nil {
		return err
	}
	var last *holdfastv1.Product
	w := &watch[holdfastv1.Product]{
		key: req.GetProductId(),
		open: func(ctx context.Context, conn grpc.ClientConnInterface) (grpc.ServerStreamingClient[holdfastv1.Product], error) {
			return holdfastv1.NewProductServiceClient(conn).WatchProduct(ctx, req)
		},
		pass: func(p *holdfastv1.Product) error {
			if proto.Equal(p, last) {
				return nil
			}
			last = p
			return stream.Send(p)
		},
	}
	return w.run(stream.Context(), s)
}

// ListMovements can be answered by any worker.
func (s *service) ListMovements(
	ctx context.Context, req *holdfastv1.ListMovementsRequest,
) (*holdfastv1.ListMovementsResponse, error) {
	return ask(ctx, s, req.GetProductId(), req,
		holdfastv1.NewEventServiceClient, holdfastv1.EventServiceClient.ListMovements)
}
