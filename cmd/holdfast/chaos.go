package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/deploy/chaos"
	"github.com/holdfast-io/holdfast/deploy/local"
)

// chaosFigures is the last line of a run.
type chaosFigures struct {
	Seed              uint64         `json:"seed"`
	Faults            map[string]int `json:"faults"`
	Purchases         int            `json:"purchases"`
	Refused           int            `json:"refused"`
	Unanswered        int            `json:"unanswered"`
	Expired           int            `json:"expired"`
	ConfirmedLate     int            `json:"confirmed_late"`
	Oversold          int64          `json:"oversold"`
	Lost              int            `json:"lost"`
	Doubled           int            `json:"doubled"`
	FalseRefusals     int            `json:"false_refusals"`
	Broken            int            `json:"broken"`
	Linearizable      bool           `json:"linearizable"`
	ControlViolations int            `json:"control_violations"`
	ControlRefusals   int            `json:"control_false_refusals"`
	LongestWaitMS     float64        `json:"longest_wait_ms"`
	RecoveredMS       float64        `json:"recovered_ms"`
	SweptMS           float64        `json:"swept_ms"`
	UnexpectedAnswers int            `json:"unexpected_answers"`
	EndedByThemselves int            `json:"ended_by_themselves"`

	Operations map[chaos.Kind]*chaos.Answers `json:"operations"`
}

func newChaos() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "chaos",
		Short: "Sell while workers, etcd, databases and connections fail, and judge every answer",
		Long: `chaos starts three etcd servers, three Postgres servers (one is no shard before it
is added), two coordinators and three workers on this machine, with a proxy on
every connection of a worker. Buyers buy, hold, confirm, cancel and return, and
operators deliver, while a schedule drawn from --seed kills, pauses, stalls and cuts
off what it meets. Then all rows are held against what they were told.

First a control without fencing, which forgets what is given back, must be caught
overselling and refusing what is there. The last line is one JSON object; with --json
everything else goes to standard error. Exits 1 if any promise was broken, or the
control was not caught.`,
		Args: noArguments,
	}
	flags := cmd.Flags()
	stack, asJSON := chaosStackFlags(cmd), jsonFlag(flags)
	seed := flags.Uint64("seed", 1, "what the schedule is drawn from")
	duration := flags.Duration("duration", time.Minute, "how long faults are injected; 60 s is enough for each kind once")
	only := flags.String("only", "", "inject only these faults, by name, separated by commas")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		faults, err := chaos.Only(*only)
		if err != nil {
			return usageError("--only: %w", err)
		}
		cfg, done, err := stack()
		if err != nil {
			return err
		}
		defer done()
		out := cmd.OutOrStdout()
		if *asJSON {
			out = cmd.ErrOrStderr()
		}
		figures, err := runChaos(cmd.Context(), out, chaos.Config{
			Stack: cfg, Seed: *seed, Duration: *duration, Faults: faults,
			Say: func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) },
		})
		if figures != nil {
			err = errors.Join(err, printJSON(cmd.OutOrStdout(), figures))
		}
		return err
	}
	cmd.AddCommand(newChaosPayments())
	return cmd
}

// chaosStackFlags are those of other local stacks but the number of workers.
func chaosStackFlags(cmd *cobra.Command) func() (local.StackConfig, func(), error) {
	stack := stackFlags(cmd.Flags())
	_ = cmd.Flags().MarkHidden("workers") // a schedule needs three
	return stack
}

func runChaos(ctx context.Context, out io.Writer, cfg chaos.Config) (*chaosFigures, error) {
	dir := cfg.Stack.Dir
	fmt.Fprintln(out, "1. The control: the same buyers, and shards that refuse no tenure and forget what is given back")
	cfg.Stack.Dir = filepath.Join(dir, "control")
	control, err := chaos.Control(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	printEvidence(out, control.Evidence)
	fmt.Fprintf(out, "   %d admitted, %d refused: %d violations, %d units oversold, %d false refusals, %d products not linearizable\n",
		control.Purchases, control.Refused, control.Violations(), control.Oversold, control.FalseRefusals,
		len(control.NotLinearizable))
	fmt.Fprintf(out, "2. Seed %d: %v of faults\n", cfg.Seed, cfg.Duration)
	cfg.Stack.Dir = filepath.Join(dir, "run")
	r, err := chaos.Run(ctx, cfg)
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(out, "3. The judgement")
	printReport(out, r)
	figures := chaosFiguresOf(cfg.Seed, r, control)
	if control.Oversold == 0 {
		err = errors.New("the control without fencing was not caught overselling")
	}
	if control.FalseRefusals == 0 {
		err = errors.Join(err, errors.New("the control that forgets what is given back was not caught"))
	}
	return figures, errors.Join(r.Err(), err)
}

func printReport(out io.Writer, r *chaos.Report) {
	printEvidence(out, r.Evidence)
	printEvidence(out, r.Failures)
	printEvidence(out, r.Ended)
	for message, times := range r.Unexpected {
		fmt.Fprintf(out, "   unexpected answer, %d times: %s\n", times, message)
	}
	fmt.Fprintf(out, "   waited longest, in %d attempts: %v\n", r.Slowest.Attempts, r.Slowest)
	for _, kind := range slices.Sorted(maps.Keys(r.Operations)) {
		a := r.Operations[kind]
		fmt.Fprintf(out, "   %-8s %5d done, %5d refused, %2d unanswered, %4d repeated\n", kind, a.Done, a.Refused, a.Unanswered, a.Repeated)
	}
	fmt.Fprintf(out, "   %d holds expired, %d were confirmed after that\n", r.Expired, r.ConfirmedLate)
	fmt.Fprintf(out, "   %d admitted, %d refused, %d unanswered; oversold %d, lost %d, doubled %d, false refusals %d, broken %d\n",
		r.Purchases, r.Refused, r.Unanswered, r.Oversold, r.Lost, r.Doubled, r.FalseRefusals, r.Broken)
}

func printEvidence(out io.Writer, evidence []string) {
	const most = 10
	for i, e := range evidence {
		if i == most {
			fmt.Fprintf(out, "   and %d more\n", len(evidence)-most)
			return
		}
		fmt.Fprintf(out, "   %s\n", e)
	}
}

func chaosFiguresOf(seed uint64, r *chaos.Report, control *chaos.Verdict) *chaosFigures {
	f := &chaosFigures{
		Seed: seed, Faults: r.Faults, Purchases: r.Purchases, Refused: r.Refused, Unanswered: r.Unanswered,
		Oversold: r.Oversold, Lost: r.Lost, Doubled: r.Doubled, FalseRefusals: r.FalseRefusals, Broken: r.Broken,
		Expired: r.Expired, ConfirmedLate: r.ConfirmedLate, Operations: r.Operations,
		Linearizable: len(r.NotLinearizable) == 0, ControlViolations: control.Violations(), ControlRefusals: control.FalseRefusals,
		LongestWaitMS: float64(r.LongestWait.Milliseconds()), RecoveredMS: float64(r.Recovered.Milliseconds()),
		SweptMS: float64(r.Swept.Milliseconds()), EndedByThemselves: len(r.Ended),
	}
	for _, times := range r.Unexpected {
		f.UnexpectedAnswers += times
	}
	return f
}
