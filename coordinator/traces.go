package coordinator

import (
	"context"
	"net/http"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/holdfast-io/holdfast/api/traces"
)

// traced has calls traced, but not signs of life and watches, which last as long as somebody
// is there. Without a provider it is the handler itself.
func traced(provider trace.TracerProvider, handler http.Handler) http.Handler {
	if provider == nil {
		return handler
	}
	return otelhttp.NewHandler(handler, "",
		otelhttp.WithTracerProvider(provider), otelhttp.WithPropagators(traces.Propagation),
		otelhttp.WithMeterProvider(metricnoop.NewMeterProvider()),
		otelhttp.WithFilter(func(r *http.Request) bool {
			return strings.HasPrefix(r.URL.Path, "/v1/") && !strings.HasSuffix(r.URL.Path, ":watch")
		}),
	)
}

// ask begins the span of a purchase's way to one worker, within the recorded span of ctx; else
// it costs nothing.
func (p *peer) ask(ctx context.Context) (context.Context, trace.Span) {
	within := traces.Recorded(ctx)
	if within == nil {
		return ctx, noop.Span{}
	}
	return traces.Sibling(within).Start(ctx, "ask worker",
		trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(traces.Worker.String(p.address)))
}

// trace begins the trace of a purchase of a stream, which has none that ends; without a
// provider it costs nothing.
func (o *orders) trace(d *order) context.Context {
	if o.service.tracer == nil {
		return o.ctx
	}
	ctx, span := o.service.tracer.Start(o.ctx, "purchase of a stream", trace.WithNewRoot(),
		trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
			traces.Product.String(d.req.GetProductId()), traces.Amount.Int64(d.req.GetAmount()),
		))
	d.span = span
	return ctx
}
