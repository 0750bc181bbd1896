package lockmgr

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Pauses before a lane opens its next stream.
const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = time.Second
)

var errCut = errors.New("stream was replaced")

// lane sends the renewals of its leases on one stream after another. The server
// answers a stream in order, so what blocks one renewal blocks those behind it,
// but not the other lanes.
type lane struct {
	r    *renewer
	work chan struct{} // tells the sender that queue is not empty

	// Guarded by renewer.mu.
	queue      []*lease                    // to be sent
	inflight   map[clientv3.LeaseID]*lease // to be sent, or sent and not answered
	generation int                         // of the stream; answers to older ones mean nothing
	cancel     context.CancelFunc          // ends the stream; nil if there is none
}

func newLane(r *renewer) *lane {
	return &lane{r: r, work: make(chan struct{}, 1), inflight: make(map[clientv3.LeaseID]*lease)}
}

// enqueue is called with renewer.mu held, as is everything down to take.
func (ln *lane) enqueue(l *lease) {
	ln.queue = append(ln.queue, l)
	ln.inflight[l.id] = l
	poke(ln.work)
}

// cut gives up the stream, if there is one, and makes all renewals that were to be
// answered on it due again.
func (ln *lane) cut(now time.Time) {
	if ln.cancel != nil {
		ln.cancel()
		ln.cancel = nil
	}
	ln.generation++
	ln.queue = nil
	for _, l := range ln.inflight {
		l.trust.retryAt(now)
		ln.r.fix(l)
	}
	clear(ln.inflight)
	poke(ln.r.wake)
}

// take returns what is to be sent on the stream of the given generation, and false
// if that stream is no longer in use.
func (ln *lane) take(generation int) (batch []*lease, current bool) {
	ln.r.mu.Lock()
	defer ln.r.mu.Unlock()
	if ln.generation != generation {
		return nil, false
	}
	batch, ln.queue = ln.queue, nil
	return batch, true
}

// open begins a generation whose stream cancel will end.
func (ln *lane) open(cancel context.CancelFunc) int {
	ln.r.mu.Lock()
	defer ln.r.mu.Unlock()
	ln.generation++
	ln.cancel = cancel
	return ln.generation
}

// close gives up the stream of the generation unless that was done already.
func (ln *lane) close(generation int) {
	ln.r.mu.Lock()
	defer ln.r.mu.Unlock()
	if ln.generation == generation {
		ln.cut(time.Now())
	}
}

// run opens streams until ctx ends, with growing pauses while they fail.
func (ln *lane) run(ctx context.Context) {
	backoff := minBackoff
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-ln.work:
			poke(ln.work) // the sender wants to hear it too
		}
		useful, err := ln.serve(ctx)
		if useful {
			backoff = minBackoff
		}
		if ctx.Err() == nil {
			ln.r.log.Debug("renewal stream ended", "error", err, "next_in", backoff)
		}
		pause(ctx, backoff/2+rand.N(backoff/2))
		backoff = min(2*backoff, maxBackoff)
	}
}

// serve sends and receives on one stream until it fails. It reports whether the
// server answered anything.
func (ln *lane) serve(ctx context.Context) (useful bool, err error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	var sender sync.WaitGroup
	defer sender.Wait()
	defer cancel()
	generation := ln.open(cancel)
	defer ln.close(generation)

	stream, err := ln.r.client.LeaseKeepAlive(ctx)
	if err != nil {
		return false, err
	}
	sender.Go(func() { ln.send(stream, generation) })
	for {
		resp, err := stream.Recv()
		if err != nil {
			return useful, err
		}
		useful = true
		ttl := time.Duration(resp.GetTTL()) * time.Second
		if !ln.r.answered(ln, generation, clientv3.LeaseID(resp.GetID()), ttl) {
			return useful, errCut
		}
	}
}

// send sends what is queued until the stream fails; serve hears why.
func (ln *lane) send(stream pb.Lease_LeaseKeepAliveClient, generation int) {
	for {
		batch, current := ln.take(generation)
		if !current {
			return
		}
		for _, l := range batch {
			if !ln.r.sendable(l) {
				continue
			}
			if stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(l.id)}) != nil {
				return
			}
		}
		select {
		case <-stream.Context().Done():
			return
		case <-ln.work:
		}
	}
}

// pause waits for d, or less if ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
