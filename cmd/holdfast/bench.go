package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/holdfast-io/holdfast/deploy/bench"
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure holdfast beside what people do today, and beside the ceiling",
		Long: `bench starts etcd, two Postgres servers, a coordinator and workers on this machine,
all of them syncing to disk, and sells the same things in every way: with a row lock,
a conditional update, SERIALIZABLE, an advisory lock, two-phase commit and a mutex in
etcd, through holdfast's own calls, and by inserting rows without any check, which is
the ceiling. Each workload gets servers of its own; repetitions are interleaved; what
was sold is recounted from the rows.

With --dsn, --etcd and --target it measures servers that run already: it makes schemas
named bench_… next to holdfast's tables, and removes them.

Workloads, of which the long ones are run only when they are named:
` + describeWorkloads() + `
A family such as history stands for all its members. Exits 1 if anything was oversold,
if an audit failed or something could not be measured, or if a slow payment provider
slowed other buyers down (slow-provider); never because of speed otherwise.`,
		Args: noArguments,
	}
	flags := cmd.Flags()
	config, asJSON := benchFlags(flags), jsonFlag(flags)
	svg := flags.String("svg", "", "folder for charts, one SVG for each workload")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, done, err := config()
		if err != nil {
			return err
		}
		defer done()
		out := cmd.OutOrStdout()
		if *asJSON {
			out = cmd.ErrOrStderr() // standard output gets the figures and nothing else
		}
		figures, err := runBench(cmd, out, cfg)
		err = errors.Join(err, bench.WriteTable(out, figures))
		for i := range figures {
			if *asJSON {
				err = errors.Join(err, printJSON(cmd.OutOrStdout(), &figures[i]))
			}
		}
		if *svg != "" {
			err = errors.Join(err, bench.WriteCharts(*svg, figures))
		}
		return err
	}
	return cmd
}

func describeWorkloads() string {
	var b strings.Builder
	for _, w := range bench.Workloads {
		long := ""
		if w.Long {
			long = "; long"
		}
		fmt.Fprintf(&b, "  %-16s %s%s\n", w.Name, w.About, long)
	}
	return b.String()
}

// benchFlags adds all flags of what is measured.
func benchFlags(flags *pflag.FlagSet) func() (bench.Config, func(), error) {
	stack, target := stackFlags(flags), targetFlags(flags)
	workloads := flags.StringSlice("workload", nil, "workloads or families of them (default all that are not long)")
	strategies := flags.StringSlice("strategy", nil, "strategies (default all): "+strings.Join(bench.StrategyNames(), ", "))
	buyers := flags.Int("buyers", 256, "buyers at once of holdfast; the usual ways are tried with several numbers")
	rate := flags.Float64("rate", 0, "purchases a second, whatever the answers (default: each buyer buys as soon as he has an answer)")
	duration := flags.Duration("duration", 3*time.Second, "of one measurement, after a warm-up of a sixth of it")
	repetitions := flags.Int("repetitions", 5, "measurements of each strategy")
	products := flags.Int("products", 100_000, "products to be held in the workload idle")
	smoke := flags.Bool("smoke", false, "test the bench: everything once and for a moment; errors of buyers count")
	return func() (bench.Config, func(), error) {
		chosen, err := bench.Choose(*workloads)
		if err != nil {
			return bench.Config{}, nil, usageError("--workload: %w", err)
		}
		if err := bench.CheckStrategies(*strategies); err != nil {
			return bench.Config{}, nil, usageError("--strategy: %w", err)
		}
		cfg := bench.Config{
			Workloads: chosen, Strategies: *strategies, Buyers: *buyers, Rate: *rate, Duration: *duration,
			Repetitions: *repetitions, Products: *products,
		}
		if *buyers < 1 || *rate < 0 || *duration <= 0 || *repetitions < 1 || *products < 1 {
			return cfg, nil, usageError("--buyers, --duration, --repetitions and --products must be positive, --rate not negative")
		}
		if *smoke {
			cfg = cfg.Smoke(*workloads)
		}
		if cfg.Target, err = target(); err != nil || cfg.Target != nil {
			return cfg, func() {}, err
		}
		var done func()
		cfg.Stack, done, err = stack()
		cfg.Keep = flags.Changed("data-dir")
		return cfg, done, err
	}
}

// targetFlags are those of servers that run already: nil without --dsn.
func targetFlags(flags *pflag.FlagSet) func() (*bench.Target, error) {
	shards := flags.StringArray("dsn", nil, "name=DSN of a shard that runs already; repeat for each")
	etcd := flags.StringSlice("etcd", nil, "its etcd endpoints")
	address := flags.String("target", "", "gRPC address of its coordinator")
	http := flags.String("target-http", "", "the coordinator's address for HTTP/JSON; without it holdfast-http is left out")
	return func() (*bench.Target, error) {
		dsns := map[string]string{}
		for _, s := range *shards {
			name, dsn, ok := strings.Cut(s, "=")
			if !ok || name == "" || dsn == "" {
				return nil, usageError("--dsn %q: want name=DSN", s)
			}
			dsns[name] = dsn
		}
		switch {
		case len(dsns) == 0 && *address == "":
			return nil, nil
		case len(dsns) == 0 || *address == "" || len(*etcd) == 0:
			return nil, usageError("--dsn, --etcd and --target: servers that run already need all three")
		}
		return &bench.Target{DSNs: dsns, Etcd: *etcd, GRPC: *address, HTTP: *http}, nil
	}
}

func runBench(cmd *cobra.Command, out io.Writer, cfg bench.Config) ([]bench.Figures, error) {
	p := newProgress(out, "measurements")
	defer p.done()
	cfg.Say, cfg.Progress = p.say, p.update
	return bench.Run(cmd.Context(), cfg)
}
