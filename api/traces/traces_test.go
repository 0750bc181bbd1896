package traces_test

import (
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel/trace"

	"github.com/holdfast-io/holdfast/api/traces"
)

// Whoever sees a line in the log finds what else was done for the same call.
func TestLogNamesTheTrace(t *testing.T) {
	var lines strings.Builder
	log := hclog.New(&hclog.LoggerOptions{Output: &lines})
	at := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{10, 15: 1}, SpanID: trace.SpanID{1}})
	traces.Log(trace.ContextWithSpanContext(t.Context(), at), log).Info("traced")
	traces.Log(t.Context(), log).Info("not traced")
	const want = "traced: trace_id=0a000000000000000000000000000001"
	if got := lines.String(); !strings.Contains(got, want) || strings.Count(got, "trace_id") != 1 {
		t.Errorf("logged %s", got)
	}
}
