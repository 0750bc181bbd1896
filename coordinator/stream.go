package coordinator

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/api/traces"
)

// maxInStream bounds the purchases of one stream that are under way; the caller's
// next one is taken in when one of them is answered.
const maxInStream = 1024

type purchaseStream = grpc.BidiStreamingServer[holdfastv1.StreamPurchasesRequest, holdfastv1.StreamPurchasesResponse]

// StreamPurchases answers each purchase of the stream as CreatePurchase would,
// all of them at once. When the coordinator stops, it answers what it has taken in
// and ends the stream as UNAVAILABLE.
func (s *service) StreamPurchases(stream purchaseStream) error {
	o := &orders{
		service: s,
		// What was taken in is answered even when the stream's context ends because
		// the coordinator stops.
		ctx:  context.WithoutCancel(stream.Context()),
		room: semaphore.NewWeighted(maxInStream),
		wake: make(chan struct{}, 1),
	}
	var sender sync.WaitGroup
	sender.Go(func() { o.send(stream) })
	said := make(chan error, 1) // why the caller says no more
	go func() { said <- o.read(stream) }()
	var err error
	select {
	case err = <-said:
	case <-stream.Context().Done():
		err = errStreamStopped
	}
	_ = o.room.Acquire(o.ctx, maxInStream) // all is answered, and no more is taken in
	close(o.wake)
	sender.Wait()
	return err
}

var errStreamStopped = status.Error(codes.Unavailable, "the stream has ended; send what was not answered again")

// orders are the purchases of one stream.
type orders struct {
	service *service
	ctx     context.Context
	room    *semaphore.Weighted // for those under way
	wake    chan struct{}       // has room for one: "there is something to send"

	mu      sync.Mutex
	decided []*order // not sent yet
}

// order is one purchase of a stream. It has one owner at a time.
type order struct {
	req   *holdfastv1.CreatePurchaseRequest
	until time.Time
	way   way
	span  trace.Span // nil when nothing is traced
	link.Answer
}

// read takes purchases in until the stream ends.
func (o *orders) read(stream purchaseStream) error {
	for {
		req, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if o.room.Acquire(stream.Context(), 1) != nil {
			return errStreamStopped
		}
		o.begin(&order{req: req.GetPurchase()})
	}
}

// begin asks the first worker, if there is nothing to wait for, and needs no goroutine
// when that one's answer settles the purchase.
func (o *orders) begin(d *order) {
	s := o.service
	if d.Err = s.edge.allow(o.ctx, d.req); d.Err == nil && d.req.GetRequestId() == "" {
		d.Err = errNoRequestID
	}
	if d.Err == nil {
		d.Err = s.check(d.req)
	}
	if d.Err == nil && d.req.GetUnitPrice() != nil {
		d.Err = pricedAmongOthers("")
	}
	if d.Err == nil {
		d.Err = s.fillHold(d.req.GetHold(), "")
	}
	if d.Err != nil {
		o.decide(d)
		return
	}
	d.until = s.until(o.ctx)
	ctx := o.trace(d)
	if !fill(d.req, s.router.known()) {
		go o.goOn(ctx, d)
		return
	}
	first := s.router.next(d.req.GetProductId(), &d.way)
	if first == nil {
		go o.goOn(ctx, d)
		return
	}
	attempt := s.router.attemptUntil(d.until)
	first.link.Start(ctx, d.req, attempt, func(a link.Answer) {
		if !d.way.settles(s.router, attempt, a.Err) {
			go o.goOn(ctx, d)
			return
		}
		s.router.metrics.decided(a.Err)
		d.Answer = a
		o.decide(d)
	})
}

// goOn has the purchase decided as CreatePurchase has, on the way that it has come so far.
func (o *orders) goOn(ctx context.Context, d *order) {
	d.Purchase, d.Err = o.service.sell(ctx, d.until, d.req, &d.way)
	o.decide(d)
}

func (o *orders) decide(d *order) {
	if d.span != nil {
		traces.Decided(d.span, d.Err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.decided = append(o.decided, d)
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// send sends the answers that have gathered, until wake is closed.
func (o *orders) send(stream purchaseStream) {
	for range o.wake {
		o.mu.Lock()
		some := o.decided
		o.decided = nil
		o.mu.Unlock()
		for _, d := range some {
			_ = stream.Send(d.response()) // fails only when the caller is gone
			o.room.Release(1)
		}
	}
}

func (d *order) response() *holdfastv1.StreamPurchasesResponse {
	resp := &holdfastv1.StreamPurchasesResponse{RequestId: d.req.GetRequestId()}
	if d.Err != nil {
		resp.Result = &holdfastv1.StreamPurchasesResponse_Error{Error: status.Convert(d.Err).Proto()}
	} else {
		resp.Result = &holdfastv1.StreamPurchasesResponse_Purchase{Purchase: d.Purchase}
	}
	return resp
}

var errNoRequestID = holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "request_id",
	"is required in a stream: it tells the answers apart")
