package coordinator

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/traces"
)

// Operators tell by these whether workers are gone, or only busy with each other.
func TestAttemptsAreCountedByWhatTheyCameTo(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want func(*metrics) prometheus.Counter
	}{
		"sold":          {nil, func(m *metrics) prometheus.Counter { return m.answered }},
		"refused":       {holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonInsufficientStock, "", nil), func(m *metrics) prometheus.Counter { return m.answered }},
		"broken":        {status.Error(codes.Unavailable, ""), func(m *metrics) prometheus.Counter { return m.unanswered }},
		"too late":      {status.Error(codes.DeadlineExceeded, ""), func(m *metrics) prometheus.Counter { return m.unanswered }},
		"silent":        {status.Error(codes.Canceled, ""), func(m *metrics) prometheus.Counter { return m.unanswered }},
		"draining":      {holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonWorkerDraining, "", nil), func(m *metrics) prometheus.Counter { return m.turnedAway }},
		"cut off":       {holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonShardUnavailable, "", nil), func(m *metrics) prometheus.Counter { return m.turnedAway }},
		"without etcd":  {holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonLockUnavailable, "", nil), func(m *metrics) prometheus.Counter { return m.answered }},
		"has gone away": {holdfastv1.Error(codes.DeadlineExceeded, holdfastv1.ReasonLockUnavailable, "", nil), func(m *metrics) prometheus.Counter { return m.unanswered }},
	} {
		m := newMetrics(prometheus.NewRegistry())
		m.attempted(tt.err)
		sum := 0.0
		for _, c := range []prometheus.Counter{m.answered, m.unanswered, m.turnedAway} {
			sum += valueOf(t, c)
		}
		if valueOf(t, tt.want(m)) != 1 || sum != 1 {
			t.Errorf("%s: counted as something else", name)
		}
	}
}

func valueOf(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func TestCountingAPurchaseCostsNoMemory(t *testing.T) {
	m, p := newMetrics(prometheus.NewRegistry()), &peer{}
	o := &orders{service: &service{}, ctx: t.Context()}
	for name, do := range map[string]func(){
		"count":        func() { m.attempted(nil); m.decided(nil) },
		"trace stream": func() { o.trace(&order{}) },
		"trace": func() {
			ctx, span := p.ask(t.Context())
			if traces.End(span, nil); ctx != t.Context() {
				t.Error("it has a span")
			}
		},
	} {
		if allocated := testing.AllocsPerRun(100, do); allocated > 0 {
			t.Errorf("%s: %v allocations", name, allocated)
		}
	}
}
