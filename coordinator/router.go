package coordinator

import (
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

const (
	firstPause = 20 * time.Millisecond
	maxPause   = 500 * time.Millisecond
)

// router knows the workers and calls them.
type router struct {
	attemptTimeout time.Duration
	dial           []grpc.DialOption

	mu       sync.RWMutex
	topology cluster.Topology
	names    []string
	peers    map[string]*peer // by the worker's name
	changed  chan struct{}    // closed when the view changes
}

// peer is a connection to a worker.
type peer struct {
	address string
	conn    *grpc.ClientConn
}

func newRouter(attemptTimeout time.Duration, dial []grpc.DialOption) *router {
	return &router{attemptTimeout: attemptTimeout, dial: dial, peers: map[string]*peer{}, changed: make(chan struct{})}
}

// update takes over a new view. Connections to workers that left, or that came
// back at another address, are closed.
func (r *router) update(view cluster.View) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if view.Topology.Number >= r.topology.Number { // else etcd has lost data
		r.topology = view.Topology
	}
	r.names = nil
	var failures error
	peers := map[string]*peer{}
	for _, w := range view.Workers {
		p := r.peers[w.Name]
		if p == nil || p.address != w.Address {
			conn, err := grpc.NewClient(w.Address, r.dial...)
			if err != nil {
				failures = errors.Join(failures, err)
				continue
			}
			p = &peer{address: w.Address, conn: conn}
		}
		peers[w.Name] = p
		r.names = append(r.names, w.Name)
	}
	for name, old := range r.peers {
		if peers[name] != old {
			_ = old.conn.Close()
		}
	}
	r.peers = peers
	close(r.changed)
	r.changed = make(chan struct{})
	return failures
}

func (r *router) close() { _ = r.update(cluster.View{}) }

// ready reports whether there is a worker to call.
func (r *router) ready() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.names) > 0
}

// awaitTopology returns the topology; only a coordinator that has just started
// has to wait for it.
func (r *router) awaitTopology(ctx context.Context) (cluster.Topology, error) {
	for {
		r.mu.RLock()
		topology, changed := r.topology, r.changed
		r.mu.RUnlock()
		if len(topology.Shards) > 0 {
			return topology, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return topology, gaveUp(ctx, errNoWorker)
		}
	}
}

// pick returns the worker to ask for a key in a round of attempts: the best in
// the first round, the next best in the second, and so on, round and round. It
// also returns how many workers there are.
func (r *router) pick(key string, round int) (name string, conn *grpc.ClientConn, workers int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.names) == 0 {
		return "", nil, 0
	}
	name = cluster.Rank(key, r.names)[round%len(r.names)]
	return name, r.peers[name].conn, len(r.names)
}

// call has a worker answer for a key. It goes on to the next worker while ctx
// lasts, as long as a worker gives no answer of its own.
func (r *router) call(ctx context.Context, key string, do func(context.Context, *grpc.ClientConn) error) error {
	last := errNoWorker
	for round := 0; ; round++ {
		_, conn, workers := r.pick(key, round)
		if workers > 0 {
			err := r.attempt(ctx, conn, do)
			if answered(err) {
				return err
			}
			last = err
		}
		if err := r.pause(ctx, round, workers); err != nil {
			return gaveUp(ctx, last)
		}
	}
}

func (r *router) attempt(ctx context.Context, conn *grpc.ClientConn, do func(context.Context, *grpc.ClientConn) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.attemptTimeout)
	defer cancel()
	return do(ctx, conn)
}

// answered decides whether what a call came to is the worker's answer. It is not
// when the connection failed, when the worker drains, and when it was too late:
// then the next worker is asked, while the caller waits. An error that the worker
// made itself is an answer: another worker could not give a better one.
func answered(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable:
		reason := holdfastv1.Reason(err)
		return reason != "" && reason != holdfastv1.ReasonWorkerDraining
	case codes.Canceled, codes.DeadlineExceeded:
		return false
	}
	return true
}

// pause waits after a round in which all workers were asked, longer each time,
// or until there are other workers. Within a round it does not wait.
func (r *router) pause(ctx context.Context, round, workers int) error {
	if workers > 0 && (round+1)%workers != 0 {
		return ctx.Err()
	}
	r.mu.RLock()
	changed := r.changed
	r.mu.RUnlock()
	turn := min(round/max(workers, 1), 10)
	timer := time.NewTimer(min(firstPause<<turn, maxPause))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-changed:
	case <-timer.C:
	}
	return nil
}

var errNoWorker = errors.New("no worker is known")

// gaveUp is the answer after the deadline, or after the caller has left.
func gaveUp(ctx context.Context, last error) error {
	code := codes.Unavailable
	if errors.Is(ctx.Err(), context.Canceled) {
		code = codes.Canceled
	}
	return holdfastv1.Error(code, holdfastv1.ReasonNoWorker,
		"no worker answered; repeat with the same request_id: "+status.Convert(last).Message(), nil)
}
