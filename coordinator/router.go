package coordinator

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/link"
)

const (
	firstPause = 20 * time.Millisecond
	maxPause   = 500 * time.Millisecond
)

// router knows the workers and calls them.
type router struct {
	attemptTimeout time.Duration
	limit          int // of purchases under way at each worker
	dial           []grpc.DialOption
	view           func(context.Context) (cluster.View, error) // reads etcd
	lastReading    chan reading                                // holds one, or none while one is made
	metrics        *metrics
	closing        sync.WaitGroup // of connections that are not needed any more

	mu       sync.RWMutex
	topology cluster.Topology
	names    []string
	peers    map[string]*peer // by the worker's name
	changed  chan struct{}    // closed when the view changes
	homes    homes
}

func newRouter(cfg Config, dial []grpc.DialOption) *router {
	r := &router{
		attemptTimeout: cfg.AttemptTimeout, limit: cfg.MaxInFlight, dial: dial, view: cfg.Directory.View,
		homes:       newHomes(),
		lastReading: make(chan reading, 1), metrics: newMetrics(cfg.Metrics), peers: map[string]*peer{}, changed: make(chan struct{}),
	}
	r.lastReading <- reading{}
	return r
}

// update takes over a new view. Connections to workers that left, or that were started
// again, are closed. Nobody waits for that: gRPC does, for the name server that it asked.
func (r *router) update(view cluster.View) error {
	r.learn(view.Topology)
	gone, err := r.replace(view.Workers)
	for _, p := range gone {
		r.closing.Go(p.close) // answers what is under way there, which may ask for the other workers
	}
	return err
}

// replace returns the connections that are not needed any more.
func (r *router) replace(workers []cluster.Worker) (gone []*peer, failures error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names = nil
	r.homes.place(workers)
	peers := map[string]*peer{}
	for _, w := range workers {
		p := r.peers[w.Name]
		if p == nil || p.instance != w.Instance || p.address != w.Address {
			var err error
			if p, err = newPeer(w, r.limit, r.dial); err != nil {
				failures = errors.Join(failures, err)
				continue
			}
		}
		peers[w.Name] = p
		r.names = append(r.names, w.Name)
	}
	for name, old := range r.peers {
		if peers[name] != old {
			gone = append(gone, old)
		}
	}
	r.peers = peers
	close(r.changed)
	r.changed = make(chan struct{})
	return gone, failures
}

func (r *router) close() {
	_ = r.update(cluster.View{})
	r.closing.Wait()
}

// ready reports whether there is a worker to call.
func (r *router) ready() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.names) > 0
}

// known returns the topology, which is empty in a coordinator that has just started.
func (r *router) known() cluster.Topology {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.topology
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
			return topology, gaveUp(ctx, nil)
		}
	}
}

// way is how far a purchase has come on its way through the workers.
type way struct {
	asked []*peer // in this turn
	turn  int     // how often all workers were asked before
	// alone counts the workers that could not reach a shard for it.
	alone int
	// cutOff is the region of the first of them.
	cutOff string
	last   error // that did not settle it
	// open is until when a worker that was asked and did not answer may still do it.
	open time.Time
	// lost are the calls whose connection has broken.
	lost []lostCall
	// refuser is who gave the refusal that is held back until then; he is asked again.
	refuser *peer
}

// clockSkew is by how much the clocks of coordinators and workers may differ. Were it more,
// a buyer who was refused might own what he was refused; never would anything be oversold.
const clockSkew = 500 * time.Millisecond

// lostCall is a call whose worker may still do it until that time, unless it is dead.
type lostCall struct {
	to    *peer
	until time.Time
}

// mayStillBeDone reports whether a worker that did not answer may still do it.
func (w *way) mayStillBeDone() bool { return time.Now().Before(w.open) }

func (w *way) mayBeDoneUntil(open time.Time) {
	if open.After(w.open) {
		w.open = open
	}
}

