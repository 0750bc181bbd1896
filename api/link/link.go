package link

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
)

// Windows for the flow control of connections that carry purchases: more than a region
// far away can have under way. gRPC would find them out by itself, with a ping for nearly
// every message.
const (
	StreamWindow = 1 << 20
	ConnWindow   = 4 << 20
)

// Link is a coordinator's end. It is safe for concurrent use.
type Link struct {
	client workerv1.WorkerServiceClient
	limit  int
	base   context.Context // ends with the link
	close  context.CancelFunc

	mu   sync.Mutex
	line *line // the newest; nil at first
}

// New returns a link over a connection to a worker, with at most limit purchases under
// way. The stream is opened when it is needed first.
func New(conn grpc.ClientConnInterface, limit int) *Link {
	l := &Link{client: workerv1.NewWorkerServiceClient(conn), limit: limit}
	l.base, l.close = context.WithCancel(context.Background())
	return l
}

// Close ends the link. What is under way is answered as if the stream had broken.
func (l *Link) Close() {
	l.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.line != nil {
		l.line.goroutines.Wait()
	}
}

// Answer is what came of a purchase. Err is the worker's own answer, or a status that
// leaves open what happened: UNAVAILABLE without a reason when the stream broke,
// CANCELED or DEADLINE_EXCEEDED when nobody waits any more. [NeverSent] tells those that
// leave nothing open.
type Answer struct {
	Purchase *holdfastv1.Purchase
	Err      error
}

// Sell has the worker decide one purchase. It waits until the given time, and no longer
// than ctx.
func (l *Link) Sell(
	ctx context.Context, req *holdfastv1.CreatePurchaseRequest, until time.Time,
) (*holdfastv1.Purchase, error) {
	line, answered := l.current(), make(chan Answer, 1)
	number := line.put(req, until, originIn(ctx), func(a Answer) { answered <- a })
	var a Answer
	select {
	case a = <-answered:
	case <-ctx.Done():
		line.abandon(status.FromContextError(ctx.Err()).Err(), number)
		a = <-answered
	}
	return a.Purchase, a.Err
}

// Start has the worker decide one purchase, and returns. It calls answer once, from
// anywhere, at the given time at the latest. The answers of others wait meanwhile, so it
// must not block, nor use the link. Of ctx it takes the trace, and not the end.
func (l *Link) Start(
	ctx context.Context, req *holdfastv1.CreatePurchaseRequest, until time.Time, answer func(Answer),
) {
	l.current().put(req, until, originIn(ctx), answer)
}

// SellAll has the worker decide purchases, each by itself, and returns their answers in
// their order when the last one is there. It waits as Sell does.
func (l *Link) SellAll(ctx context.Context, reqs []*holdfastv1.CreatePurchaseRequest, until time.Time) []Answer {
	if len(reqs) == 0 {
		return nil
	}
	var (
		line        = l.current()
		from        = originIn(ctx)
		numbers     = make([]uint64, len(reqs))
		answers     = make([]Answer, len(reqs))
		outstanding atomic.Int64
		complete    = make(chan struct{})
	)
	outstanding.Store(int64(len(reqs)))
	for i, req := range reqs {
		numbers[i] = line.put(req, until, from, func(a Answer) {
			answers[i] = a
			if outstanding.Add(-1) == 0 {
				close(complete)
			}
		})
	}
	select {
	case <-complete:
	case <-ctx.Done():
		line.abandon(status.FromContextError(ctx.Err()).Err(), numbers...)
		<-complete
	}
	return answers
}

// Interrupt answers what is under way with CANCELED: the worker has fallen silent.
func (l *Link) Interrupt() {
	l.mu.Lock()
	line := l.line
	l.mu.Unlock()
	if line != nil {
		line.interrupt()
	}
}

// current returns a line that has not ended, if there can be one.
func (l *Link) current() *line {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.line == nil || l.line.ended() && l.base.Err() == nil {
		l.line = open(l.base, l.client, l.limit)
	}
	return l.line
}
