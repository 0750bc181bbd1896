package link

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
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
// CANCELED or DEADLINE_EXCEEDED when the context ended.
type Answer struct {
	Purchase *holdfastv1.Purchase
	Err      error
}

// Sell has the worker decide one purchase.
func (l *Link) Sell(ctx context.Context, req *holdfastv1.CreatePurchaseRequest) (*holdfastv1.Purchase, error) {
	e := l.current().put(req)
	a := e.await(ctx)
	return a.Purchase, a.Err
}

// SellAll has the worker decide purchases, each by itself, and returns their answers in
// their order when the last one is there.
func (l *Link) SellAll(ctx context.Context, reqs []*holdfastv1.CreatePurchaseRequest) []Answer {
	line := l.current()
	errands := make([]errand, len(reqs))
	for i, req := range reqs {
		errands[i] = line.put(req)
	}
	answers := make([]Answer, len(reqs))
	for i, e := range errands {
		answers[i] = e.await(ctx)
	}
	return answers
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

// errand is one purchase on its way.
type errand struct {
	line   *line
	number uint64
	answer <-chan Answer // has room for the one
}

func (e errand) await(ctx context.Context) Answer {
	select {
	case a := <-e.answer:
		return a
	case <-ctx.Done():
		e.line.abandon(e.number)
		return Answer{Err: status.FromContextError(ctx.Err()).Err()}
	}
}

// line is one stream, from before it is opened until it has broken.
type line struct {
	limit      int
	wake       chan struct{} // has room for one: "there is something to send"
	goroutines sync.WaitGroup

	mu        sync.Mutex
	last      uint64 // number given
	queue     []*workerv1.Sale
	abandoned []uint64
	pending   map[uint64]chan<- Answer
	broken    error // nil while it can be used
}

func open(ctx context.Context, client workerv1.WorkerServiceClient, limit int) *line {
	l := &line{limit: limit, wake: make(chan struct{}, 1), pending: map[uint64]chan<- Answer{}}
	l.goroutines.Go(func() {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := client.Sell(ctx)
		if err == nil {
			l.goroutines.Go(func() { l.send(ctx, stream) })
			err = l.receive(stream)
		}
		l.end(err)
	})
	return l
}

func (l *line) ended() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken != nil
}

// put takes a purchase in, to be sent with the next message.
func (l *line) put(req *holdfastv1.CreatePurchaseRequest) errand {
	answer := make(chan Answer, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.broken != nil:
		answer <- Answer{Err: l.broken}
		return errand{l, 0, answer}
	case len(l.pending) >= l.limit:
		answer <- Answer{Err: errTooMany}
		return errand{l, 0, answer}
	}
	l.last++
	l.pending[l.last] = answer
	l.queue = append(l.queue, &workerv1.Sale{Number: l.last, Purchase: req})
	l.ring()
	return errand{l, l.last, answer}
}

// abandon tells the worker that nobody waits for an answer.
func (l *line) abandon(number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, waits := l.pending[number]; waits {
		delete(l.pending, number)
		l.abandoned = append(l.abandoned, number)
		l.ring()
	}
}

func (l *line) ring() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// send sends what gathers, until ctx ends or the stream breaks.
func (l *line) send(ctx context.Context, stream grpc.BidiStreamingClient[workerv1.SellRequest, workerv1.SellResponse]) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		}
		for msg := l.take(); msg != nil; msg = l.take() {
			if stream.Send(msg) != nil {
				return // receive learns why
			}
		}
	}
}

// perMessage bounds the purchases of one message: at under a kilobyte each, far below
// what gRPC takes.
const perMessage = 512

// take returns the next message, or nil when there is nothing to say. Sales that
// were abandoned before they were sent are left out.
func (l *line) take() *workerv1.SellRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	msg := &workerv1.SellRequest{Abandoned: l.abandoned}
	l.abandoned = nil
	for len(l.queue) > 0 && len(msg.GetSales()) < perMessage {
		sale := l.queue[0]
		l.queue[0], l.queue = nil, l.queue[1:]
		if _, waits := l.pending[sale.GetNumber()]; waits {
			msg.Sales = append(msg.Sales, sale)
		}
	}
	if len(msg.GetSales())+len(msg.GetAbandoned()) == 0 {
		return nil
	}
	return msg
}

// receive hands out answers until the stream ends, and returns why it did.
func (l *line) receive(stream grpc.BidiStreamingClient[workerv1.SellRequest, workerv1.SellResponse]) error {
	for {
		msg, err := stream.Recv()
		if err != nil {
			return err
		}
		l.mu.Lock()
		for _, a := range msg.GetAnswers() {
			if answer, waits := l.pending[a.GetNumber()]; waits {
				delete(l.pending, a.GetNumber())
				answer <- answerOf(a)
			}
		}
		l.mu.Unlock()
	}
}

func answerOf(a *workerv1.SaleAnswer) Answer {
	switch result := a.GetResult().(type) {
	case *workerv1.SaleAnswer_Purchase:
		return Answer{Purchase: result.Purchase}
	case *workerv1.SaleAnswer_Error:
		if err := status.ErrorProto(result.Error); err != nil {
			return Answer{Err: err}
		}
	}
	return Answer{Err: errNoAnswer}
}

var errNoAnswer = status.Error(codes.Internal, "the worker's answer is neither a purchase nor an error")

// end answers all that is under way. Whatever the stream's error was, it is no
// worker's answer to a purchase.
func (l *line) end(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = status.Error(codes.Unavailable, "link to the worker: "+reasonOf(cause))
	for _, answer := range l.pending {
		answer <- Answer{Err: l.broken}
	}
	l.pending, l.queue, l.abandoned = nil, nil, nil
}
