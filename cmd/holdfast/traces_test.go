package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/holdfast-io/holdfast/api/traces"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

const (
	callersTrace = "0af7651916cd43dd8448eb211c80319c"
	callersSpan  = "b7ad6b7169203331"
)

// Somebody wants to know why his purchase took so long, and nobody else is to pay for that: of
// two purchases one is sampled, and all that was done for it is to be found.
func TestTraceOfAPurchase(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	sampler, err := samplerOf("parentbased_always_off", "")
	if err != nil {
		t.Fatal(err)
	}
	s := startServers(t, sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans), sdktrace.WithSampler(sampler)))
	sampled := []string{"traceparent", "00-" + callersTrace + "-" + callersSpan + "-01"}

	s.mustPost(t, "/v1/products", `{"product_id":"p","amount_in_storage":5}`, 200, sampled...)
	const call = "holdfast.v1.ProductService/CreateProduct" // as both sides see it
	tenure := awaitSpans(t, spans, "POST /v1/", call, call, "begin tenure", "raise fences", "lock")
	tenure.wantWithin(t, "lock", "begin tenure", call, "POST /v1/")
	tenure.wantWithin(t, "raise fences", "begin tenure")
	spans.Reset()

	const purchase = `{"product_id":"p","amount":2,"customer_id":"ann","region":"eu","request_id":"%"}`
	s.mustPost(t, "/v1/purchases", strings.Replace(purchase, "%", "unsampled", 1), 200)
	if got := spans.GetSpans(); len(got) > 0 {
		t.Fatalf("nobody asked for the spans of %s", got[0].Name)
	}
	s.mustPost(t, "/v1/purchases", strings.Replace(purchase, "%", "sampled", 1), 200, sampled...)
	got := awaitSpans(t, spans, "POST /v1/", "sell", "commit batch", "COPY")
	got.wantWithin(t, "sell", "ask worker", "POST /v1/")
	got.wantWithin(t, "COPY", "commit batch")
	http, sell, commit := got.named("POST /v1/"), got.named("sell"), got.named("commit batch")
	if http.Parent.SpanID().String() != callersSpan || sell.SpanContext.TraceID().String() != callersTrace {
		t.Errorf("the call is %v after %v, and sold in trace %v", http.SpanContext, http.Parent, sell.SpanContext.TraceID())
	}
	if commit.Parent.IsValid() || !links(commit, sell) || !links(sell, commit) {
		t.Errorf("the batch %v (%v) and the purchase (%v) do not name each other", commit.Parent, commit.Links, sell.Links)
	}
	for _, want := range []attribute.KeyValue{
		traces.Product.String("p"), traces.Shard.String("eu"), traces.Amount.Int64(2), traces.Outcome.String("admitted"),
	} {
		if !slices.Contains(sell.Attributes, want) {
			t.Errorf("the purchase says %v, want %v", sell.Attributes, want)
		}
	}
	spans.Reset()

	s.mustPost(t, "/v1/purchases", strings.Replace(purchase, "%", "too much", 1), 409, sampled...)
	got = awaitSpans(t, spans, "POST /v1/", "sell", "ask shard")
	if !slices.Contains(got.named("sell").Attributes, traces.Outcome.String("refused")) || !links(got.named("ask shard"), got.named("sell")) {
		t.Errorf("the refusal is %v, the read that proves it %v", got.named("sell").Attributes, got.named("ask shard").Links)
	}
}

// told are spans that have ended.
type told tracetest.SpanStubs

// named is a span of that name; an empty one when there is none.
func (s told) named(name string) tracetest.SpanStub {
	for _, span := range s {
		if span.Name == name {
			return span
		}
	}
	return tracetest.SpanStub{}
}

// awaitSpans waits until there are spans of these names, and returns all that there are.
func awaitSpans(t *testing.T, from *tracetest.InMemoryExporter, names ...string) told {
	t.Helper()
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		got := told(from.GetSpans())
		missing := slices.Clone(names)
		for _, span := range got {
			if i := slices.Index(missing, span.Name); i >= 0 {
				missing = slices.Delete(missing, i, i+1)
			}
		}
		if len(missing) == 0 {
			return got
		}
		if time.Since(begun) > patience {
			t.Fatalf("there is no span %q, only %v", missing, got)
		}
	}
}

// wantWithin fails unless a span is within the others, from the inside to the outside, in one
// trace and perhaps with others between them.
func (s told) wantWithin(t *testing.T, inner string, outer ...string) {
	t.Helper()
	at, way := s.named(inner), []string{inner}
	for _, name := range outer {
		for at.Name != name {
			i := slices.IndexFunc(s, func(span tracetest.SpanStub) bool {
				return span.SpanContext.TraceID() == at.SpanContext.TraceID() && span.SpanContext.SpanID() == at.Parent.SpanID()
			})
			if i < 0 {
				t.Fatalf("%q is within %q and no further, want %q", inner, way, outer)
			}
			at, way = s[i], append(way, s[i].Name)
		}
	}
}

func links(from, to tracetest.SpanStub) bool {
	return slices.ContainsFunc(from.Links, func(l sdktrace.Link) bool { return l.SpanContext.SpanID() == to.SpanContext.SpanID() })
}

// What OpenTelemetry's variables say is done, or refused: it is not left to be found out that
// nothing, or everything, is sampled.
func TestSamplerIsWhatTheVariablesSay(t *testing.T) {
	for _, tt := range []struct{ name, arg, want string }{
		{"", "", "Linked{ParentBased{root:AlwaysOnSampler"},
		{"always_off", "", "AlwaysOffSampler"},
		{"traceidratio", "0.25", "Linked{TraceIDRatioBased{0.25}}"},
		{" ParentBased_TraceIdRatio ", "0.5", "Linked{ParentBased{root:TraceIDRatioBased{0.5}"},
		{"traceidratio", "2", ""},
		{"traceidratio", "some", ""},
		{"jaeger_remote", "", ""},
	} {
		s, err := samplerOf(tt.name, tt.arg)
		switch {
		case tt.want == "" && err == nil:
			t.Errorf("%q %q is taken for %s", tt.name, tt.arg, s.Description())
		case tt.want != "" && (err != nil || !strings.HasPrefix(s.Description(), tt.want)):
			t.Errorf("%q %q: %v, want %s", tt.name, tt.arg, err, tt.want)
		}
	}
}

// Who has no collector has no spans either, and pays for none.
func TestNothingIsTracedWithoutAnEndpoint(t *testing.T) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		t.Setenv(name, "")
	}
	provider, stop, err := startTraces(t.Context(), "worker", nil)
	if provider != nil || err != nil {
		t.Errorf("traced by %v (%v)", provider, err)
	}
	stop()
}

// A collector that is away must not keep a server from ending.
func TestServerEndsWithoutItsCollector(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	provider, stop, err := startTraces(t.Context(), "worker", localtest.Logger(t))
	if err != nil || provider == nil {
		t.Fatalf("traced by %v: %v", provider, err)
	}
	_, span := traces.Tracer(provider).Start(t.Context(), "lost")
	span.End()
	begun := time.Now()
	if stop(); time.Since(begun) > 2*flushTimeout {
		t.Errorf("it took %v", time.Since(begun))
	}
}
