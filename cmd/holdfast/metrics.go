package main

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// serveMetrics returns a registry, and serves it at the address until stop is
// called. With no address it serves nothing.
func serveMetrics(ctx context.Context, address string) (registry *prometheus.Registry, stop func(), err error) {
	registry = prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if address == "" {
		return registry, func() {}, nil
	}
	listener, err := listen(ctx, "metrics-listen", address)
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }() // its error is that it was closed
	return registry, func() { _ = server.Close(); <-done }, nil
}
