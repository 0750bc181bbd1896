package ledger

import (
	"context"

	"github.com/IBM/pgxpoolprometheus"
	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/holdfast-io/holdfast/api/traces"
)

// Collectors tell what the shard's pools of connections are like.
func (s *Shard) Collectors() []prometheus.Collector {
	return []prometheus.Collector{
		pgxpoolprometheus.NewCollector(s.pool, map[string]string{"shard": s.name, "pool": "sales"}),
		pgxpoolprometheus.NewCollector(s.list, map[string]string{"shard": s.name, "pool": "reads"}),
	}
}

// newTracer has statements traced within spans that are recorded. What their parameters are is
// the buyers' business.
func newTracer(provider trace.TracerProvider) pgx.QueryTracer {
	return otelpgx.NewTracer(otelpgx.WithTracerProvider(provider), otelpgx.WithMeterProvider(metricnoop.NewMeterProvider()))
}

// traced begins the span of a statement that pgx does not see; one that does nothing unless
// that of ctx is recorded.
func traced(ctx context.Context, sql string) (context.Context, trace.Span) {
	within := trace.SpanFromContext(ctx)
	if !within.IsRecording() {
		return ctx, noop.Span{}
	}
	return traces.Sibling(within).Start(ctx, otelpgx.SQLOperationName(ctx, sql), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(semconv.DBSystemNamePostgreSQL, semconv.DBQueryText(sql)))
}

// Age is how many purchases have been held for so long at most, and longer than for the age
// before.
type Age struct {
	Name  string // 1m, 10m, 1h, 1d or older
	Holds int64
}

// maxAged bounds the holds of which the age is read.
const maxAged = 100_000

// Those whose time is up first have the order of an index that has nothing but holds.
const selectAges = `
SELECT count(*) FILTER (WHERE age <= '1 minute'),
       count(*) FILTER (WHERE age > '1 minute' AND age <= '10 minutes'),
       count(*) FILTER (WHERE age > '10 minutes' AND age <= '1 hour'),
       count(*) FILTER (WHERE age > '1 hour' AND age <= '1 day'),
       count(*) FILTER (WHERE age > '1 day')
  FROM (SELECT now() - create_time AS age FROM purchases
         WHERE state = 'held' AND amount > 0 ORDER BY expire_time LIMIT @limit) AS held`

// HeldFor tells how long purchases have been held, of those that end first, up to 100,000.
func (s *Shard) HeldFor(ctx context.Context) ([]Age, error) {
	ages := []Age{{Name: "1m"}, {Name: "10m"}, {Name: "1h"}, {Name: "1d"}, {Name: "older"}}
	into := make([]any, len(ages))
	for i := range ages {
		into[i] = &ages[i].Holds
	}
	err := s.list.QueryRow(ctx, selectAges, pgx.NamedArgs{"limit": maxAged}).Scan(into...)
	return ages, s.readError("count holds", err)
}
