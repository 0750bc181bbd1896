package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/deploy/chaos/payments"
)

func newChaosPayments() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "payments",
		Short: "Kill workers at every step of a payment, and balance the books",
		Long: `payments starts etcd, two Postgres servers, a payment provider, a coordinator and three
workers on this machine. It stops orders at each step of their payment, at the provider or
in the database, and kills the worker there (SIGKILL). Half of the buyers repeat their
call, the others never come back. In the end every order is held against the provider's
ledger: what is confirmed is captured once, what is not is let go, what was returned is
refunded once. Exits 1 on any difference.`,
		Args: noArguments,
	}
	flags := cmd.Flags()
	stack, asJSON := chaosStackFlags(cmd), jsonFlag(flags)
	each := flags.Int("each", 100, "rounds of each step")
	atOnce := flags.Int("at-once", 32, "rounds of one kill, 1 to 32")
	hold := flags.Duration("hold", 6*time.Second, "of orders whose buyer never comes back")
	only := flags.String("only", "", "only steps whose name contains this")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *each < 1 || *atOnce < 1 || *atOnce > 32 || *hold <= 0 {
			return usageError("--each, --at-once, --hold: out of range")
		}
		var steps []payments.Step
		for _, s := range payments.Steps {
			if strings.Contains(s.Name, *only) {
				steps = append(steps, s)
			}
		}
		if len(steps) == 0 {
			return usageError("--only: no step is named so")
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
		r, err := payments.Run(cmd.Context(), payments.Config{
			Stack: cfg, Each: *each, AtOnce: *atOnce, Hold: *hold, Steps: steps,
			Say: func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) },
		})
		if err != nil {
			return err
		}
		p := r.Books.Provider
		fmt.Fprintf(out, "   captured %d, refunded %d, voided %d payments; twice: %d captures, %d refunds; differences: %d\n",
			p.Captured, p.Refunded, p.Voided, r.Books.DoubleCaptures, r.Books.DoubleRefunds, len(r.Books.Differences))
		for _, d := range r.Books.Differences {
			fmt.Fprintf(out, "   order %s: %s\n", d.OrderID, d.Problem)
		}
		printEvidence(out, r.Wrong)
		if *asJSON {
			err = printJSON(cmd.OutOrStdout(), r)
		}
		return errors.Join(err, r.Err())
	}
	return cmd
}
