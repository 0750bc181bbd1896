package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfast-io/holdfast/deploy/local"
	"github.com/holdfast-io/holdfast/worker/payment/simulated"
)

// stackFlags adds the flags of commands that start a local stack. Without a data
// folder, done removes what the stack stored.
func stackFlags(flags *pflag.FlagSet) func() (cfg local.StackConfig, done func(), err error) {
	bin := flags.String("postgres-bin", "", "folder with postgres and initdb (default $HOLDFAST_PG_BIN, PATH, the usual places)")
	workers := flags.Int("workers", 3, "number of workers")
	dir := flags.String("data-dir", "", "keep data and logs here (default a temporary folder, removed at the end)")
	targets := flags.String("metrics-targets", "", "write a file for a Prometheus' file_sd_configs that names all servers (default none, and no metrics)")
	return func() (local.StackConfig, func(), error) {
		if *workers < 1 {
			return local.StackConfig{}, nil, usageError("--workers: want at least 1, got %d", *workers)
		}
		self, err := os.Executable()
		if err != nil {
			return local.StackConfig{}, nil, err
		}
		cfg := local.StackConfig{Binary: self, PostgresBin: *bin, Workers: *workers, Dir: *dir, MetricsTargets: *targets}
		if *dir != "" {
			return cfg, func() {}, nil
		}
		temp, err := local.TempDir("holdfast-*")
		cfg.Dir = temp
		return cfg, func() { _ = os.RemoveAll(temp) }, err
	}
}

func newDev() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine: etcd, Postgres servers, workers, a coordinator",
		Args:  noArguments,
	}
	flags := cmd.Flags()
	stack := stackFlags(flags)
	shards := flags.StringSlice("shards", []string{"eu", "us"}, "names of the shards; each gets a Postgres server")
	httpListen := flags.String("http-listen", "127.0.0.1:8080", "address of the HTTP/JSON API")
	grpcListen := flags.String("grpc-listen", "127.0.0.1:7070", "address of the gRPC API")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, done, err := stack()
		if err != nil {
			return err
		}
		defer done()
		cfg.Shards, cfg.HTTPListen, cfg.GRPCListen = *shards, *httpListen, *grpcListen
		return runDev(cmd, cfg)
	}
	return cmd
}

func runDev(cmd *cobra.Command, cfg local.StackConfig) error {
	startCtx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
	defer cancel()
	provider, stop, err := serveSimulator(startCtx)
	if err != nil {
		return err
	}
	defer stop()
	cfg.WorkerArgs = append(cfg.WorkerArgs, "--payment-simulator", provider)
	s, err := local.StartStack(startCtx, cfg)
	if err != nil {
		return err
	}
	defer s.Stop()
	if err := writeDevSettings(s); err != nil {
		return err
	}
	defer func() { _ = os.Remove(devSettingsFile()) }()
	describe(cmd.OutOrStdout(), s)
	select {
	case <-cmd.Context().Done():
		fmt.Fprintln(cmd.OutOrStdout(), "stopping")
		return nil
	case <-s.Coordinator.Done():
		return errors.New("the coordinator ended; see " + s.LogDir)
	}
}

// serveSimulator serves a provider of payments that fails only when the payment method asks
// for it, until it is stopped.
func serveSimulator(ctx context.Context) (url string, stop func(), err error) {
	server, err := simulated.NewServer(simulated.Faults{})
	if err != nil {
		return "", nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("payment simulator: %w", err)
	}
	serving, leave := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Run(serving, listener) }()
	return "http://" + listener.Addr().String(), func() { leave(); <-ended }, nil
}

// writeDevSettings tells other commands of this user where the stack is.
func writeDevSettings(s *local.Stack) error {
	encoded, err := yaml.Parser().Marshal(map[string]any{
		"etcd": s.Etcd.Endpoint(), "coordinator": s.GRPCAddress, "shard": s.DSNs(), "insecure": true,
	})
	if err != nil {
		return err
	}
	_ = os.Remove(devSettingsFile())
	file, err := os.OpenFile(devSettingsFile(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("settings for other commands: %w", err)
	}
	_, err = file.Write(encoded)
	return errors.Join(err, file.Close())
}

func describe(out io.Writer, s *local.Stack) {
	fmt.Fprintf(out, `holdfast is running
  HTTP/JSON  http://%[1]s   (contract: /openapi.json)
  gRPC       %[2]s
  etcd       %[3]s
`, s.HTTPAddress, s.GRPCAddress, s.Etcd.Endpoint())
	for shard, dsn := range s.DSNs() {
		fmt.Fprintf(out, "  shard %-4s %s\n", shard, dsn)
	}
	fmt.Fprintf(out, `  logs       %[2]s

Try:
  curl -s http://%[1]s/v1/products -d '{"product_id":"ticket","amount_in_storage":100}'
  curl -s http://%[1]s/v1/purchases -d '{"product_id":"ticket","amount":1,"customer_id":"ann","region":"%[3]s"}'

Payments are simulated: payment_method "simulated", "simulated:decline", "simulated:slow" …

The other commands (holdfast buy, status, audit …) find this stack by themselves.
Ctrl-C stops it.
`, s.HTTPAddress, s.LogDir, s.Shards()[0])
}
