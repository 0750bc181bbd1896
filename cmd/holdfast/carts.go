package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/deploy/carts"
	"github.com/holdfast-io/holdfast/deploy/replay"
)

func newCarts() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "carts",
		Short: "Sell the carts of a real shop for money, kill workers meanwhile, and balance the books",
		Long: `carts starts etcd, two Postgres servers, a coordinator, workers and a simulated payment
provider on this machine. Each invoice of a real shop becomes an order that is paid in
pence, and each credit note gives back what the customer bought before. The provider
declines 5 in 100 payments, answers 2 in 100 calls too late and loses 2 answers in 100;
workers are killed all the while. In the end every order is held against the provider's
ledger.

An invoice of more than 100 products becomes several orders, and so does one that has the
same product at several prices; each is paid by itself. Exits 1 on any difference.`,
		Args: noArguments,
	}
	flags := cmd.Flags()
	stack, asJSON := stackFlags(flags), jsonFlag(flags)
	customers := flags.Int("customers", 32, "customers at once")
	every := flags.Duration("kill-every", 3*time.Second, "between two kills of a worker")
	seed := flags.Uint64("seed", 1, "decides which calls of the provider go wrong")
	scarce := flags.Int("scarce", 20, "one of so many products has four fifths of its demand in storage, the others all of it")
	first := flags.Int("first", 0, "only so many carts of the file (default all)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		all, err := replay.RealCarts()
		if err != nil {
			return err
		}
		if *first > 0 {
			all = all.First(*first)
		}
		if *customers < 1 || *every <= 0 || *scarce < 1 {
			return usageError("--customers, --kill-every, --scarce: must be above 0")
		}
		cfg, done, err := stack()
		if err != nil {
			return err
		}
		defer done()
		if cfg.Workers < 2 {
			return usageError("--workers: they are killed, so there must be at least 2")
		}
		out := cmd.OutOrStdout()
		if *asJSON {
			out = cmd.ErrOrStderr()
		}
		p := newProgress(out, "carts")
		defer p.done()
		fmt.Fprintf(out, "Starting etcd, two Postgres servers, a payment provider, a coordinator and %d workers\n", cfg.Workers)
		f, err := carts.Run(cmd.Context(), carts.Config{
			Stack: cfg, Carts: all, Faults: carts.Faults(*seed), Customers: *customers, KillEvery: *every, Scarce: *scarce,
			Say: p.say, Progress: p.update,
		})
		if f != nil {
			printCarts(out, f)
			if *asJSON {
				err = errors.Join(err, printJSON(cmd.OutOrStdout(), f))
			}
		}
		return err
	}
	return cmd
}

func printCarts(out io.Writer, f *carts.Figures) {
	var unmatched []string
	for _, u := range f.CreditNotesUnmatched {
		unmatched = append(unmatched, fmt.Sprintf("%s (%d of %s)", u.CreditNote, u.Units, u.ProductID))
	}
	r, p := f.Books.Rows, f.Books.Provider
	fmt.Fprintf(out, `
   carts                          %8d   in %.1f s; workers killed: %d
   products                       %8d   %d of them with four fifths of their demand
   orders                         %8d   of %d lines
   confirmed                      %8d   of %d lines
   declined                       %8d
   failed for want of stock       %8d
   failed otherwise, expired      %8d   %s
   credit note lines              %8d   returned: %d, in part: %d, without a purchase: %d
   units returned                 %8d

                                      rows     provider
   payments                       %8d     %8d
   captured, pence                %8d     %8d
   refunded, pence                %8d     %8d
   declined                       %8d     %8d
   voided                         %8d     %8d
   left authorized, pence         %8d     %8d
   captured, refunded twice       %8d     %8d
   calls repeated, nothing moved  %8d captures, %d refunds

   settled after                  %8.1f s
   audit findings                 %8d
   orders without an answer       %8d
   customers told otherwise       %8d
   differences                    %8d
`, f.Carts, f.Seconds, f.Kills, f.Products, f.ScarceProducts, f.Orders, f.Lines, f.Confirmed, f.ConfirmedLines, f.Declined, f.FailedForStock,
		f.FailedOtherwise+f.Expired, reasonsOf(f), f.CreditNoteLines, f.CreditNoteLinesReturned, f.CreditNoteLinesInPart, len(unmatched),
		f.ReturnedUnits, r.Payments, p.Payments, r.Captured, p.Captured, r.Refunded, p.Refunded, r.Declined, p.Declined,
		r.Voided, p.Voided, r.LeftAuthorized, p.LeftAuthorized, f.Books.DoubleCaptures, f.Books.DoubleRefunds,
		f.Books.RepeatedCaptures, f.Books.RepeatedRefunds, f.SettledSeconds, f.AuditFindings, f.Untold, len(f.Wrong), f.Differences)
	if len(unmatched) > 0 {
		fmt.Fprintf(out, "\n   credit notes without a purchase in this run: %s\n", strings.Join(unmatched, ", "))
	}
	for _, d := range f.Books.Differences {
		fmt.Fprintf(out, "   order %s: %s\n", d.OrderID, d.Problem)
	}
	for _, w := range f.Wrong {
		fmt.Fprintf(out, "   %s\n", w)
	}
}

// reasonsOf says why orders failed for which there was stock.
func reasonsOf(f *carts.Figures) string {
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(f.OtherReasons)) {
		reasons = append(reasons, fmt.Sprintf("%d %s", f.OtherReasons[reason], reason))
	}
	return strings.Join(reasons, ", ")
}
