package main

import (
	"cmp"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/worker"
)

func newWorker() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Run a worker: hold products, sell them, write to the shards",
		Args:  noArguments,
	}
	flags := cmd.Flags()
	directory, shards, logger := etcdFlags(flags), shardFlags(flags), logFlags(flags)
	payments := paymentFlags(flags)
	hostname, _ := os.Hostname()
	name := flags.String("name", hostname, "stable name; decides which products are routed here")
	address := flags.String("listen", "127.0.0.1:7071", "address to serve coordinators on")
	advertise := flags.String("advertise", "", "address at which others reach this worker (default that of --listen)")
	lockTTL := flags.Duration("lock-ttl", 15*time.Second, "how long a lock outlives a worker that nobody can probe")
	minimum := flags.Duration("minimum-tenure", 200*time.Millisecond, "how long a product is kept though another worker wants it")
	idle := flags.Duration("idle-tenure", time.Minute, "how long a product is kept that nobody buys")
	drain := flags.Duration("drain-timeout", 10*time.Second, "how long to finish what is in flight on SIGTERM")
	inFlight := flags.Int("max-in-flight", 50_000, "purchases under way, of all coordinators; more are refused as overload")
	maxHold := flags.Duration("max-hold", 24*time.Hour, "how long a hold lasts at most, however often it is extended")
	sweep := flags.Duration("sweep-interval", time.Second, "how often to look for holds whose time is up; 0 for never: buyers who need their units still get them")
	audit := flags.Duration("audit-interval", 10*time.Minute, "how often one of the workers recounts all shards; 0 for never")
	observe := observeFlags(flags, "worker")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d, err := directory()
		if err != nil {
			return err
		}
		defer func() { _ = d.Client.Close() }()
		dsns, err := shards()
		if err != nil {
			return err
		}
		providers, err := payments()
		if err != nil {
			return err
		}
		listener, err := listen(cmd.Context(), "listen", *address)
		if err != nil {
			return err
		}
		log := logger()
		seen, unobserve, err := observe(cmd.Context(), log)
		if err != nil {
			return err
		}
		defer unobserve()
		w, err := worker.New(cmd.Context(), worker.Config{
			Name: *name, Advertise: cmp.Or(*advertise, listener.Addr().String()),
			Directory: d, DSNs: dsns, Logger: log,
			Metrics: seen.metrics, Traces: seen.traces, Providers: providers,
			LockTTL: *lockTTL, MinimumTenure: *minimum, IdleTenure: *idle, DrainTimeout: *drain, MaxInFlight: *inFlight,
			MaxHold: *maxHold, SweepInterval: orNever(*sweep), AuditInterval: orNever(*audit),
		})
		if err != nil {
			return err
		}
		return w.Run(cmd.Context(), listener)
	}
	return cmd
}

// orNever is an interval as the worker takes it: there 0 is the default, and less is never.
func orNever(interval time.Duration) time.Duration {
	if interval == 0 {
		return -1
	}
	return interval
}
