package link

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
)

// Server is a worker's end of all its links.
type Server struct {
	workerv1.UnimplementedWorkerServiceServer

	// Answered, unless it is nil, is told once of each sale when it is answered, also of one
	// that was too many and that nobody was asked to decide. It must not block. Set it before
	// the server serves.
	Answered func(*Sale, error)

	sell    func(*Sale)
	limit   int64
	sales   atomic.Int64 // under way
	stopped chan struct{}
	stop    sync.Once
}

// NewServer returns a server that has sell decide each purchase, at most limit at a
// time. sell must not block, since what it is told next waits: it answers when it can,
// from any goroutine.
func NewServer(sell func(*Sale), limit int) *Server {
	return &Server{sell: sell, limit: int64(limit), stopped: make(chan struct{})}
}

// Sale is a purchase that a coordinator waits for.
type Sale struct {
	// Request shares memory with others that came with it: clone what is kept for long.
	Request *holdfastv1.CreatePurchaseRequest
	// Until is when it must be decided, by the clock on the wall: later the coordinator may
	// have told the buyer what another worker decided.
	Until time.Time
	// Came is when the message came that brought it.
	Came time.Time

	end    *end
	number uint64
	from   *origin

	// Guarded by end.mu.
	ctx    context.Context // nil unless somebody has asked for it
	cancel context.CancelFunc
}

// Answer tells the coordinator what became of the purchase, unless nobody waits for that
// any more. It must be called once.
func (s *Sale) Answer(stored Stored, err error) {
	if told := s.end.server.Answered; told != nil {
		told(s, err)
	}
	a := decided{number: s.number, stored: stored}
	if err != nil {
		a.failed = status.Convert(err)
	}
	s.end.mu.Lock()
	defer s.end.mu.Unlock()
	if s.end.settle(s) {
		s.end.answers = append(s.end.answers, a)
		s.end.ring()
	}
}

// Trace is the span that the purchase goes on from. It is not valid when it is not traced.
func (s *Sale) Trace() trace.SpanContext { return s.from.span() }

// Context returns a context that ends when nobody waits for the answer any more, or
// when it was given. Whoever only has to answer needs none, and saves it.
func (s *Sale) Context() context.Context {
	s.end.mu.Lock()
	defer s.end.mu.Unlock()
	if s.ctx == nil {
		s.ctx, s.cancel = context.WithCancel(s.end.ctx)
		if s.end.underWay[s.number] != s {
			s.cancel()
		}
	}
	return s.ctx
}

// Stop ends each link as soon as what it has brought is answered.
func (s *Server) Stop() { s.stop.Do(func() { close(s.stopped) }) }

// Sell serves one link.
func (s *Server) Sell(stream grpc.BidiStreamingServer[workerv1.SellRequest, workerv1.SellResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	e := &end{
		server: s, region: ToldRegion(ctx), ctx: ctx, wake: make(chan struct{}, 1), underWay: map[uint64]*Sale{},
	}
	defer e.close()
	defer cancel()
	said := make(chan error, 1) // why the coordinator says no more
	go func() { said <- e.read(stream) }()
	stopped, last := s.stopped, error(nil)
	for {
		select {
		case <-e.wake:
		case err := <-said:
			if !errors.Is(err, io.EOF) {
				return err
			}
			e.finish()
		case <-stopped:
			stopped, last = nil, errStopped
			e.finish()
		}
		if done, err := e.flush(stream); done || err != nil {
			return errors.Join(err, last)
		}
	}
}

var errStopped = status.Error(codes.Unavailable, "the worker stops")

// end is the worker's end of one link.
type end struct {
	server *Server
	region string // of its coordinator
	ctx    context.Context
	wake   chan struct{} // has room for one: "there is something to send, or all is done"

	mu        sync.Mutex
	underWay  map[uint64]*Sale
	answers   []decided
	finishing bool // takes no more sales
}

// close gives up what is under way, and what was not sent.
func (e *end) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.finishing = true
	for _, s := range e.underWay {
		e.abandon(s)
	}
	e.server.sales.Add(-int64(len(e.answers)))
	e.answers = nil
}

// read takes in what the coordinator says, until it says no more.
func (e *end) read(stream grpc.BidiStreamingServer[workerv1.SellRequest, workerv1.SellResponse]) error {
	for {
		msg, err := stream.Recv()
		if err != nil {
			return err
		}
		sales, err := unpackSales(msg)
		if err != nil {
			return err
		}
		came := time.Now()
		for _, sale := range sales {
			e.begin(sale, came)
		}
		e.leave(msg.GetAbandoned())
	}
}

func (e *end) begin(told numbered, came time.Time) {
	s := &Sale{Request: told.req, Until: told.until, Came: came, end: e, number: told.number, from: told.from}
	allowed := e.server.sales.Add(1) <= e.server.limit
	if !e.take(s) {
		e.server.sales.Add(-1)
		return
	}
	if !allowed {
		s.Answer(Stored{}, errTooMany)
		return
	}
	e.server.sell(s)
}

// take reports whether a sale is to be decided. When it is not, the end of the stream is
// the answer.
func (e *end) take(s *Sale) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.finishing {
		return false
	}
	e.underWay[s.number] = s
	return true
}

// settle ends a sale that is under way. It reports false when that was done before. Caller
// holds mu, also of abandon.
func (e *end) settle(s *Sale) bool {
	if e.underWay[s.number] != s {
		return false
	}
	delete(e.underWay, s.number)
	if s.cancel != nil {
		s.cancel()
	}
	return true
}

// abandon ends a sale that nobody waits for. It does not count as under way any more,
// however long the worker takes to decide it.
func (e *end) abandon(s *Sale) {
	if e.settle(s) {
		e.server.sales.Add(-1)
		e.ring()
	}
}

func (e *end) leave(numbers []uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, number := range numbers {
		if s := e.underWay[number]; s != nil {
			e.abandon(s)
		}
	}
}

func (e *end) finish() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.finishing = true
	e.ring()
}

func (e *end) ring() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// flush sends the answers that have gathered. It reports whether that were the last.
func (e *end) flush(stream grpc.BidiStreamingServer[workerv1.SellRequest, workerv1.SellResponse]) (done bool, err error) {
	for {
		e.mu.Lock()
		n := min(len(e.answers), perMessage)
		some := e.answers[:n:n]
		e.answers = e.answers[n:]
		done = n == 0 && e.finishing && len(e.underWay) == 0
		e.mu.Unlock()
		if n == 0 {
			return done, nil
		}
		err := stream.Send(packAnswers(some))
		e.server.sales.Add(int64(-n))
		if err != nil {
			return false, err
		}
	}
}

// retryDelay is what a caller is asked to wait that came too much.
const retryDelay = 100 * time.Millisecond

var errTooMany = holdfastv1.Error(codes.ResourceExhausted, holdfastv1.ReasonOverloaded,
	"too many purchases are under way; repeat later", nil, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryDelay)})

// reasonOf says in words why a stream ended.
func reasonOf(cause error) string {
	if errors.Is(cause, io.EOF) {
		return "the worker has ended the stream"
	}
	return status.Convert(cause).Message()
}
