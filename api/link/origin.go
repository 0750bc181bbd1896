package link

import (
	"context"

	"go.opentelemetry.io/otel/trace"
)

// originSize is the size of an origin in bytes.
const originSize = len(trace.TraceID{}) + len(trace.SpanID{})

// origin is where a purchase comes from that is traced: the ids of the trace and of the span
// that it goes on from.
type origin [originSize]byte

// originIn returns the origin of what is done in ctx; nil when that is not traced, which
// costs nothing.
func originIn(ctx context.Context) *origin {
	from := trace.SpanContextFromContext(ctx)
	if !from.IsValid() || !from.IsSampled() {
		return nil
	}
	o, traceID, spanID := &origin{}, from.TraceID(), from.SpanID()
	copy(o[copy(o[:], traceID[:]):], spanID[:])
	return o
}

// span is the span that an origin names.
func (o *origin) span() trace.SpanContext {
	if o == nil {
		return trace.SpanContext{}
	}
	config := trace.SpanContextConfig{TraceFlags: trace.FlagsSampled, Remote: true}
	copy(config.SpanID[:], o[copy(config.TraceID[:], o[:]):])
	return trace.NewSpanContext(config)
}

// originsFit reports whether a column of origins is no longer than the others.
func originsFit(column []byte, n int) bool {
	return len(column)%originSize == 0 && len(column)/originSize <= n
}

// originOf is an entry of such a column; nil of what is not traced.
func originOf(column []byte, i int) *origin {
	if len(column) < (i+1)*originSize {
		return nil
	}
	o := origin(column[i*originSize:])
	if !o.span().IsValid() {
		return nil
	}
	return &o
}
