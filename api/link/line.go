package link

import (
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
)

// line is one stream, from before it is opened until it has broken.
type line struct {
	limit      int
	wake       chan struct{} // has room for one: "there is something to send"
	goroutines sync.WaitGroup

	mu        sync.Mutex
	last      uint64 // number given
	queue     []numbered
	abandoned []uint64
	pending   map[uint64]errand // whoever takes one out answers it
	broken    error             // nil while it can be used
	clock     *time.Timer       // calls expire
	alarm     time.Time         // for which the clock is set; zero when it is not
}

// errand is a purchase that is under way.
type errand struct {
	req    *holdfastv1.CreatePurchaseRequest
	until  time.Time
	answer func(Answer) // is called once, without mu
}

func open(ctx context.Context, client workerv1.WorkerServiceClient, limit int) *line {
	l := &line{limit: limit, wake: make(chan struct{}, 1), pending: map[uint64]errand{}}
	l.clock = time.AfterFunc(math.MaxInt64, l.expire)
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

// put takes a purchase in, to be sent with the next message, and returns its number.
// One that cannot be sent is answered at once.
func (l *line) put(
	req *holdfastv1.CreatePurchaseRequest, until time.Time, from *origin, answer func(Answer),
) (number uint64) {
	l.mu.Lock()
	err := l.broken
	if err == nil && len(l.pending) >= l.limit {
		err = errTooMany
	}
	if err != nil {
		l.mu.Unlock()
		answer(Answer{Err: err})
		return 0
	}
	defer l.mu.Unlock()
	l.last++
	l.pending[l.last] = errand{req, until, answer}
	l.queue = append(l.queue, numbered{l.last, req, until, from})
	if l.alarm.IsZero() || until.Before(l.alarm) {
		l.alarm = until
		l.clock.Reset(time.Until(until))
	}
	l.ring()
	return l.last
}

// abandon answers purchases, as far as they are under way, and tells the worker that
// nobody waits for them any more.
func (l *line) abandon(err error, numbers ...uint64) {
	var sent, queued []errand
	l.mu.Lock()
	unsent := l.firstUnsent()
	for _, number := range numbers {
		e, waits := l.pending[number]
		switch delete(l.pending, number); {
		case !waits:
		case number < unsent:
			l.abandoned = append(l.abandoned, number)
			sent = append(sent, e)
		default:
			queued = append(queued, e)
		}
	}
	l.sweep()
	l.ring()
	l.mu.Unlock()
	answerAll(sent, err)
	answerAll(queued, neverSent(err))
}

// firstUnsent is the number of the first sale that was not handed to the stream. Caller
// holds mu.
func (l *line) firstUnsent() uint64 {
	if len(l.queue) > 0 {
		return l.queue[0].number
	}
	return l.last + 1
}

func answerAll(errands []errand, err error) {
	for _, e := range errands {
		e.answer(Answer{Err: err})
	}
}

// sweep takes out of the queue what nobody waits for, before that is most of it: a worker
// that reads nothing lets nothing be sent. Caller holds mu.
func (l *line) sweep() {
	if len(l.queue) <= 2*len(l.pending)+perMessage {
		return
	}
	l.queue = slices.DeleteFunc(l.queue, func(sale numbered) bool {
		_, waits := l.pending[sale.number]
		return !waits
	})
}

var (
	errSilent  = status.Error(codes.Canceled, "the worker has fallen silent")
	errOverdue = status.Error(codes.DeadlineExceeded, "the worker did not answer in time")
)

func (l *line) interrupt() {
	l.mu.Lock()
	numbers := slices.Collect(maps.Keys(l.pending))
	l.mu.Unlock()
	l.abandon(errSilent, numbers...)
}

// alarmPause is between two looks for what is overdue: when much is, one look serves
// many. It is how late an answer may be.
const alarmPause = time.Millisecond

// expire answers what is overdue, and sets the clock for what will be next. It looks at
// all that is under way, which is little and seldom where workers answer: most
// purchases are long gone when the time is up for which the first one set the clock.
func (l *line) expire() {
	var overdue []uint64
	l.mu.Lock()
	now := time.Now()
	l.alarm = time.Time{}
	for number, e := range l.pending {
		switch {
		case !e.until.After(now):
			overdue = append(overdue, number)
		case l.alarm.IsZero() || e.until.Before(l.alarm):
			l.alarm = e.until
		}
	}
	if !l.alarm.IsZero() {
		l.clock.Reset(max(l.alarm.Sub(now), alarmPause))
	}
	l.mu.Unlock()
	if len(overdue) > 0 {
		l.abandon(errOverdue, overdue...)
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
	sales, abandoned := l.next()
	if len(sales)+len(abandoned) == 0 {
		return nil
	}
	msg := packSales(sales)
	msg.Abandoned = abandoned
	return msg
}

// next returns what the next message tells.
func (l *line) next() (sales []numbered, abandoned []uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sales = make([]numbered, 0, min(len(l.queue), perMessage))
	for len(l.queue) > 0 && len(sales) < perMessage {
		sale := l.queue[0]
		l.queue[0], l.queue = numbered{}, l.queue[1:]
		if _, waits := l.pending[sale.number]; waits {
			sales = append(sales, sale)
		}
	}
	abandoned, l.abandoned = l.abandoned, nil
	return sales, abandoned
}

// receive hands out answers until the stream ends, and returns why it did.
func (l *line) receive(stream grpc.BidiStreamingClient[workerv1.SellRequest, workerv1.SellResponse]) error {
	for {
		msg, err := stream.Recv()
		if err != nil {
			return err
		}
		answers, err := unpackAnswers(msg)
		if err != nil {
			return err
		}
		for i, e := range l.takeOut(answers) {
			if e.answer != nil {
				e.answer(answers[i].answer(e.req))
			}
		}
	}
}

// takeOut returns whom the answers are for; nobody, where nobody waits any more.
func (l *line) takeOut(answers []decided) []errand {
	errands := make([]errand, len(answers))
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, a := range answers {
		errands[i] = l.pending[a.number]
		delete(l.pending, a.number)
	}
	return errands
}

// end answers all that is under way. Whatever the stream's error was, it is no
// worker's answer to a purchase.
func (l *line) end(cause error) {
	broke := status.Error(codes.Unavailable, "link to the worker: "+reasonOf(cause))
	tooLate := neverSent(broke)
	var sent, queued []errand
	l.mu.Lock()
	l.broken = tooLate
	unsent := l.firstUnsent()
	for number, e := range l.pending {
		if number < unsent {
			sent = append(sent, e)
		} else {
			queued = append(queued, e)
		}
	}
	l.pending, l.queue, l.abandoned = nil, nil, nil
	l.clock.Stop()
	l.mu.Unlock()
	answerAll(sent, broke)
	answerAll(queued, tooLate)
}
