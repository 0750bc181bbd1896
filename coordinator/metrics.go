package coordinator

import (
	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc"
)

// metrics is what a coordinator counts.
type metrics struct {
	unary       grpc.UnaryServerInterceptor
	stream      grpc.StreamServerInterceptor
	authRefused *prometheus.CounterVec // by reason
}

// rpcBuckets are seconds: a sale takes a few milliseconds, a failover some hundred.
var rpcBuckets = []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 15}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	rpc := grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram(grpcprom.WithHistogramBuckets(rpcBuckets)))
	r.MustRegister(rpc)
	m := &metrics{
		unary: rpc.UnaryServerInterceptor(), stream: rpc.StreamServerInterceptor(),
		authRefused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_auth_refused_total", Help: "Calls that were refused for whose they were, by reason.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{"no_token", "expired", "foreign", "role", "customer", "rate"} {
		m.authRefused.WithLabelValues(reason) // there from the start, for rates
	}
	return m
}

func (m *metrics) refused(reason string) { m.authRefused.WithLabelValues(reason).Inc() }
