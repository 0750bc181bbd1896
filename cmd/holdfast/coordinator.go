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
	directory, logger := etcdFlags(flags), logFlags(flags)
	grpcListen := flags.String("grpc-listen", "127.0.0.1:7070", "address of the gRPC API")
	httpListen := flags.String("http-listen", "127.0.0.1:8080", "address of the HTTP/JSON API")
	deadline := flags.Duration("deadline", 15*time.Second, "for calls that come without one")
	attempt := flags.Duration("attempt-timeout", 3*time.Second, "until a worker that does not answer is passed over")
	hold := flags.Duration("default-hold", 10*time.Minute, "of holds of which nobody says how long they last, and of orders while they are paid")
	drain := flags.Duration("drain-timeout", 10*time.Second, "how long to finish what is in flight on SIGTERM")
	inFlight := flags.Int("max-in-flight", 20_000, "purchases under way at each worker; more are refused as overload")
	observe := observeFlags(flags, "coordinator")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d, err := directory()
		if err != nil {
			return err
		}
		defer func() { _ = d.Client.Close() }()
		log := logger()
		seen, unobserve, err := observe(cmd.Context(), log)
		if err != nil {
			return err
		}
		defer unobserve()
		c, err := coordinator.New(coordinator.Config{
			Directory: d, Logger: log, Metrics: seen.metrics, Traces: seen.traces, Deadline: *deadline,
			AttemptTimeout: *attempt, DefaultHold: *hold, DrainTimeout: *drain, MaxInFlight: *inFlight,
		})
		if err != nil {
			return err
		}
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
