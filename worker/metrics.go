package worker

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics is what a worker counts.
type metrics struct {
	takeovers     *prometheus.CounterVec // by reason
	tenuresBegun  prometheus.Counter
	tenuresFailed prometheus.Counter
	tenures       prometheus.Gauge
	holdsExpired  prometheus.Counter
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
		tenures: f.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_tenures", Help: "Products that this worker sells now.",
		}),
		holdsExpired: f.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_holds_expired_total", Help: "Holds that this worker expired though nobody else wanted the units.",
		}),
	}
	for _, reason := range []signOfLife{refused, replaced, silent} {
		m.takeovers.WithLabelValues(reason.label()) // there from the start, for rates
	}
	return m
}
