package worker

import (
	"errors"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// metrics is what a worker counts. What is counted for every purchase is looked up once, so
// that it costs the purchase no memory.
type metrics struct {
	admitted, refused, failed prometheus.Counter   // purchases of links
	purchaseSeconds           prometheus.Histogram // of a purchase of a link

	takeovers     *prometheus.CounterVec // by reason
	tenuresBegun  prometheus.Counter
	tenuresFailed prometheus.Counter
	tenuresMoved  *prometheus.CounterVec // by region
	tenures       prometheus.Gauge
	lockWait      prometheus.Histogram
	tenureBegin   prometheus.Histogram

	fenceRefusals *prometheus.CounterVec   // by shard, as are the next three
	batches       *prometheus.HistogramVec // their sizes
	commits       *prometheus.HistogramVec // their times
	ambiguous     *prometheus.CounterVec

	holds        *prometheus.GaugeVec // by shard and age
	holdsExpired prometheus.Counter
	peerRefused  *prometheus.CounterVec // by reason
	audit        auditMetrics
	rpc          *grpcprom.ServerMetrics
	now          *collector // what is read when it is asked for
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
	for _, kind := range ledger.Kinds() {
		m.findings.WithLabelValues(string(kind)).Set(float64(r.Found[kind]))
	}
	m.oversold.Set(float64(r.Oversold))
	m.overdueHolds.Set(float64(r.OverdueHolds))
	m.orphanedPayments.Set(float64(r.OrphanedPayments))
	m.overduePayments.Set(float64(r.OverduePayments))
	m.undeliveredEvents.Set(float64(r.UndeliveredEvents))
	m.ended.Set(float64(ended.Unix()))
}

// seconds are the limits of what is counted by time: a purchase takes milliseconds, one that
// waits for a takeover some tenths of a second, and nothing more than its deadline.
var seconds = []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 20}

// sizes are the limits of what is counted by the size of a batch.
var sizes = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, ledger.MaxBatch}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "holdfast_" + name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_" + name, Help: help}, labels)
	}
	histogram := func(name, help string) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{Name: "holdfast_" + name, Help: help, Buckets: seconds})
	}
	purchases := counters("purchases_total",
		"Purchases that links brought: admitted, refused (no stock, a limit, not to be sold as asked for), or failed.", "result")
	m := &metrics{
		admitted: purchases.WithLabelValues("admitted"), refused: purchases.WithLabelValues("refused"),
		failed:          purchases.WithLabelValues("failed"),
		purchaseSeconds: histogram("purchase_seconds", "From when a purchase came on a link until it was answered."),
		takeovers:       counters("takeovers_total", "Locks taken from holders that were found dead, by what was found.", "reason"),
		tenuresBegun:    counter("tenures_begun_total", "Tenures that began to sell."),
		tenuresFailed:   counter("tenures_failed_total", "Attempts to begin a tenure that failed after its lock was acquired."),
		tenures: f.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_tenures", Help: "Products that this worker sells now.",
		}),
		tenuresMoved:  counters("tenures_moved_total", "Products that this worker sold and that were asked for elsewhere, by the region to which their demand moved them.", "region"),
		lockWait:      histogram("lock_wait_seconds", "Until the lock of a product was had, of those that were."),
		tenureBegin:   histogram("tenure_begin_seconds", "Until a tenure sold, of those that did: its lock, and its fences on all shards."),
		fenceRefusals: counters("fence_refusals_total", "Purchases and beginnings of tenures that a shard turned away, since it knew a newer tenure of the product.", "shard"),
		batches: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "holdfast_batch_purchases", Help: "Purchases of a batch that was sent to a shard.", Buckets: sizes,
		}, []string{"shard"}),
		commits: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "holdfast_commit_seconds", Help: "Until a shard answered a batch, or nobody waited for that any more.", Buckets: seconds,
		}, []string{"shard"}),
		ambiguous: counters("ambiguous_commits_total", "Batches of which nobody knew whether they were stored, since the answer was missing.", "shard"),
		holds: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "holdfast_holds",
			Help: "Purchases that are held, by how long they have been at most, and longer than the age before; of a shard those that end first, up to 100,000. Only the worker on duty for the shard tells.",
		}, []string{"shard", "age"}),
		holdsExpired: counter("holds_expired_total", "Holds that this worker expired though nobody else wanted the units."),
		peerRefused:  counters("peer_refused_total", "Connections turned away because of what the other side's certificate is.", "reason"),
		audit:        newAuditMetrics(f),
		rpc:          grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram(grpcprom.WithHistogramBuckets(seconds))),
		now:          newCollector(),
	}
	for _, reason := range []signOfLife{refused, replaced, silent} {
		m.takeovers.WithLabelValues(reason.label()) // there from the start, for rates
	}
	for _, kind := range ledger.Kinds() {
		m.audit.findings.WithLabelValues(string(kind))
	}
	for _, reason := range []string{"no_certificate", "foreign_certificate", "name"} {
		m.peerRefused.WithLabelValues(reason)
	}
	r.MustRegister(m.rpc, m.now, pools{m.now})
	return m
}

// answered counts a purchase that a link has brought, and is answered now.
func (m *metrics) answered(s *link.Sale, err error) {
	m.purchaseSeconds.Observe(time.Since(s.Came).Seconds())
	switch {
	case err == nil:
		m.admitted.Inc()
	case holdfastv1.IsTransient(err):
		m.failed.Inc()
	default:
		m.refused.Inc()
	}
}

// laneMetrics is what the lane of one shard counts.
type laneMetrics struct {
	batches, commits         prometheus.Observer
	fenceRefusals, ambiguous prometheus.Counter
}

func (m *metrics) ofShard(name string) laneMetrics {
	return laneMetrics{
		batches: m.batches.WithLabelValues(name), commits: m.commits.WithLabelValues(name),
		fenceRefusals: m.fenceRefusals.WithLabelValues(name), ambiguous: m.ambiguous.WithLabelValues(name),
	}
}

// committed counts a batch that was sent, or was to be sent.
func (m *laneMetrics) committed(purchases int, began time.Time, err error) {
	if isContactLost(err) {
		return
	}
	m.batches.Observe(float64(purchases))
	m.commits.Observe(time.Since(began).Seconds())
	if errors.Is(err, ledger.ErrAmbiguous) {
		m.ambiguous.Inc()
	}
}
