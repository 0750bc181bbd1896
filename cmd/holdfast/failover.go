package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/deploy/failover"
)

func newFailover() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Measure how long buyers wait when a worker or etcd dies, or a hold expires",
		Long: `Each experiment starts etcd, two Postgres servers, a coordinator and workers on this
machine, has buyers buy, breaks one thing, measures how long they wait, and audits
all rows. It exits 1 if anything was oversold, lost or doubled, if a purchase
failed, or if the promise that its help states was broken. The last line is one
JSON object with --json, and everything else goes to standard error.`,
	}
	cmd.AddCommand(newFailoverKill(), newFailoverDrain(), newFailoverQuorum(), newFailoverLocks(), newFailoverHolds())
	return cmd
}

// figures are a pointer to what an experiment measured.
type figures interface {
	comparable
	Promise() error // an error when the promise was broken
}

// experiment gives a command the flags of a local stack but the number of
// workers, which the experiment knows itself, and has it measure and print.
func experiment[F figures](
	cmd *cobra.Command, measure func(context.Context, failover.Config) (F, error), print func(io.Writer, F),
) *cobra.Command {
	cmd.Args = noArguments
	stack, asJSON := chaosStackFlags(cmd), jsonFlag(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, done, err := stack()
		if err != nil {
			return err
		}
		defer done()
		out := cmd.OutOrStdout()
		if *asJSON {
			out = cmd.ErrOrStderr()
		}
		f, err := measure(cmd.Context(), failover.Config{
			Stack: cfg, Say: func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) },
		})
		if field, ok := errors.AsType[*failover.FieldError](err); ok {
			return usageError("--%w", field)
		}
		var none F
		if f == none {
			return err
		}
		print(out, f)
		if *asJSON {
			err = errors.Join(err, printJSON(cmd.OutOrStdout(), f))
		}
		return errors.Join(err, f.Promise())
	}
	return cmd
}

func newFailoverKill() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kill",
		Short: "Kill the worker that holds a product, again and again, while it is sold",
		Long: `kill has buyers buy one product without pause, and kills the worker that holds it
with SIGKILL at random moments. The promise: in 99 of 100 cases a purchase that is
asked for after the kill is admitted in less than a second, whatever --lock-ttl is.`,
	}
	kills := cmd.Flags().Int("kills", 50, "how often the holder is killed")
	ttl := cmd.Flags().Duration("lock-ttl", 15*time.Second, "of the workers' locks")
	buyers := cmd.Flags().Int("buyers", 16, "buyers at once")
	return experiment(cmd, func(ctx context.Context, cfg failover.Config) (*failover.KillFigures, error) {
		return failover.Kill(ctx, failover.KillConfig{Config: cfg, Kills: *kills, LockTTL: *ttl, Buyers: *buyers})
	}, printKill)
}

func printKill(out io.Writer, f *failover.KillFigures) {
	fmt.Fprintf(out, `
   holders killed                   %8d   locks live for %v
   sold again after, median         %8.0f ms
   in 99 of 100 cases               %8.0f ms
   at worst                         %8.0f ms
   first answer at all, median      %8.0f ms   (at worst %.0f ms)
   longest wait of any buyer        %8.0f ms
`, f.Kills, time.Duration(f.LockTTLMS)*time.Millisecond, f.P50MS, f.P99MS, f.WorstMS,
		f.FirstAnswerP50MS, f.FirstAnswerWorstMS, f.LongestWaitMS)
	printVerdict(out, f.Verdict)
}

func newFailoverDrain() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Stop a worker that holds many products, under load",
		Long: `drain sends a steady load to products that one of three workers holds, and tells
that worker to stop (SIGTERM). The promise: no purchase fails, and none waits for
250 ms.`,
	}
	products := cmd.Flags().Int("products", 500, "products under load that the worker holds")
	rate := cmd.Flags().Float64("rate", 500, "purchases per second, over all of them")
	return experiment(cmd, func(ctx context.Context, cfg failover.Config) (*failover.DrainFigures, error) {
		return failover.Drain(ctx, failover.DrainConfig{Config: cfg, Products: *products, Rate: *rate})
	}, printDrain)
}

func printDrain(out io.Writer, f *failover.DrainFigures) {
	fmt.Fprintf(out, `
   products under load              %8d   of %d that the worker held
   purchases per second, offered    %8.0f   (not sent in time: %d)
   longest wait before              %8.0f ms   (99 of 100: %.0f ms)
   longest wait from SIGTERM on     %8.0f ms   (99 of 100: %.0f ms)
   worker ended after               %8.0f ms
`, f.Products, f.Held, f.Rate, f.NotSent, f.LongestWaitBeforeMS, f.P99BeforeMS,
		f.LongestWaitMS, f.P99MS, f.DrainedMS)
	printVerdict(out, f.Verdict)
}

func newFailoverQuorum() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "quorum",
		Short: "Take the quorum from etcd for longer than a lock lives, and give it back",
		Long: `quorum kills one of etcd's three members and stops another, while buyers buy what is
held. The promise: that goes on at nine tenths of the rate before or more, and two
seconds after etcd answers again every product sells, held or not.`,
	}
	outage := cmd.Flags().Duration("outage", 45*time.Second, "how long etcd has no quorum")
	ttl := cmd.Flags().Duration("lock-ttl", 10*time.Second, "of the workers' locks")
	return experiment(cmd, func(ctx context.Context, cfg failover.Config) (*failover.QuorumFigures, error) {
		return failover.Quorum(ctx, failover.QuorumConfig{Config: cfg, Outage: *outage, LockTTL: *ttl})
	}, printQuorum)
}

