package coordinator

import (
	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// metrics is what a coordinator counts. What is counted for every purchase is looked up once,
// so that it costs the purchase no memory.
type metrics struct {
	admitted, refused, failed        prometheus.Counter     // purchases
	answered, unanswered, turnedAway prometheus.Counter     // calls to workers
	authRefused                      *prometheus.CounterVec // by reason
	unary                            grpc.UnaryServerInterceptor
	stream                           grpc.StreamServerInterceptor
	rpc                              *grpcprom.ServerMetrics
	factory                          promauto.Factory
}

// seconds are the limits of what calls are counted by: one that a worker answers takes
// milliseconds, and none more than its deadline.
var seconds = []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 20}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	counters := func(name, help, label string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_" + name, Help: help}, []string{label})
	}
	purchases := counters("coordinator_purchases_total",
		"Valid purchases, also those of batches, streams and orders: admitted, refused (no stock, a limit, not to be sold as asked for), or failed.",
		"result")
	attempts := counters("coordinator_attempts_total",
		"Calls to workers, each purchase counted as one: answered, unanswered (silent, too late, connection broken), or turned_away (the worker drains, or does not reach a shard).",
		"outcome")
	m := &metrics{
		admitted: purchases.WithLabelValues("admitted"), refused: purchases.WithLabelValues("refused"),
		failed:   purchases.WithLabelValues("failed"),
		answered: attempts.WithLabelValues("answered"), unanswered: attempts.WithLabelValues("unanswered"),
		turnedAway:  attempts.WithLabelValues("turned_away"),
		authRefused: counters("auth_refused_total", "Calls that were refused for who made them, by what was wrong.", "reason"),
		factory:     f,
	}
	rpc := grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram(grpcprom.WithHistogramBuckets(seconds)))
	m.unary, m.stream, m.rpc = rpc.UnaryServerInterceptor(), rpc.StreamServerInterceptor(), rpc
	for _, reason := range []string{"no_token", "expired", "foreign", "role", "customer", "rate"} {
		m.authRefused.WithLabelValues(reason) // there from the start, for rates
	}
	r.MustRegister(rpc)
	return m
}

func (m *metrics) refuse(reason string) { m.authRefused.WithLabelValues(reason).Inc() }

// watch has read what is told as it is at the moment.
func (m *metrics) watch(s *service) {
	for _, state := range []struct {
		name   string
		silent bool
	}{{"heard", false}, {"silent", true}} {
		m.factory.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "holdfast_coordinator_workers", Help: "Workers that are known: heard, or silent and passed over.",
			ConstLabels: prometheus.Labels{"state": state.name},
		}, func() float64 { return float64(s.router.count(state.silent)) })
	}
	m.factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "holdfast_coordinator_watches", Help: "Watches of events and of products that are open.",
	}, func() float64 { return float64(s.watching.Load()) })
}

// decided counts a purchase by what its buyer is told.
func (m *metrics) decided(err error) {
	switch {
	case err == nil:
		m.admitted.Inc()
	case holdfastv1.IsTransient(err):
		m.failed.Inc()
	default:
		m.refused.Inc()
	}
}

// attempted counts a call to a worker by what it came to.
func (m *metrics) attempted(err error) {
	if err == nil {
		m.answered.Inc()
		return
	}
	switch reason := holdfastv1.Reason(err); {
	case !answered(err) && (reason == "" || status.Code(err) == codes.DeadlineExceeded):
		m.unanswered.Inc()
	case !answered(err), reason == holdfastv1.ReasonShardUnavailable:
		m.turnedAway.Inc()
	default:
		m.answered.Inc()
	}
}
