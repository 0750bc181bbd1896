package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/api/client"
	"github.com/holdfast-io/holdfast/deploy/replay"
)

func newReplay() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay FILE.csv",
		Short: "Buy the order lines of a CSV file, with many buyers at once",
		Long: `replay reads order lines with the columns InvoiceNo, StockCode, Quantity, CustomerID
and Country, as in the UCI data set "Online Retail", creates the products, each with
four fifths of its demand in storage, and buys every line.`,
		Args: arguments("FILE.csv"),
	}
	flags := cmd.Flags()
	connected, asJSON := coordinatorFlags(flags), jsonFlag(flags)
	buyers := flags.Int("buyers", 32, "buyers at once")
	prefix := flags.String("id-prefix", time.Now().Format("150405-"), "put before product and request ids, so that a file can be replayed again")
	regions := flags.StringToString("region", nil, "region of a country, as in 'France=eu'; others follow from the customer")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		orders, err := readOrders(args[0])
		if err != nil {
			return err
		}
		return connected(func(c *client.Client) error {
			p := newProgress(cmd.ErrOrStderr(), "orders")
			defer p.done()
			report, err := replay.Run(cmd.Context(), replay.Config{
				Products: c, Purchases: c,
				Orders: orders, Buyers: *buyers, Prefix: *prefix, Progress: p.update,
				Region: func(country string) string { return (*regions)[country] },
			})
			if err != nil {
				return err
			}
			return printReplay(cmd, report, orders, *asJSON)
		})
	}
	return cmd
}

func readOrders(path string) (*replay.Orders, error) {
	file, err := os.Open(path) //nolint:gosec // the user names the file
	if err != nil {
		return nil, usageError("FILE.csv: %w", err)
	}
	defer func() { _ = file.Close() }()
	orders, err := replay.Read(file)
	if err != nil {
		return nil, usageError("%s: %w", path, err)
	}
	return orders, nil
}

func printReplay(cmd *cobra.Command, report *replay.Report, orders *replay.Orders, asJSON bool) error {
	counts := map[replay.Answer]int{}
	failure := ""
	for _, o := range report.Outcomes {
		counts[o.Answer]++
		if o.Answer == replay.Failed {
			failure = o.Failure
		}
	}
	rate := float64(counts[replay.Admitted]) / report.Elapsed.Seconds()
	out := cmd.OutOrStdout()
	if asJSON {
		return printJSON(out, map[string]any{
			"lines_offered": len(report.Outcomes), "admitted": counts[replay.Admitted], "refused": counts[replay.Refused],
			"failed": counts[replay.Failed], "skipped": orders.Skipped, "purchases_per_second": rate,
		})
	}
	var skipped []string
	for reason, n := range orders.Skipped {
		skipped = append(skipped, fmt.Sprintf("%d %s", n, reason))
	}
	fmt.Fprintf(out, "%d order lines: %d admitted, %d refused, %d failed; skipped: %s; %.0f purchases/s\n",
		len(report.Outcomes), counts[replay.Admitted], counts[replay.Refused], counts[replay.Failed],
		strings.Join(skipped, ", "), rate)
	if counts[replay.Failed] > 0 {
		return &exitError{exitUnavailable, fmt.Errorf("%d lines got no outcome, the last because of: %s", counts[replay.Failed], failure)}
	}
	return context.Cause(cmd.Context())
}
