package worker

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/api/traces"
)

// Ten thousand purchases a second are counted, and hardly any is sampled.
func TestCountingAPurchaseCostsNoMemory(t *testing.T) {
	m, s := newMetrics(prometheus.NewRegistry()), &service{tracer: traces.Tracer(nil)}
	lane := m.ofShard("eu")
	sale, batch := &link.Sale{Came: time.Now()}, []*sale{{}, {}}
	for name, do := range map[string]func(){
		"count":       func() { m.answered(sale, nil) },
		"count batch": func() { lane.committed(len(batch), sale.Came, nil) },
		"trace":       func() { s.trace(sale) },
		"trace batch": func() {
			ctx, span := traces.Together(context.Background(), "commit batch", spansOf(batch))
			if traces.End(span, nil); ctx != context.Background() || span.IsRecording() {
				t.Error("it has a span")
			}
		},
	} {
		if allocated := testing.AllocsPerRun(100, do); allocated > 0 {
			t.Errorf("%s: %v allocations", name, allocated)
		}
	}
}

func BenchmarkCountPurchase(b *testing.B) {
	m, sale := newMetrics(prometheus.NewRegistry()), &link.Sale{Came: time.Now()}
	b.ReportAllocs()
	for b.Loop() {
		m.answered(sale, nil)
	}
}

// A scrape may come at any time: between two terms, and when the next one has the same shards.
func TestCollectorFollowsTheTerms(t *testing.T) {
	c := newCluster(t)
	registry := prometheus.NewRegistry()
	n := c.start(t, "a", func(cfg *Config) { cfg.Metrics = registry })
	scraped := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		defer close(scraped)
		for ctx.Err() == nil {
			if _, err := registry.Gather(); err != nil {
				t.Error(err)
			}
		}
	}()
	for range 3 {
		var number int64
		c.change(t, func(before cluster.Topology) (cluster.Topology, error) {
			after := before.Renumbered()
			number = after.Number
			return after, nil
		})
		for begun := time.Now(); ; time.Sleep(time.Millisecond) {
			if now := n.metrics.now.term.Load(); now != nil && now.topology.Number == number {
				break
			}
			if time.Since(begun) > 30*time.Second {
				t.Fatalf("the worker does not sell under topology %d", number)
			}
		}
	}
	stop()
	<-scraped
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]int{}
	for _, f := range families {
		values[f.GetName()] = len(f.GetMetric())
	}
	for name, want := range map[string]int{
		"holdfast_shard_reachable": len(regions), "holdfast_queue_depth": 7 * len(regions), "pgxpool_max_conns": 2 * len(regions),
	} {
		if values[name] != want {
			t.Errorf("%d values of %s, want %d", values[name], name, want)
		}
	}
}