// next returns the worker to ask for a key: the best one that was not asked in this turn,
// those of the product's home first, those that are silent last. It returns nil when all
// were asked, and while a refusal is held back.
func (r *router) next(key string, w *way) *peer {
	if w.refuser != nil && w.mayStillBeDone() {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if p := w.refuser; p != nil {
		w.refuser = nil
		if slices.Contains(slices.Collect(maps.Values(r.peers)), p) {
			w.asked = append(w.asked, p)
			return p
		}
	}
	open := func(name string) bool { return !slices.Contains(w.asked, r.peers[name]) }
	heard := func(name string) bool { return open(name) && !r.peers[name].silent() }
	name, ok := r.homes.first(key, r.names, w.cutOff, heard)
	if !ok {
		name, ok = cluster.First(key, r.names, heard)
	}
	if !ok {
		name, ok = cluster.First(key, r.names, open)
	}
	if !ok {
		return nil
	}
	w.asked = append(w.asked, r.peers[name])
	return r.peers[name]
}

// settles reports whether what a worker said, who was asked until that time, is the answer.
// Of workers that cannot reach a shard, the first may be alone in that, so another one is
// asked; two are believed.
//
// A refusal is not, as long as a worker that was asked before may still do what it was
// asked for: it may have been paused with the call in its hands, and find units that were
// given back meanwhile. Then the question is put again when that cannot be any more. Nobody
// waits for the dead.
func (w *way) settles(r *router, until time.Time, err error) bool {
	r.metrics.attempted(err)
	open := until.Add(clockSkew)
	switch {
	case link.NeverSent(err):
		// Nobody has it.
	case holdfastv1.Reason(err) == "" && status.Code(err) == codes.Unavailable:
		w.lost = append(w.lost, lostCall{w.asked[len(w.asked)-1], open})
	case holdfastv1.Reason(err) == "" && !answered(err):
		w.mayBeDoneUntil(open)
	case !answered(err):
		// It says itself that it has not done it.
	case isRefusal(err):
		for _, call := range w.lost {
			if time.Now().Before(call.until) && !call.to.isDead() {
				w.mayBeDoneUntil(call.until)
			}
		}
		if w.lost = nil; !w.mayStillBeDone() {
			return true
		}
		w.refuser = w.asked[len(w.asked)-1]
	case holdfastv1.Reason(err) != holdfastv1.ReasonShardUnavailable:
		return true
	default:
		if w.alone++; w.alone >= 2 || r.workers() < 2 {
			return true
		}
		w.cutOff = r.regionOf(w.asked[len(w.asked)-1])
	}
	w.last = err
	return false
}

// isRefusal tells an answer which says that nothing was done, and which nothing keeps from
// being another one later.
func isRefusal(err error) bool { return status.Code(err) == codes.FailedPrecondition }

func (r *router) workers() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.names)
}

// count tells how many workers are silent, or are not.
func (r *router) count(silent bool) (n int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, p := range r.peers {
		if p.silent() == silent {
			n++
		}
	}
	return n
}

// call has a worker answer for a key, on the way that it has come so far. It goes on to
// the next worker until the given time and while ctx lasts, as long as a worker gives no
// answer of its own. Each is asked until the time that do is given.
func (r *router) call(
	ctx context.Context, until time.Time, key string, w *way, do func(p *peer, until time.Time) error,
) error {
	for !over(ctx, until) {
		p := r.next(key, w)
		if p == nil {
			r.pause(ctx, until, w)
			continue
		}
		attempt := r.attemptUntil(until)
		if err := do(p, attempt); w.settles(r, attempt, err) {
			return err
		}
	}
	return gaveUp(ctx, w.last)
}

// over reports whether a caller has left, or is to have the last word now.
func over(ctx context.Context, until time.Time) bool {
	return ctx.Err() != nil || !time.Now().Before(until)
}

// attemptUntil is until when a worker is asked that is asked now.
func (r *router) attemptUntil(until time.Time) time.Time {
	if attempt := time.Now().Add(r.attemptTimeout); attempt.Before(until) {
		return attempt
	}
	return until
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
	case codes.InvalidArgument:
		// The coordinator has found the region: the worker has yet to hear of it.
		return holdfastv1.Reason(err) != holdfastv1.ReasonUnknownRegion
	case codes.Canceled, codes.DeadlineExceeded:
		return false
	}
	return true
}

// pause waits after a turn in which all workers were asked, longer each time, or
// until there are other workers, or the given time. Then the next turn begins.
func (r *router) pause(ctx context.Context, until time.Time, ways ...*way) {
	r.mu.RLock()
	changed := r.changed
	r.mu.RUnlock()
	timer := time.NewTimer(min(firstPause<<min(ways[0].turn, 10), maxPause, time.Until(until)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-timer.C:
	}
	for _, w := range ways {
		w.turn++
		w.asked = nil
	}
}

var errNoWorker = errors.New("no worker is known")

// gaveUp is the answer after the deadline, or after the caller has left. The last error
// is nil when nobody was asked.
func gaveUp(ctx context.Context, last error) error {
	code := codes.Unavailable
	if errors.Is(ctx.Err(), context.Canceled) {
		code = codes.Canceled
	}
	return holdfastv1.Error(code, holdfastv1.ReasonNoWorker,
		"no worker answered; repeat with the same request_id: "+status.Convert(cmp.Or(last, errNoWorker)).Message(), nil)
}
