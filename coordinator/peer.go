package coordinator

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/api/link"
)

// A worker that is paused, or cut off without a word, is noticed after two
// questions without an answer.
const (
	askInterval = 250 * time.Millisecond
	askTimeout  = 500 * time.Millisecond

	// knockTimeout is until somebody may live who does not answer a knock; the way to another
	// region takes less.
	knockTimeout = 200 * time.Millisecond
)

// peer is a connection to a worker, and whether the worker says anything. A worker that was
// started again has a new one: its name may stand for another address by now, and gRPC would
// not look it up again for half a minute.
type peer struct {
	address  string
	instance string
	conn     *grpc.ClientConn
	link     *link.Link // for purchases; all else is called
	end      context.CancelFunc
	ended    chan struct{} // closed when nothing of the peer runs any more

	heard  atomic.Pointer[hearing]
	knocks singleflight.Group
	opened atomic.Pointer[time.Time] // when somebody was there, or the knock not answered
}

// hearing is a time in which a worker says something. Its context ends when the worker
// falls silent.
type hearing struct {
	context.Context
	end context.CancelFunc
}

func hear(ctx context.Context) *hearing {
	ctx, end := context.WithCancel(ctx)
	return &hearing{ctx, end}
}

func newPeer(w cluster.Worker, limit int, dial []grpc.DialOption) (*peer, error) {
	conn, err := grpc.NewClient(w.Address, dial...)
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	p := &peer{
		address: w.Address, instance: w.Instance,
		conn: conn, link: link.New(conn, limit), end: end, ended: make(chan struct{}),
	}
	p.heard.Store(hear(ctx))
	go p.listen(ctx)
	return p, nil
}

func (p *peer) close() {
	p.end()
	<-p.ended
	p.link.Close()
	_ = p.conn.Close()
}

// listen asks the worker for a sign of life again and again. A worker that cannot
// be connected to needs no such question: calls to it fail at once.
func (p *peer) listen(ctx context.Context) {
	defer close(p.ended)
	tick := time.NewTicker(askInterval)
	defer tick.Stop()
	health := healthpb.NewHealthClient(p.conn)
	for unanswered := 0; ; {
		askCtx, cancel := context.WithTimeout(ctx, askTimeout)
		_, err := health.Check(askCtx, &healthpb.HealthCheckRequest{})
		cancel()
		if status.Code(err) == codes.DeadlineExceeded {
			unanswered++
		} else {
			unanswered = 0
		}
		p.note(ctx, unanswered >= 2)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// note keeps what listen has found. What was under way when the worker fell silent is
// given up, on the link and off it.
func (p *peer) note(ctx context.Context, silent bool) {
	switch {
	case silent && !p.silent():
		p.heard.Load().end()
		p.link.Interrupt()
	case !silent && p.silent():
		p.heard.Store(hear(ctx))
	}
}

// silent reports whether the worker answers nothing at present.
func (p *peer) silent() bool { return p.heard.Load().Err() != nil }

// isDead reports whether nobody listens at the worker's address any more, and so nobody has
// a call in his hands there. A worker that is paused is connected to by its kernel. Those
// who ask at the same time share the answer, and for a while the answer that it may live.
func (p *peer) isDead() bool {
	if opened := p.opened.Load(); opened != nil && time.Since(*opened) < askInterval {
		return false
	}
	dead, _, _ := p.knocks.Do("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), knockTimeout)
		defer cancel()
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.address)
		if err == nil {
			_ = conn.Close()
		}
		refused := errors.Is(err, syscall.ECONNREFUSED)
		if now := time.Now(); !refused {
			p.opened.Store(&now)
		}
		return refused, nil
	})
	return dead.(bool)
}

// attempt gives the context in which the worker is called, and told until when it may do
// what it is called for. It ends as well when the worker falls silent meanwhile; one that
// begins during the silence gets its whole time, in case nobody else is there.
func (p *peer) attempt(ctx context.Context, until time.Time) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithDeadline(link.TellUntil(ctx, until), until)
	heard := p.heard.Load()
	if heard.Err() != nil {
		return ctx, cancel
	}
	forget := context.AfterFunc(heard, cancel)
	return ctx, func() { forget(); cancel() }
}
