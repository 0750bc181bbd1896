package worker

import (
	"context"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/holdfast-io/holdfast/api/cluster"
)

const (
	// leastDemand is how many purchases, of those that are not forgotten yet, tell where a
	// product is asked for.
	leastDemand = 20

	// mostDemand is the share of them that must be another region's, in thirds. What is
	// between it and one third is mixed, and moves nothing either way.
	mostDemand = 2

	// agings is how often within FollowAfter the past is made to weigh less.
	agings = 16

	// movesQueued bounds the products that wait to be moved. One that finds no room is found
	// to be asked for elsewhere again.
	movesQueued = 1024
)

// demand is where the purchases of a tenure come from. The past weighs half of the present
// after FollowAfter. Times are since the tenure began.
type demand struct {
	weights []weight
	since   time.Duration // counts since: 0, or the last move
	aged    time.Duration // when the weights were aged last
	leader  string        // what leader said then
	leads   time.Duration // since when it has said so
}

// weight is how much a product is asked for in a region. The empty region is that of
// coordinators without one.
type weight struct {
	region    string
	purchases float64
}

// leader returns the region where a product should be sold, by what it is asked for in each
// region: another one than its own that has most of the demand, and somebody who sells.
// It returns "" when the product is to stay.
func leader(weights []weight, own string, sells func(region string) bool) string {
	total := 0.0
	for _, w := range weights {
		total += w.purchases
	}
	if total < leastDemand {
		return ""
	}
	for _, w := range weights {
		if 3*w.purchases >= mostDemand*total && w.region != own && sells(w.region) {
			return w.region
		}
	}
	return ""
}

// count takes in a purchase. It returns the region that the product is to move to: one that
// has led for half of FollowAfter, in a tenure that is that old. Else, and when it is to
// stay, it returns "". After a move it begins anew, so that the next one takes as long.
func (d *demand) count(from string, now time.Duration, f *follower) (region string) {
	i := slices.IndexFunc(d.weights, func(w weight) bool { return w.region == from })
	if i < 0 {
		i, d.weights = len(d.weights), append(d.weights, weight{region: from})
	}
	d.weights[i].purchases++
	if now-d.aged < f.after/agings {
		return ""
	}
	d.age(now, f.after)
	if leads := leader(d.weights, f.own, f.sells); leads != d.leader {
		d.leader, d.leads = leads, now
	}
	if d.leader == "" || now-d.leads < f.after/2 || now-d.since < f.after {
		return ""
	}
	region = d.leader
	*d = demand{since: now, aged: now}
	return region
}

// age makes what was counted weigh less, and forgets a region that has had nothing for long.
func (d *demand) age(now, half time.Duration) {
	left := math.Exp2(-float64(now-d.aged) / float64(half))
	d.aged = now
	for i := range d.weights {
		d.weights[i].purchases *= left
	}
	d.weights = slices.DeleteFunc(d.weights, func(w weight) bool { return w.purchases < 0.05 })
}

// follower has the products of a worker sold where they are asked for. It says so to the
// coordinators, in etcd; whoever they ask then waits for the product's lock, and the tenure
// hands it over as to anybody.
type follower struct {
	own     string        // the worker's region
	after   time.Duration // a product is followed that is asked for elsewhere
	setHome func(ctx context.Context, productID, region string) error
	log     hclog.Logger
	metrics *metrics
	moves   chan move

	regions atomic.Pointer[[]string] // where there are workers
}

// move is a product that should be sold in another region.
type move struct {
	tenure *tenure
	region string
}

func newFollower(cfg *Config, log hclog.Logger, m *metrics) *follower {
	f := &follower{
		own: cfg.Region, after: cfg.FollowAfter, setHome: cfg.Directory.SetHome, log: log, metrics: m,
		moves: make(chan move, movesQueued),
	}
	f.learn(nil)
	return f
}

// learn takes over the list of workers.
func (f *follower) learn(workers []cluster.Worker) {
	var regions []string
	for _, w := range workers {
		if w.Region != "" && !slices.Contains(regions, w.Region) {
			regions = append(regions, w.Region)
			f.metrics.tenuresMoved.WithLabelValues(w.Region) // there from the start, for rates
		}
	}
	f.regions.Store(&regions)
}

// sells reports whether there is a worker in a region.
func (f *follower) sells(region string) bool { return slices.Contains(*f.regions.Load(), region) }

// run moves products until ctx ends.
func (f *follower) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-f.moves:
			f.move(ctx, m)
		}
	}
}

// move does nothing for a tenure that is over: whoever has the product now knows better.
func (f *follower) move(ctx context.Context, m move) {
	select {
	case <-m.tenure.over:
		return
	default:
	}
	product := m.tenure.product.ProductID
	if err := f.setHome(ctx, product, m.region); err != nil {
		f.log.Warn("product not moved to its demand", "product", product, "region", m.region, "error", err)
		return
	}
	f.metrics.tenuresMoved.WithLabelValues(m.region).Inc()
	f.log.Info("product moves to its demand", "product", product, "from", f.own, "region", m.region)
}

// follow counts a purchase that comes now for the region that it came through, and has the
// product moved if need be. Caller holds mu.
func (t *tenure) follow(region string) {
	if t.demand == nil {
		t.demand = &demand{}
	}
	if to := t.demand.count(region, t.lastUsed.Sub(t.began), t.follower); to != "" {
		select {
		case t.follower.moves <- move{t, to}:
		default:
		}
	}
}
