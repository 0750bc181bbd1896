package link

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

// Most purchases are not sampled, and none is where nobody collects traces.
func TestWhatIsNotTracedCostsNoMemory(t *testing.T) {
	unsampled := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1},
	}))
	for name, ctx := range map[string]context.Context{"none": t.Context(), "unsampled": unsampled} {
		allocated := testing.AllocsPerRun(100, func() {
			if o := originIn(ctx); o != nil || o.span().IsValid() || originOf(nil, 0) != nil {
				t.Errorf("%s: it has an origin", name)
			}
		})
		if allocated > 0 {
			t.Errorf("%s: %v allocations", name, allocated)
		}
	}
}

func TestOriginNamesTheSpan(t *testing.T) {
	from := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 15: 2}, SpanID: trace.SpanID{3, 7: 4}, TraceFlags: trace.FlagsSampled, Remote: true,
	})
	if got := originIn(trace.ContextWithSpanContext(t.Context(), from)).span(); !got.Equal(from) {
		t.Errorf("got %v, want %v", got, from)
	}
}
