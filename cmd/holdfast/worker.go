package main

import (
	"cmp"
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfast-io/holdfast/worker"
)

func newWorker() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Run a worker: hold products, sell them, write to the shards",
		Args:  noArguments,
	}
	flags := cmd.Flags()
	etcd, shards, logger, settings := etcdFlags(flags), shardFlags(flags), logFlags(flags), workerFlags(flags)
	payments, secure, observe := paymentFlags(flags), workerSecurityFlags(flags, etcd.security), observeFlags(flags, "worker")
	address := flags.String("listen", "127.0.0.1:7071", "address to serve coordinators on")
	healthAddress := healthFlag(flags)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg := settings()
		cfg.Logger = logger()
		d, err := etcd.directory()
		if err != nil {
			return err
		}
		defer func() { _ = d.Client.Close() }()
		cfg.Directory = d
		if cfg.DSNs, err = shards(); err != nil {
			return err
		}
		if cfg.Providers, err = payments(); err != nil {
			return err
		}
		seen, unobserve, err := observe(cmd.Context(), cfg.Logger)
		if err != nil {
			return err
		}
		defer unobserve()
		cfg.Metrics, cfg.Traces = seen.metrics, seen.traces
		if err := secure(&cfg); err != nil {
			return err
		}
		return runWorker(cmd.Context(), cfg, *address, *healthAddress)
	}
	return cmd
}

func runWorker(ctx context.Context, cfg worker.Config, address, healthAddress string) error {
	listener, err := listen(ctx, "listen", address)
	if err != nil {
		return err
	}
	cfg.Advertise = cmp.Or(cfg.Advertise, listener.Addr().String())
	w, err := worker.New(ctx, cfg)
	if err != nil {
		return err
	}
	stopHealth, err := serveHealth(ctx, healthAddress, w.Ready)
	if err != nil {
		return err
	}
	defer stopHealth()
	return w.Run(ctx, listener)
}

// workerFlags are how a worker sells.
func workerFlags(flags *pflag.FlagSet) func() worker.Config {
	var cfg worker.Config
	hostname, _ := os.Hostname()
	flags.StringVar(&cfg.Name, "name", hostname, "stable name; decides which products are routed here")
	flags.StringVar(&cfg.Advertise, "advertise", "", "address at which others reach this worker (default that of --listen)")
	flags.StringVar(&cfg.Region, "region", "", "where this worker is; products move to the region whose coordinators bring most of their purchases (default nowhere: none moves)")
	flags.DurationVar(&cfg.LockTTL, "lock-ttl", 15*time.Second, "how long a lock outlives a worker that nobody can probe")
	flags.DurationVar(&cfg.MinimumTenure, "minimum-tenure", 200*time.Millisecond, "how long a product is kept though another worker wants it")
	flags.DurationVar(&cfg.IdleTenure, "idle-tenure", time.Minute, "how long a product is kept that nobody buys")
	flags.DurationVar(&cfg.DrainTimeout, "drain-timeout", 10*time.Second, "how long to finish what is in flight on SIGTERM")
	flags.IntVar(&cfg.MaxInFlight, "max-in-flight", 50_000, "purchases under way, of all coordinators; more are refused as overload")
	flags.DurationVar(&cfg.MaxHold, "max-hold", 24*time.Hour, "how long a hold lasts at most, however often it is extended")
	sweep := flags.Duration("sweep-interval", time.Second, "how often to look for holds whose time is up; 0 for never: buyers who need their units still get them")
	audit := flags.Duration("audit-interval", 10*time.Minute, "how often one of the workers recounts all shards; 0 for never")
	return func() worker.Config {
		cfg.SweepInterval, cfg.AuditInterval = orNever(*sweep), orNever(*audit)
		return cfg
	}
}

// orNever is an interval as the worker takes it: there 0 is the default, and less is never.
func orNever(interval time.Duration) time.Duration {
	if interval == 0 {
		return -1
	}
	return interval
}
