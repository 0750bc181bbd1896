package worker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// collector tells what the lanes of the current term are like when somebody asks. It is
// registered once, and follows the terms: two of them are open at the same time for a moment,
// with the same shards.
type collector struct {
	queues, reachable *prometheus.Desc
	term              atomic.Pointer[term] // nil while there is none
}

func newCollector() *collector {
	return &collector{
		queues: prometheus.NewDesc("holdfast_queue_depth",
			"What waits to be sent to a shard, by the queue of its lane.", []string{"shard", "queue"}, nil),
		reachable: prometheus.NewDesc("holdfast_shard_reachable",
			"1 while a shard answers this worker, 0 while it does not, and purchases there are turned away.", []string{"shard"}, nil),
	}
}

// Describe is part of prometheus.Collector, as is the next one.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	to <- c.queues
	to <- c.reachable
}

// Collect reads the lanes.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	t := c.term.Load()
	if t == nil {
		return
	}
	for _, l := range t.lanes.order {
		reachable := 0.0
		if l.contact.isHad() {
			reachable = 1
		}
		to <- prometheus.MustNewConstMetric(c.reachable, prometheus.GaugeValue, reachable, l.shard.Name())
		for queue, depth := range l.depths() {
			to <- prometheus.MustNewConstMetric(c.queues, prometheus.GaugeValue, float64(depth), l.shard.Name(), queue)
		}
	}
}

// depths is what waits in the lane's queues, by their names.
func (l *lane) depths() map[string]int {
	return map[string]int{
		"commits": l.commits.depth(), "specials": l.specials.depth(), "changes": l.changes.depth(),
		"checks": l.checks.depth(), "fences": l.fences.depth(), "puts": l.puts.depth(), "products": l.products.depth(),
	}
}

// pools tells what the current term's connections are like. What it tells is the business of
// others, and is not described beforehand.
type pools struct{ *collector }

// Describe is part of prometheus.Collector, as is the next one.
func (pools) Describe(chan<- *prometheus.Desc) {}

// Collect reads the pools.
func (p pools) Collect(to chan<- prometheus.Metric) {
	t := p.term.Load()
	if t == nil {
		return
	}
	for _, s := range t.shards {
		for _, c := range s.Collectors() {
			c.Collect(to)
		}
	}
}

const (
	// holdsInterval is between two counts of what is held in a shard.
	holdsInterval = 15 * time.Second
	holdsTimeout  = 5 * time.Second
)

// countHolds shows how long what is held in a shard has been, until ctx ends: then somebody
// else does. What was counted last says nothing while the shard does not answer.
func (w *Worker) countHolds(ctx context.Context, s *ledger.Shard) {
	forget := func() { w.metrics.holds.DeletePartialMatch(prometheus.Labels{"shard": s.Name()}) }
	defer forget()
	for ; ctx.Err() == nil; pause(ctx, holdsInterval) {
		limited, cancel := context.WithTimeout(ctx, holdsTimeout)
		ages, err := s.HeldFor(limited)
		cancel()
		if err != nil {
			forget()
			if ctx.Err() == nil {
				w.log.Warn("holds not counted", "shard", s.Name(), "error", err)
			}
			continue
		}
		for _, age := range ages {
			w.metrics.holds.WithLabelValues(s.Name(), age.Name).Set(float64(age.Holds))
		}
	}
}