func printQuorum(out io.Writer, f *failover.QuorumFigures) {
	fmt.Fprintf(out, `
   purchases per second before      %8.0f
   during %-16v          %8.0f   (locks live for %v)
   after                            %8.0f
   ratio                            %8.3f   (to the rate before)
   longest wait of a buyer then     %8.0f ms
   everything sold, etcd answering  %8.0f ms
   everything sold, etcd healed     %8.0f ms   (what was held: %.0f ms)
`, f.RateBefore, time.Duration(f.OutageMS)*time.Millisecond, f.RateDuring, time.Duration(f.LockTTLMS)*time.Millisecond,
		f.RateAfter, f.Ratio, f.LongestWaitMS, f.BackMS, f.BackSinceHealMS, f.HeldBackMS)
	printVerdict(out, f.Verdict)
}

func newFailoverLocks() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "locks",
		Short: "Have one worker hold ten thousand locks under load, then kill it",
		Long: `locks has one worker hold the lock of every product, with etcd on three members, and
watches the locks under a steady load. Then the worker is killed, and another one
takes over. The promise: no lock is lost, and each is renewed before two thirds of
its TTL have passed.`,
	}
	products := cmd.Flags().Int("products", 10_000, "products, and so locks")
	duration := cmd.Flags().Duration("duration", 10*time.Minute, "of the load")
	rate := cmd.Flags().Float64("rate", 1000, "purchases per second, over all products")
	return experiment(cmd, func(ctx context.Context, cfg failover.Config) (*failover.LocksFigures, error) {
		return failover.Locks(ctx, failover.LocksConfig{Config: cfg, Products: *products, Duration: *duration, Rate: *rate})
	}, printLocks)
}

func printLocks(out io.Writer, f *failover.LocksFigures) {
	const mebibyte = 1 << 20
	fmt.Fprintf(out, `
   locks held by one worker         %8d   had after %.1f s
   lost in %-16v         %8d
   lowest TTL left                  %8.0f s   of %d s, %.0f s above a third; %d samples
   purchases per second             %8.0f   of %.0f offered (not sent in time: %d)
   wait, median                     %8.1f ms   (99 of 100: %.1f ms, longest: %.0f ms)
   memory of the worker, no locks   %8.1f MiB
   with all locks, at rest          %8.1f MiB   (%d bytes a lock)
   after the load                   %8.1f MiB
   processors, at rest: etcd        %8.3f   worker %.3f
   processors, under load: etcd     %8.3f   worker %.3f
   taken over after a kill          %8.0f ms   (%.0f locks per second)
`, f.Locks, f.HoldMS/1000, time.Duration(f.DurationMS)*time.Millisecond, f.Lost,
		float64(f.LowestTTLMS)/1000, f.LockTTLMS/1000, float64(f.MarginMS)/1000, f.LeaseSamples,
		f.Reached, f.Rate, f.NotSent, f.P50MS, f.P99MS, f.WorstMS,
		float64(f.MemoryBefore)/mebibyte, float64(f.MemoryHeld)/mebibyte, f.MemoryPerLock, float64(f.MemoryAfter)/mebibyte,
		f.EtcdRest, f.WorkerRest, f.EtcdLoad, f.WorkerLoad, f.TakeoverMS, f.LocksPerSecond)
	printVerdict(out, f.Verdict)
}

func newFailoverHolds() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "holds",
		Short: "Have all units of a product held, and let the holds expire",
		Long: `holds has every unit of a product held, and lets all holds expire, with workers that do
not sweep them. The promise: a buyer who comes before that is refused; one who comes a
second after it waits less than 100 ms for his unit, each time; and then exactly as many
units can be sold as there are.`,
	}
	holds := cmd.Flags().Int("holds", 1000, "of one unit each, which are all there are of the product")
	hold := cmd.Flags().Duration("hold", 3*time.Second, "how long each lasts")
	repetitions := cmd.Flags().Int("repetitions", 10, "with a product of its own each")
	return experiment(cmd, func(ctx context.Context, cfg failover.Config) (*failover.HoldsFigures, error) {
		return failover.Holds(ctx, failover.HoldsConfig{Config: cfg, Holds: *holds, Hold: *hold, Repetitions: *repetitions})
	}, printHolds)
}

func printHolds(out io.Writer, f *failover.HoldsFigures) {
	fmt.Fprintf(out, `
   holds that expired               %8d   of %v, %d times, swept by nobody
   refused before that, at worst    %8.1f ms
   wait of the next buyer, median   %8.1f ms
   at worst                         %8.1f ms
   units sold again                 %8d   of %d
`, f.Holds, time.Duration(f.HoldMS)*time.Millisecond, f.Repetitions, f.RefusedWorstMS,
		f.P50MS, f.WorstMS, f.SoldAgain, f.Holds*f.Repetitions)
	printVerdict(out, f.Verdict)
}

func printVerdict(out io.Writer, v failover.Verdict) {
	fmt.Fprintf(out, `   purchases                        %8d   (calls repeated by buyers: %d)
   failed                           %8d
   oversold                         %8d
`, v.Purchases, v.Repeated, v.Failed, v.Oversold)
}
