// Package traces is how the servers are traced, with OpenTelemetry: what is traced of what
// comes over gRPC, how a trace crosses from one server to the next, and how logs refer to it.
//
// Without a provider of tracers nothing is installed, and a purchase costs what it does
// without this package. Of a sampled purchase there is one span on each server. A batch is
// committed for many purchases, so it has a trace of its own, and both name each other by
// links.
package traces

import (
	"context"

	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
)

// Attributes of spans.
const (
	Product = attribute.Key("holdfast.product_id")
	Shard   = attribute.Key("holdfast.shard")
	Amount  = attribute.Key("holdfast.amount")
	Outcome = attribute.Key("holdfast.outcome") // admitted, refused or failed
	Reason  = attribute.Key("holdfast.reason")
	Size    = attribute.Key("holdfast.batch.size")
	Worker  = attribute.Key("holdfast.worker")
)

// Propagation is how a trace crosses from one server to the next: as the W3C says.
var Propagation = propagation.TraceContext{}

// scope names who begins these spans.
const scope = "github.com/holdfast-io/holdfast"

// Tracer returns a provider's tracer; of none it is one that does nothing.
func Tracer(provider trace.TracerProvider) trace.Tracer {
	if provider == nil {
		provider = noop.NewTracerProvider()
	}
	return provider.Tracer(scope)
}

// ServerOptions trace calls to a server. Without a provider there are none.
func ServerOptions(provider trace.TracerProvider) []grpc.ServerOption {
	if provider == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.StatsHandler(otelgrpc.NewServerHandler(options(provider)...))}
}

// DialOptions trace calls over a connection. Without a provider there are none.
func DialOptions(provider trace.TracerProvider) []grpc.DialOption {
	if provider == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithStatsHandler(otelgrpc.NewClientHandler(options(provider)...))}
}

func options(provider trace.TracerProvider) []otelgrpc.Option {
	return []otelgrpc.Option{
		otelgrpc.WithTracerProvider(provider), otelgrpc.WithPropagators(Propagation),
		otelgrpc.WithMeterProvider(metricnoop.NewMeterProvider()),
		otelgrpc.WithFilter(func(call *stats.RPCTagInfo) bool { return isTraced(call.FullMethodName) }),
	}
}

// isTraced leaves out signs of life, and what lasts as long as somebody is there: links, watches
// and streams of purchases, of which each purchase is traced by itself.
func isTraced(fullMethod string) bool {
	switch fullMethod {
	case healthpb.Health_Check_FullMethodName, healthpb.Health_Watch_FullMethodName,
		workerv1.WorkerService_Sell_FullMethodName, holdfastv1.PurchaseService_StreamPurchases_FullMethodName,
		holdfastv1.EventService_WatchEvents_FullMethodName, holdfastv1.ProductService_WatchProduct_FullMethodName:
		return false
	}
	return true
}

// End ends a span with its error, if there is one.
func End(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(otelcodes.Error, err.Error())
	}
	span.End()
}

// Decided ends the span of a purchase with what came of it.
func Decided(span trace.Span, err error) {
	switch {
	case err == nil:
		span.SetAttributes(Outcome.String("admitted"))
	case holdfastv1.IsTransient(err):
		span.SetAttributes(Outcome.String("failed"), Reason.String(holdfastv1.Reason(err)))
		span.SetStatus(otelcodes.Error, err.Error())
	default: // which is no fault of ours
		span.SetAttributes(Outcome.String("refused"), Reason.String(holdfastv1.Reason(err)))
	}
	span.End()
}

// Recorded returns the span of ctx if it is recorded, and else nil.
func Recorded(ctx context.Context) trace.Span {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		return span
	}
	return nil
}

// With returns a context within a span; ctx when that is nil.
func With(ctx context.Context, span trace.Span) context.Context {
	if span == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, span)
}

// Together begins a trace of its own for what is done for several spans at once, and links it
// and them with each other. When all of them are nil there is none, and it returns ctx and a
// span that does nothing.
func Together(
	ctx context.Context, name string, spans []trace.Span, attributes ...attribute.KeyValue,
) (context.Context, trace.Span) {
	var links []trace.Link
	for _, span := range spans {
		links = append(links, trace.Link{SpanContext: span.SpanContext()})
	}
	if len(links) == 0 {
		return ctx, noop.Span{}
	}
	ctx, together := Sibling(spans[0]).Start(ctx, name, trace.WithNewRoot(), trace.WithLinks(links...), trace.WithAttributes(attributes...))
	for _, span := range spans {
		span.AddLink(trace.Link{SpanContext: together.SpanContext()})
	}
	return ctx, together
}

// Sibling returns a tracer whose spans go where a span goes.
func Sibling(span trace.Span) trace.Tracer { return span.TracerProvider().Tracer(scope) }

// Log returns the log for what is done in ctx: its lines carry the trace's id, if there is one.
func Log(ctx context.Context, log hclog.Logger) hclog.Logger {
	if at := trace.SpanContextFromContext(ctx); at.HasTraceID() {
		return log.With("trace_id", at.TraceID().String())
	}
	return log
}
