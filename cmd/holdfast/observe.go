package main

import (
	"context"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"go.opentelemetry.io/otel/trace"
)

// observeFlags adds the flags with which a server is looked at from outside. What they return
// begins that, until stop is called.
func observeFlags(
	flags *pflag.FlagSet, server string,
) func(context.Context, hclog.Logger) (seen *observed, stop func(), err error) {
	metrics := flags.String("metrics-listen", "", "address to serve Prometheus metrics on, at /metrics (default none)")
	debug := flags.String("debug-listen", "", "loopback address to serve Go's profiles on, at /debug/pprof (default none)")
	return func(ctx context.Context, log hclog.Logger) (*observed, func(), error) {
		seen := &observed{metrics: newRegistry()}
		var stops []func()
		stop := func() {
			for _, each := range slices.Backward(stops) {
				each()
			}
		}
		for _, start := range []func() (func(), error){
			func() (func(), error) { return serveMetrics(ctx, *metrics, seen.metrics) },
			func() (func(), error) { return serveDebug(ctx, *debug) },
			func() (stopTraces func(), err error) {
				seen.traces, stopTraces, err = startTraces(ctx, server, log)
				return stopTraces, err
			},
		} {
			stopOne, err := start()
			if err != nil {
				stop()
				return nil, nil, err
			}
			stops = append(stops, stopOne)
		}
		return seen, stop, nil
	}
}

// observed is where a server tells what it does.
type observed struct {
	metrics *prometheus.Registry
	traces  trace.TracerProvider // nil when nothing is traced
}

// serveDebug serves profiles at an address that only this machine reaches: they show what the
// memory holds, and taking them costs time.
func serveDebug(ctx context.Context, address string) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	listener, err := listen(ctx, "debug-listen", address)
	if err != nil {
		return nil, err
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		_ = listener.Close()
		return nil, usageError("--debug-listen %s: want an address of the loopback interface, such as 127.0.0.1:6060", address)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return serveAside(listener, mux), nil
}
