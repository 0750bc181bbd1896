package worker

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Whoever runs holdfast is to learn by himself that something does not add up, and not only
// when he asks.
func TestAuditRunsByItself(t *testing.T) {
	c := newCluster(t)
	registry := prometheus.NewRegistry()
	a := c.start(t, "a", func(cfg *Config) { cfg.AuditInterval, cfg.Metrics = 20*time.Millisecond, registry })
	p := a.create(t, 10)
	a.mustBuy(t, p, "eu", "r", 1)
	awaitMetric(t, registry, "holdfast_audit_end_timestamp_seconds", func(v float64) bool { return v > 0 })
	awaitMetric(t, registry, "holdfast_audit_oversold_units", func(v float64) bool { return v == 0 })
	c.exec(t, "eu", "UPDATE fences SET purchased = 3 WHERE product_id = $1", p)
	awaitMetric(t, registry, "holdfast_audit_findings", func(v float64) bool { return v == 1 })
	c.exec(t, "eu", "UPDATE fences SET purchased = 1 WHERE product_id = $1", p)
	c.exec(t, "eu", "INSERT INTO payment_tasks (order_id, action, key, minor_units, state) VALUES (gen_random_uuid(), 'void', 'void', 0, 'dead')")
	awaitMetric(t, registry, "holdfast_audit_orphaned_payments", func(v float64) bool { return v == 1 })
}

// awaitMetric waits until the sum of a gauge is so.
func awaitMetric(t *testing.T, registry *prometheus.Registry, name string, so func(float64) bool) {
	t.Helper()
	for ctx := patient(t); ctx.Err() == nil; pause(ctx, time.Millisecond) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			sum := 0.0
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue()
			}
			if f.GetName() == name && so(sum) {
				return
			}
		}
	}
	t.Fatalf("%s is not so", name)
}
