package traces

import (
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Linked is a sampler that samples what is linked to something sampled, and has another one
// decide about the rest. The batch of a sampled purchase is to be seen, though its trace is
// its own.
func Linked(rest sdktrace.Sampler) sdktrace.Sampler { return linked{rest} }

type linked struct{ sdktrace.Sampler }

func (l linked) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	for _, link := range p.Links {
		if link.SpanContext.IsSampled() {
			return sdktrace.AlwaysSample().ShouldSample(p)
		}
	}
	return l.Sampler.ShouldSample(p)
}

func (l linked) Description() string { return "Linked{" + l.Sampler.Description() + "}" }
