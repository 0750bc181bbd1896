package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/coordinator"
)

func newCoordinator() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "coordinator",
		Short: "Run a coordinator: the public API over gRPC and HTTP/JSON",
		Args:  noArguments,
	}
	flags := cmd.Flags()
	etcd, logger := etcdFlags(flags), logFlags(flags)
	grpcListen := flags.String("grpc-listen", "127.0.0.1:7070", "address of the gRPC API")
	httpListen := flags.String("http-listen", "127.0.0.1:8080", "address of the HTTP/JSON API")
	deadline := flags.Duration("deadline", 15*time.Second, "for calls that come without one")
	attempt := flags.Duration("attempt-timeout", 3*time.Second, "until a worker that does not answer is passed over")
	hold := flags.Duration("default-hold", 10*time.Minute, "of holds of which nobody says how long they last, and of orders while they are paid")
	drain := flags.Duration("drain-timeout", 10*time.Second, "how long to finish what is in flight on SIGTERM")
	inFlight := flags.Int("max-in-flight", 20_000, "purchases under way at each worker; more are refused as overload")
	observe, secure, healthAddress := observeFlags(flags, "coordinator"), coordinatorSecurityFlags(flags, etcd.security), healthFlag(flags)
	region := flags.String("region", "", "where this coordinator is, which workers are told to know where a product is asked for (default nowhere)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		log := logger()
		d, err := etcd.directory()
		if err != nil {
			return err
		}
		defer func() { _ = d.Client.Close() }()
		seen, unobserve, err := observe(cmd.Context(), log)
		if err != nil {
			return err
		}
		defer unobserve()
		cfg := coordinator.Config{
			Directory: d, Logger: log, Metrics: seen.metrics, Traces: seen.traces, Region: *region, Deadline: *deadline,
			AttemptTimeout: *attempt, DefaultHold: *hold, DrainTimeout: *drain, MaxInFlight: *inFlight,
		}
		if err := secure(&cfg); err != nil {
			return err
		}
		c, err := coordinator.New(cfg)
		if err != nil {
			return err
		}
		stopHealth, err := serveHealth(cmd.Context(), *healthAddress, c.Ready)
		if err != nil {
			return err
		}
		defer stopHealth()
		grpcListener, err := listen(cmd.Context(), "grpc-listen", *grpcListen)
		if err != nil {
			return err
		}
		httpListener, err := listen(cmd.Context(), "http-listen", *httpListen)
		if err != nil {
			return err
		}
		return c.Run(cmd.Context(), grpcListener, httpListener)
	}
	return cmd
}
