package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

func newAudit() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Recount every shard from its rows; exit 1 if anything is oversold or does not add up",
		Long: `Recounts every shard from its rows, also while sales go on, and exits with 1 if anything is
oversold or does not add up.

With --repair it first mends what is safe to mend: running totals that differ from the rows
are set to what the rows say, under the locks of those who move them, and the tenure that
counted by a wrong total ends; holds whose time is up are expired. What it says is left
takes somebody who knows what happened. A total of what was given back that is too high is
among it: the database refuses to lower it, since the units may have been sold.`,
		Args: noArguments,
	}
	flags := cmd.Flags()
	shards, asJSON := shardFlags(flags), jsonFlag(flags)
	timeout := flags.Duration("timeout", 10*time.Minute, "give up after this long")
	repair := flags.Bool("repair", false, "first mend running totals that differ from their rows, and expire holds whose time is up")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dsns, err := shards()
		if err != nil {
			return err
		}
		opened, closeAll, err := openShards(dsns, uuid.Nil, insecureFlag(cmd.Flags())())
		if err != nil {
			return err
		}
		defer closeAll()
		ctx, cancel := context.WithTimeout(cmd.Context(), *timeout)
		defer cancel()
		return runAudit(ctx, cmd, opened, *repair, *asJSON)
	}
	return cmd
}

func runAudit(ctx context.Context, cmd *cobra.Command, shards []*ledger.Shard, repair, asJSON bool) error {
	var repaired *ledger.RepairReport
	if repair {
		show := newAuditProgress(cmd.ErrOrStderr(), "repair")
		report, err := ledger.Repair(ctx, shards, show.update)
		show.done()
		if printErr := printRepair(cmd, report, asJSON && err == nil); printErr != nil {
			return printErr
		}
		if err != nil {
			return &exitError{exitUnavailable, err}
		}
		repaired = report
	}
	show := newAuditProgress(cmd.ErrOrStderr(), "audit")
	report, err := ledger.AuditShowing(ctx, shards, show.update)
	show.done()
	if err != nil {
		return &exitError{exitUnavailable, err}
	}
	if err := printAudit(cmd, report, repaired, len(shards), asJSON); err != nil {
		return err
	}
	if !report.Clean() {
		return errors.New("audit: not clean")
	}
	return nil
}

// auditProgress draws how far all shards are together, on a terminal only.
type auditProgress struct {
	bar    *progress // nil without a terminal
	shards map[string]ledger.Progress
}

func newAuditProgress(out io.Writer, name string) *auditProgress {
	p := &auditProgress{shards: map[string]ledger.Progress{}}
	if bar := newProgress(out, name); bar.bars != nil {
		bar.estimated = true
		p.bar = bar
	}
	return p
}

func (p *auditProgress) update(of ledger.Progress) {
	p.shards[of.Shard] = of
	if p.bar != nil {
		p.bar.update(p.rows())
	}
}

// rows counts products and purchases. The estimate of all of them is never below those
// that were seen.
func (p *auditProgress) rows() (done, total int) {
	for _, of := range p.shards {
		done += int(of.Products + of.Purchases)
		total += int(max(of.OfProducts, of.Products) + max(of.OfPurchases, of.Purchases))
	}
	return done, total
}

func (p *auditProgress) done() {
	if p.bar != nil {
		p.bar.done()
	}
}

// printRepair says what a repair has changed; as JSON, printAudit does.
func printRepair(cmd *cobra.Command, r *ledger.RepairReport, asJSON bool) error {
	if asJSON {
		return nil
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "repaired: %d running totals set to what the rows say, %d holds expired\n", r.Totals, r.ExpiredHolds)
	if len(r.Repaired) == 0 {
		return nil
	}
	var rows [][]any
	for _, c := range r.Repaired {
		rows = append(rows, []any{c.ProductID, c.Shard, c.Total, c.From, c.To})
	}
	return table(out, []any{"PRODUCT", "SHARD", "TOTAL", "FROM", "TO"}, rows)
}

func printAudit(cmd *cobra.Command, r *ledger.AuditReport, repaired *ledger.RepairReport, shards int, asJSON bool) error {
	out := cmd.OutOrStdout()
	if asJSON {
		report := map[string]any{
			"shards": shards, "products": r.Products, "purchases": r.Purchases, "units": r.Units,
			"oversold": r.Oversold, "overdue_holds": r.OverdueHolds,
			"orphaned_payments": r.OrphanedPayments, "overdue_payments": r.OverduePayments,
			"undelivered_events": r.UndeliveredEvents,
			"findings":           r.Findings, "found": r.Found, "clean": r.Clean(),
		}
		if repaired != nil {
			report["repaired"] = map[string]any{
				"totals": repaired.Totals, "changes": repaired.Repaired, "expired_holds": repaired.ExpiredHolds,
			}
		}
		return printJSON(out, report)
	}
	found := r.Count()
	fmt.Fprintf(out, "%d shards, %d products, %d purchases of %d units: %d oversold, %d findings\n",
		shards, r.Products, r.Purchases, r.Units, r.Oversold, found)
	if r.OverdueHolds > 0 {
		fmt.Fprintf(out, "%d holds whose time was up a minute ago have not been expired\n", r.OverdueHolds)
	}
	if r.OverduePayments > 0 || r.UndeliveredEvents > 0 {
		fmt.Fprintf(out, "%d payments that a provider was to be asked about a minute ago, %d events that webhooks have not taken\n",
			r.OverduePayments, r.UndeliveredEvents)
	}
	if found == 0 {
		return nil
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Found)) {
		fmt.Fprintf(out, "%d %s\n", r.Found[kind], kind)
	}
	var rows [][]any
	for _, f := range r.Findings {
		rows = append(rows, []any{f.ProductID, f.Shard, f.Problem})
	}
	if err := table(out, []any{"PRODUCT", "SHARD", "PROBLEM"}, rows); err != nil {
		return err
	}
	if more := found - int64(len(rows)); more > 0 {
		fmt.Fprintf(out, "and %d more\n", more)
	}
	return nil
}
