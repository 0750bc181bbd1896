package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.40.0"
	"go.opentelemetry.io/otel/trace"
)

// flushTimeout bounds how long a server that ends waits for its last spans to be taken.
const flushTimeout = 3 * time.Second

// startTraces has a server traced as OpenTelemetry's variables say, until stop is called. When
// none of them names an endpoint nothing is traced, and the provider is nil.
func startTraces(ctx context.Context, server string, log hclog.Logger) (provider trace.TracerProvider, stop func(), err error) {
	endpoint := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	if endpoint == "" || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return nil, func() {}, nil
	}
	sampler, err := samplerOf(os.Getenv("OTEL_TRACES_SAMPLER"), os.Getenv("OTEL_TRACES_SAMPLER_ARG"))
	if err != nil {
		return nil, nil, usageError("%w", err)
	}
	exporter, err := otlptracegrpc.New(ctx) // reads the variables, and connects later
	if err != nil {
		return nil, nil, usageError("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err)
	}
	version, _ := buildVersion()
	described, err := resource.New(ctx,
		resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(semconv.ServiceName("holdfast-"+server), semconv.ServiceVersion(version)),
		resource.WithFromEnv(), // the last, so that OTEL_SERVICE_NAME wins
	)
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, nil, usageError("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("spans not exported", "error", err) }))
	sdk := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(described), sdktrace.WithSampler(sampler))
	log.Info("tracing", "endpoint", endpoint, "sampler", sampler.Description())
	return sdk, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
		defer cancel()
		if err := sdk.Shutdown(ctx); err != nil {
			log.Warn("last spans not exported", "error", err)
			_ = exporter.Shutdown(ctx) // which a provider that ran out of time has not come to
		}
	}, nil
}

// samplerOf is the sampler that OpenTelemetry's variables name; the SDK does not hand out its
// own, which has to be within another one here.
func samplerOf(name, arg string) (sdktrace.Sampler, error) {
	name = strings.ToLower(strings.TrimSpace(name))
	ratio := 1.0
	if arg != "" && strings.HasSuffix(name, "traceidratio") {
		var err error
		if ratio, err = strconv.ParseFloat(arg, 64); err != nil || ratio < 0 || ratio > 1 {
			return nil, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG %q: want a ratio from 0 to 1", arg)
		}
	}
	switch name {
	case "always_on":
		return linked{sdktrace.AlwaysSample()}, nil
	case "always_off":
		return sdktrace.NeverSample(), nil
	case "traceidratio":
		return linked{sdktrace.TraceIDRatioBased(ratio)}, nil
	case "", "parentbased_always_on":
		return linked{sdktrace.ParentBased(sdktrace.AlwaysSample())}, nil
	case "parentbased_always_off":
		return linked{sdktrace.ParentBased(sdktrace.NeverSample())}, nil
	case "parentbased_traceidratio":
		return linked{sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))}, nil
	}
	return nil, fmt.Errorf("OTEL_TRACES_SAMPLER %q: want always_on, always_off, traceidratio, or one of them after parentbased_", name)
}

// linked is a sampler that samples what is linked to something sampled, and has another one
// decide about the rest. The batch of a sampled purchase is to be seen, though its trace is
// its own.
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
