package worker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// metrics is what a worker counts.
type metrics struct {
	takeovers     *prometheus.CounterVec // by reason
	tenuresBegun  prometheus.Counter
	tenuresFailed prometheus.Counter
	tenuresMoved  *prometheus.CounterVec // by region
	tenures       prometheus.Gauge
	holdsExpired  prometheus.Counter
	audit         auditMetrics
}

// auditMetrics are what the last audit of this worker has found.
type auditMetrics struct {
	findings *prometheus.GaugeVec // by kind
	oversold, overdueHolds, orphanedPayments,
	overduePayments, undeliveredEvents, ended prometheus.Gauge
}

func newAuditMetrics(f promauto.Factory) auditMetrics {
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: "holdfast_audit_" + name, Help: "At the last audit of this worker: " + help})
	}
	return auditMetrics{
		findings: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "holdfast_audit_findings", Help: "At the last audit of this worker: what does not add up, by kind.",
		}, []string{"kind"}),
		oversold:          gauge("oversold_units", "units sold beyond the storage."),
		overdueHolds:      gauge("overdue_holds", "holds that nobody has expired a minute after their time was up."),
		orphanedPayments:  gauge("orphaned_payments", "payments that nobody will capture or let go."),
		overduePayments:   gauge("overdue_payments", "payments that a provider was to be asked about a minute ago."),
		undeliveredEvents: gauge("undelivered_events", "events that webhooks have not taken."),
		ended:             gauge("end_timestamp_seconds", "when it ended; 0 when there was none."),
	}
}

func (m *auditMetrics) show(r *ledger.AuditReport, ended time.Time) {
	m.findings.Reset()
	for kind, n := range r.Found {
		m.findings.WithLabelValues(string(kind)).Set(float64(n))
	}
	m.oversold.Set(float64(r.Oversold))
	m.overdueHolds.Set(float64(r.OverdueHolds))
	m.orphanedPayments.Set(float64(r.OrphanedPayments))
	m.overduePayments.Set(float64(r.OverduePayments))
	m.undeliveredEvents.Set(float64(r.UndeliveredEvents))
	m.ended.Set(float64(ended.Unix()))
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	m := &metrics{
		takeovers: f.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_takeovers_total",
			Help: "Locks taken from holders that were found dead, by what was found.",
		}, []string{"reason"}),
		tenuresBegun: f.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_tenures_begun_total", Help: "Tenures that began to sell.",
		}),
		tenuresFailed: f.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_tenures_failed_total", Help: "Attempts to begin a tenure that failed after its lock was acquired.",
		}),
		tenuresMoved: f.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_tenures_moved_total",
			Help: "Products that this worker sold and that were asked for elsewhere, by the region to which their demand moved them.",
		}, []string{"region"}),
		tenures: f.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_tenures", Help: "Products that this worker sells now.",
		}),
		holdsExpired: f.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_holds_expired_total", Help: "Holds that this worker expired though nobody else wanted the units.",
		}),
	}
	m.audit = newAuditMetrics(f)
	for _, reason := range []signOfLife{refused, replaced, silent} {
		m.takeovers.WithLabelValues(reason.label()) // there from the start, for rates
	}
	return m
}
