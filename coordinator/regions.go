package coordinator

import (
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

const (
	// topologyTimeout is until an etcd that does not answer has not answered.
	topologyTimeout = time.Second

	// topologyPause is between two readings: callers who insist on a region that
	// is not there cost etcd no more than that.
	topologyPause = 100 * time.Millisecond
)

// withRegion returns a topology that has the region. What the coordinator knows
// may be old: etcd is asked before a region is said not to be there, since that
// is an answer that no caller repeats. The path says where in a larger request
// the region stands.
func (r *router) withRegion(ctx context.Context, region, path string) (cluster.Topology, error) {
	topology, err := r.look(ctx, region, path+"region")
	if err == nil && !topology.Has(region) {
		err = holdfastv1.FieldError(holdfastv1.ReasonUnknownRegion, path+"region",
			fmt.Sprintf("there is no region %q; known are %s", region, strings.Join(topology.Shards, ", ")))
	}
	return topology, err
}

// findID reports why the purchase or the order that a request names is nowhere. From then
// on a worker that does not know its region has yet to hear of it.
func (r *router) findID(ctx context.Context, until time.Time, req any) error {
	var id, field string
	var notFound func(string) error
	switch req := req.(type) {
	case interface{ GetPurchaseId() string }:
		id, field, notFound = req.GetPurchaseId(), "purchase_id", holdfastv1.PurchaseNotFound
	case interface{ GetOrderId() string }:
		id, field, notFound = req.GetOrderId(), "order_id", holdfastv1.OrderNotFound
	}
	region, _, ok := holdfastv1.ParseID(id)
	if !ok || r.known().Has(region) {
		return nil // what is no id at all, any worker says
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	topology, err := r.look(ctx, region, field)
	if err == nil && !topology.Has(region) {
		err = notFound(id)
	}
	return err
}

// look returns a topology that has the region, if there is one. The field names it to the
// caller when nobody can tell.
func (r *router) look(ctx context.Context, region, field string) (cluster.Topology, error) {
	topology, err := r.awaitTopology(ctx)
	if err != nil || topology.Has(region) {
		return topology, err
	}
	if err := r.reread(ctx); err != nil {
		return topology, holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonTopologyUnavailable,
			fmt.Sprintf("%s: region %q is not known here, and etcd did not say whether it is new; repeat with the same request_id", field, region), nil)
	}
	return r.awaitTopology(ctx)
}

// reading is the last time that the topology was read for a caller.
type reading struct {
	begun time.Time
	err   error
}

// reread returns once the topology has been read from etcd after the call. Callers
// who wait share one reading.
func (r *router) reread(ctx context.Context) error {
	called := time.Now()
	for {
		select {
		case last := <-r.lastReading:
			if last.begun.After(called) {
				r.lastReading <- last
				return last.err
			}
			go r.read(context.WithoutCancel(ctx), last) // others wait for it too
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// read makes the next reading, a while after the last one.
func (r *router) read(ctx context.Context, last reading) {
	time.Sleep(time.Until(last.begun.Add(topologyPause)))
	ctx, cancel := context.WithTimeout(ctx, topologyTimeout)
	defer cancel()
	next := reading{begun: time.Now()}
	view, err := r.view(ctx)
	if next.err = err; err == nil {
		r.learn(view.Topology)
	}
	r.lastReading <- next
}

// learn takes over a topology unless it is older than the known one: etcd that
// lost its data does not take a shard away.
func (r *router) learn(t cluster.Topology) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.Number >= r.topology.Number {
		r.topology = t
	}
}
