package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// Between attempts; each pause is about twice as long as the one before.
const (
	firstPause = 25 * time.Millisecond
	maxPause   = 500 * time.Millisecond
)

// wire is what the generated clients call on: connections to all coordinators, and calls
// that are repeated.
type wire struct {
	timeout, attemptTimeout time.Duration
	conns                   []*grpc.ClientConn
	preferred               atomic.Uint64 // modulo their number: whom to ask next
}

func (w *wire) close() (err error) {
	for _, conn := range w.conns {
		err = errors.Join(err, conn.Close())
	}
	return err
}

// Invoke is part of grpc.ClientConnInterface.
func (w *wire) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	req := withRequestIDs(args.(proto.Message))
	c := w.begin(ctx)
	defer c.cancel()
	var err error
	switch batch, isBatch := req.(*holdfastv1.BatchCreatePurchasesRequest); {
	case isBatch:
		err = c.sellAll(method, batch, reply.(*holdfastv1.BatchCreatePurchasesResponse), opts)
	case repeatable(method, req):
		err = c.insist(func() error { return c.attempt(method, req, reply, opts) })
	default:
		err = c.attempt(method, req, reply, opts)
	}
	return newError(err, requestID(req))
}

// NewStream is part of grpc.ClientConnInterface. Only the opening is repeated and bounded.
func (w *wire) NewStream(
	ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption,
) (opened grpc.ClientStream, err error) {
	c := w.begin(ctx)
	defer c.cancel()
	err = c.insist(func() (err error) {
		who := w.preferred.Load()
		opened, err = w.conn(who).NewStream(ctx, desc, method, opts...)
		w.passOver(who, err)
		return err
	})
	if err != nil {
		return nil, newError(err, "")
	}
	return stream{opened}, nil
}

// repeatable reports whether a call that is made twice is done once: since it has a key,
// only reads, or does what bears the caller's own name, or is done for good by the first.
func repeatable(method string, req proto.Message) bool {
	switch method {
	case holdfastv1.ProductService_CreateProduct_FullMethodName,
		holdfastv1.ProductService_GetProduct_FullMethodName, holdfastv1.ProductService_ListProducts_FullMethodName,
		holdfastv1.PurchaseService_GetPurchase_FullMethodName, holdfastv1.PurchaseService_ListPurchases_FullMethodName,
		holdfastv1.OrderService_GetOrder_FullMethodName, holdfastv1.OrderService_PayOrder_FullMethodName,
		holdfastv1.EventService_ListMovements_FullMethodName,
		holdfastv1.WebhookService_ListWebhooks_FullMethodName, holdfastv1.WebhookService_DeleteWebhook_FullMethodName,
		holdfastv1.WebhookService_ListDeadLetters_FullMethodName, holdfastv1.WebhookService_ResendDeadLetters_FullMethodName:
		return true
	}
	return requestID(req) != ""
}

func (w *wire) conn(who uint64) *grpc.ClientConn { return w.conns[who%uint64(len(w.conns))] }

// passOver has another coordinator asked next, by all calls, if this one gave no answer.
func (w *wire) passOver(who uint64, err error) {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded:
		w.preferred.CompareAndSwap(who, who+1)
	}
}

// call is one call of the caller's, of one or more attempts.
type call struct {
	*wire
	ctx      context.Context // has a deadline
	cancel   context.CancelFunc
	attempts int   // that were made
	said     error // what is to be told if the time is up now
}

// begin gives a call a deadline if it has none.
func (w *wire) begin(ctx context.Context) *call {
	cancel := func() {}
	if _, ok := ctx.Deadline(); !ok {
		ctx, cancel = context.WithTimeout(ctx, w.timeout)
	}
	return &call{wire: w, ctx: ctx, cancel: cancel}
}

// insist makes attempts until one is final, or the next could not begin in time.
func (c *call) insist(attempt func() error) error {
	deadline, _ := c.ctx.Deadline()
	_, err := backoff.Retry(c.ctx, func() (_ struct{}, err error) {
		if err = attempt(); err == nil {
			return struct{}{}, nil
		}
		return struct{}{}, c.judge(err)
	},
		backoff.WithBackOff(&backoff.ExponentialBackOff{
			InitialInterval: firstPause, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: maxPause,
		}),
		backoff.WithMaxElapsedTime(time.Until(deadline)))
	if err == nil {
		return nil
	}
	if _, again := repetition(c.said); again && errors.Is(c.ctx.Err(), context.Canceled) {
		return status.FromContextError(context.Canceled).Err() // the caller has left
	}
	return c.said
}

// judge tells backoff.Retry what to do after an error.
func (c *call) judge(err error) error {
	after, again := repetition(err)
	silent := status.Code(err) == codes.DeadlineExceeded || status.Code(err) == codes.Canceled
	if c.said == nil || !silent {
		c.said = err // why somebody failed says more than that nobody answered
	}
	switch {
	case !again:
		return backoff.Permanent(err)
	case after > 0: // and a little more: others were told the same
		return &backoff.RetryAfterError{Duration: after + rand.N(after/4+1)}
	}
	return err
}

// repetition decides whether an attempt that failed may have been no answer, or is to be made
// again, after so long at least. Deadlines and cancellations are those of the attempt: the
// caller's own end the call.
func repetition(err error) (after time.Duration, again bool) {
	st := status.Convert(err)
	switch st.Code() {
	case codes.Unavailable, codes.Aborted, codes.DeadlineExceeded, codes.Canceled:
		return retryDelay(st), true
	case codes.ResourceExhausted:
		after = retryDelay(st)
		return after, after > 0 // otherwise it is too large, and stays so
	}
	return 0, false
}

func retryDelay(st *status.Status) time.Duration {
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// attempt asks one coordinator.
func (c *call) attempt(method string, req, reply any, opts []grpc.CallOption) error {
	deadline, _ := c.ctx.Deadline()
	ctx, cancel := context.WithTimeout(c.ctx, c.share(time.Until(deadline)))
	defer cancel()
	c.attempts++
	who := c.preferred.Load()
	err := c.conn(who).Invoke(ctx, method, req, reply, opts...)
	c.passOver(who, err)
	return err
}

// share is how much of the time that is left the next attempt may take: never so much that
// nothing is left for coordinators that were not asked in this turn.
func (c *call) share(left time.Duration) time.Duration {
	n := len(c.conns)
	if n == 1 {
		return left
	}
	turn, asked := c.attempts/n, c.attempts%n
	return min(c.attemptTimeout<<min(turn, 10), left/time.Duration(n-asked))
}
