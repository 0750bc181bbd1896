package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/deploy/demo"
	"github.com/holdfast-io/holdfast/deploy/local"
	"github.com/holdfast-io/holdfast/deploy/replay"
)

func newDemo() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Sell real orders over two databases, kill a lock holder half-way, and recount",
		Long: `demo starts etcd, two Postgres servers, a coordinator and workers on this machine.
It first lets the usual check-then-insert oversell, then sells real orders through
holdfast, kills the worker that holds the most wanted product, and recounts all rows.
It exits 1 if anything was oversold, lost, doubled or falsely refused.`,
		Args: noArguments,
	}
	flags := cmd.Flags()
	stack, asJSON := stackFlags(flags), jsonFlag(flags)
	buyers := flags.Int("buyers", 32, "buyers at once")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, done, err := stack()
		if err != nil {
			return err
		}
		defer done()
		if cfg.Workers < 2 {
			return usageError("--workers: the demo kills one, so it wants at least 2")
		}
		cfg.Shards = []string{"uk", "world"}
		out := cmd.OutOrStdout()
		if *asJSON {
			out = cmd.ErrOrStderr() // standard output gets the figures and nothing else
		}
		figures, err := runDemo(cmd.Context(), out, cfg, *buyers)
		if figures != nil {
			printFigures(out, figures)
		}
		if *asJSON && figures != nil {
			if err := printJSON(cmd.OutOrStdout(), figures); err != nil {
				return err
			}
		}
		return err
	}
	return cmd
}

func runDemo(ctx context.Context, out io.Writer, cfg local.StackConfig, buyers int) (*demo.Figures, error) {
	orders, err := replay.RealOrders()
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "Starting etcd, two Postgres servers, a coordinator and %d workers\n", cfg.Workers)
	startCtx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s, err := local.StartStack(startCtx, cfg)
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{s.Etcd.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	p := newProgress(out, "orders")
	defer p.done()
	return demo.Run(ctx, demo.Config{
		Stack: s, Etcd: cluster.Directory{Client: client, Prefix: "/holdfast/"}, Orders: orders, Buyers: buyers,
		Say: p.say, Progress: p.update,
	})
}

func printFigures(out io.Writer, f *demo.Figures) {
	fmt.Fprintf(out, `
   oversold by the naive race     %6d
   oversold by FOR UPDATE         %6d

   order lines offered            %6d   (%d more are credit notes and other non-purchases: skipped)
   admitted                       %6d
   refused                        %6d
   oversold                       %6d
   lost                           %6d
   doubled                        %6d
   false refusals                 %6d
   holders killed                 %6d
   longest wait of their buyers   %6.0f ms
   purchases per second           %6.0f
`, f.NaiveOversold, f.ForUpdateOversold, f.LinesOffered, f.Skipped, f.Admitted, f.Refused,
		f.Oversold, f.Lost, f.Doubled, f.FalseRefusals, f.HoldersKilled, f.LongestGapMS, f.PurchasesPerSecond)
}
