package main

import (
	"context"
	"net"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
)

// observeFlags adds the flags with which a server is looked at from outside. What they return
// begins that, until stop is called.
func observeFlags(flags *pflag.FlagSet) func(context.Context) (registry *prometheus.Registry, stop func(), err error) {
	metrics := flags.String("metrics-listen", "", "address to serve Prometheus metrics on, at /metrics (default none)")
	debug := flags.String("debug-listen", "", "loopback address to serve Go's profiles on, at /debug/pprof (default none)")
	return func(ctx context.Context) (*prometheus.Registry, func(), error) {
		registry := newRegistry()
		stopMetrics, err := serveMetrics(ctx, *metrics, registry)
		if err != nil {
			return nil, nil, err
		}
		stopDebug, err := serveDebug(ctx, *debug)
		if err != nil {
			stopMetrics()
			return nil, nil, err
		}
		return registry, func() { stopDebug(); stopMetrics() }, nil
	}
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
