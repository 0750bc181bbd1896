package lockmgr

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// laneCount is how many streams the renewals are spread over. A member that is
// not the leader forwards one renewal of a stream at a time, about a millisecond
// each, which makes eight streams enough for ten thousand locks.
const laneCount = 8

// renewer renews all leases of a manager. One goroutine, the clock, keeps them in
// the order of what is to be done next, and hands those that are due to lanes.
type renewer struct {
	client pb.LeaseClient
	alive  func(*lease)                // is called before each renewal, without mu
	ended  func(l *lease, cause error) // is called without mu
	log    hclog.Logger
	lanes  [laneCount]*lane
	wake   chan struct{} // tells the clock that something is due earlier than it thinks

	mu    sync.Mutex
	heap  leaseHeap
	added int
}

func newRenewer(client pb.LeaseClient, alive func(*lease), ended func(*lease, error), log hclog.Logger) *renewer {
	r := &renewer{client: client, alive: alive, ended: ended, log: log, wake: make(chan struct{}, 1)}
	for i := range r.lanes {
		r.lanes[i] = newLane(r)
	}
	return r
}

// run renews leases until ctx ends.
func (r *renewer) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, ln := range r.lanes {
		wg.Go(func() { ln.run(ctx) })
	}
	r.clock(ctx)
	wg.Wait()
}

// add begins to renew l.
func (r *renewer) add(l *lease) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l.lane = r.lanes[r.added%laneCount]
	r.added++
	heap.Push(&r.heap, l)
	if l.index == 0 {
		poke(r.wake)
	}
}

// remove stops renewing l. It may be called more than once.
func (r *renewer) remove(l *lease) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop(l)
}

func (r *renewer) drop(l *lease) {
	if l.lane == nil {
		return
	}
	delete(l.lane.inflight, l.id)
	l.lane = nil
	heap.Remove(&r.heap, l.index)
}

// fix puts l where it belongs after its trust has changed.
func (r *renewer) fix(l *lease) { heap.Fix(&r.heap, l.index) }

// expired removes l and returns true if its trust is over.
func (r *renewer) expired(l *lease, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.lane == nil || l.trust.decide(now) != expire {
		return false
	}
	r.drop(l)
	return true
}

// clock does what is due, sleeps, and begins again.
func (r *renewer) clock(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.wake:
		}
		expired, next := r.sweep(time.Now())
		for _, l := range expired {
			r.ended(l, ErrExpired)
		}
		timer.Reset(time.Until(next))
	}
}

// sweep does everything that is due at now. It returns the leases whose trust has
// ended, and the moment of the next sweep.
func (r *renewer) sweep(now time.Time) (expired []*lease, next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.heap) > 0 {
		l := r.heap[0]
		switch l.trust.decide(now) {
		case rest:
			return expired, l.trust.next()
		case renew:
			l.trust.ask(now)
			r.fix(l)
			l.lane.enqueue(l)
		case overdue:
			r.log.Debug("lease renewal unanswered, replacing its stream", "lease", l.id)
			l.lane.cut(now)
		case expire:
			r.drop(l)
			expired = append(expired, l)
		}
	}
	return expired, now.Add(time.Hour)
}

// answered records an answer of the server to a renewal of id that was sent on the
// given generation of the lane's stream. It returns false if that stream is no
// longer in use.
func (r *renewer) answered(ln *lane, generation int, id clientv3.LeaseID, ttl time.Duration) bool {
	l, current, cause := r.settle(ln, generation, id, ttl, time.Now())
	if cause != nil {
		r.ended(l, cause)
	}
	return current
}

func (r *renewer) settle(ln *lane, generation int, id clientv3.LeaseID, ttl time.Duration, now time.Time) (l *lease, current bool, cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ln.generation != generation {
		return nil, false, nil
	}
	l, ok := ln.inflight[id]
	if !ok {
		return nil, true, nil
	}
	delete(ln.inflight, id)
	switch {
	case ttl <= 0:
		cause = ErrLost
	case l.trust.decide(now) == expire:
		cause = ErrExpired
	default:
		l.trust.extend(l.trust.asked, ttl)
		r.fix(l)
		return l, true, nil
	}
	r.drop(l)
	return l, true, cause
}

// sendable reports whether l may still be renewed, right before it is. Owners are
// asked for signs of life here and not by the clock, so that one that blocks does not
// keep others from learning that their trust is over.
func (r *renewer) sendable(l *lease) bool {
	r.alive(l)
	r.mu.Lock()
	defer r.mu.Unlock()
	return l.lane != nil && l.trust.decide(time.Now()) != expire
}

// lasts reports whether l is renewed and has a good part of its time left, so that it
// is worth beginning something on it.
func (r *renewer) lasts(l *lease, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return l.lane != nil && l.trust.until.Sub(now) > l.granted/3
}

// poke wakes whoever waits for c, now or the next time it does.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// leaseHeap orders leases by what is to be done next.
type leaseHeap []*lease

func (h leaseHeap) Len() int           { return len(h) }
func (h leaseHeap) Less(i, j int) bool { return h[i].trust.next().Before(h[j].trust.next()) }
func (h leaseHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *leaseHeap) Push(x any) {
	l := x.(*lease)
	l.index = len(*h)
	*h = append(*h, l)
}

func (h *leaseHeap) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return l
}
