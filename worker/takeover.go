package worker

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/lockmgr"
)

const (
	probeTimeout  = 500 * time.Millisecond
	probeInterval = 100 * time.Millisecond

	// Two workers that cannot see each other would take each other's locks
	// for ever. Each takes a product from the other at once the first time, and
	// then only after a pause that doubles up to the maximum.
	takeoverPause    = time.Second
	maxTakeoverPause = time.Minute
)

// takeover looks after the holders that this worker waits for, and evicts
// those that are dead. A holder that is alive after all loses time,
// never units: the next tenure fences it.
type takeover struct {
	locks locks
	dial  []grpc.DialOption
	log   hclog.Logger

	metrics *metrics

	base       context.Context // ends when nothing is to be evicted any more
	background sync.WaitGroup

	mu     sync.Mutex
	past   map[eviction]pastTakeovers
	pruned time.Time
}

// eviction is who lost which product, "" for all of them. A holder that was started again is another
// owner: it is not the same fight.
type eviction struct{ productID, owner string }

type pastTakeovers struct {
	last  time.Time
	pause time.Duration // until the next one may follow
}

// watch probes the holder of a product's lock until stop is called, which waits
// for the last probe to end.
func (o *takeover) watch(ctx context.Context, productID string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.look(ctx, productID)
	}()
	return func() { cancel(); <-done }
}

func (o *takeover) look(ctx context.Context, productID string) {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	suspect := ""   // the key of its acquisition
	unanswered := 0 // probes in a row
	for {
		holder, err := o.locks.Holder(ctx, productID)
		if err == nil {
			if holder.Key != suspect {
				suspect, unanswered = holder.Key, 0
			}
			found := o.probe(ctx, holder)
			if found == silent {
				unanswered++
			} else {
				unanswered = 0
			}
			if isDead(found, unanswered) {
				_ = o.evict(ctx, holder, found) // the next look tells
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// evictIfGone evicts a holder at whose address nobody listens, and reports whether it
// did. It spares those who come after a killed worker the queue: there are as
// many of them as it had products.
func (o *takeover) evictIfGone(ctx context.Context, holder lockmgr.Holder) bool {
	w, ok := addressOf(holder)
	if !ok || o.connect(ctx, w) != refused {
		return false
	}
	return o.evict(ctx, holder, refused)
}

// signOfLife is what a probe of a holder found.
type signOfLife string

const (
	alive    signOfLife = "alive"
	refused  signOfLife = "connection refused" // nobody listens at its address
	replaced signOfLife = "another process"    // somebody else listens there
	silent   signOfLife = "two probes unanswered"
)

// label is the reason in metrics.
func (s signOfLife) label() string { return strings.ReplaceAll(string(s), " ", "_") }

// isDead decides when a holder may be evicted.
func isDead(found signOfLife, unanswered int) bool {
	return found == refused || found == replaced || unanswered >= 2
}

// probe asks the holder's address whether the holder is the process there. A
// holder whose owner says no address counts as alive: its lease decides.
func (o *takeover) probe(ctx context.Context, holder lockmgr.Holder) signOfLife {
	w, ok := addressOf(holder)
	if !ok {
		return alive
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if found := o.connect(ctx, w); found != alive {
		return found
	}
	return o.askInstance(ctx, w)
}

func addressOf(holder lockmgr.Holder) (w cluster.Worker, ok bool) {
	err := json.Unmarshal([]byte(holder.Owner), &w)
	return w, err == nil && w.Address != ""
}

// connect finds out whether anybody listens at the holder's address.
func (o *takeover) connect(ctx context.Context, w cluster.Worker) signOfLife {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", w.Address)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return refused
	case err != nil:
		return silent
	}
	_ = conn.Close()
	return alive
}

// askInstance uses the standard health service, in which a worker has an entry
// under the id of its instance.
func (o *takeover) askInstance(ctx context.Context, w cluster.Worker) signOfLife {
	// The name is looked up while connecting, within the probe's time. gRPC's own resolver
	// would keep Close, and with it whoever has the lock by now, waiting for a name server.
	conn, err := grpc.NewClient("passthrough:///"+w.Address, o.dial...)
	if err != nil {
		return alive // an address that cannot be called says nothing of the holder
	}
	defer func() { _ = conn.Close() }()
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: w.Instance})
	switch status.Code(err) {
	case codes.OK:
		return alive
	case codes.NotFound, codes.Unimplemented:
		return replaced
	default:
		return silent
	}
}

// evict reports whether it was this holder that it evicted.
func (o *takeover) evict(ctx context.Context, holder lockmgr.Holder, why signOfLife) bool {
	if ctx.Err() != nil || !o.mayEvict(eviction{holder.Name, holder.Owner}) {
		return false
	}
	evicted, err := o.locks.Evict(ctx, holder)
	switch {
	case err != nil && ctx.Err() != nil: // the lock was had meanwhile
		return false
	case err != nil:
		o.log.Warn("dead holder not evicted", "product", holder.Name, "holder", holder.Owner, "error", err)
		return false
	case !evicted: // it is not what it was when it was looked at
		return false
	}
	o.metrics.takeovers.WithLabelValues(why.label()).Inc()
	o.log.Info("dead holder evicted", "product", holder.Name, "holder", holder.Owner,
		"token", holder.Token, "reason", string(why))
	if why != silent {
		o.evictAll(holder.Owner, why)
	}
	return true
}

// evictAll evicts a process that is certainly gone from all that it held, so that those
// who want its other products find them free.
func (o *takeover) evictAll(owner string, why signOfLife) {
	if !o.mayEvict(eviction{owner: owner}) {
		return
	}
	o.background.Go(func() {
		n, err := o.locks.EvictOwner(o.base, owner)
		o.metrics.takeovers.WithLabelValues(why.label()).Add(float64(n))
		if err != nil {
			o.log.Warn("dead worker not evicted", "worker", owner, "products", n, "error", err)
			return
		}
		o.log.Info("dead worker evicted", "worker", owner, "products", n, "reason", string(why))
	})
}

// mayEvict keeps the pause between two takeovers of one product from one owner.
func (o *takeover) mayEvict(e eviction) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if now.Sub(o.pruned) > maxTakeoverPause {
		o.pruned = now
		// Long quiet: the next takeover is the first again.
		maps.DeleteFunc(o.past, func(_ eviction, p pastTakeovers) bool { return now.Sub(p.last) > 2*maxTakeoverPause })
	}
	p, again := o.past[e]
	if again && now.Sub(p.last) < p.pause {
		return false
	}
	next := takeoverPause
	if again {
		next = min(2*p.pause, maxTakeoverPause)
	}
	o.past[e] = pastTakeovers{last: now, pause: next}
	return true
}
