package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

func newAudit() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Recount every shard from its rows; exit 1 if anything is oversold or does not add up",
		Args:  noArguments,
	}
	flags := cmd.Flags()
	shards, asJSON := shardFlags(flags), jsonFlag(flags)
	timeout := flags.Duration("timeout", 10*time.Minute, "give up after this long")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dsns, err := shards()
		if err != nil {
			return err
		}
		opened, closeAll, err := openShards(dsns, uuid.Nil)
		if err != nil {
			return err
		}
		defer closeAll()
		ctx, cancel := context.WithTimeout(cmd.Context(), *timeout)
		defer cancel()
		report, err := ledger.Audit(ctx, opened)
		if err != nil {
			return &exitError{exitUnavailable, err}
		}
		if err := printAudit(cmd, report, len(opened), *asJSON); err != nil {
			return err
		}
		if !report.Clean() {
			return errors.New("audit: not clean")
		}
		return nil
	}
	return cmd
}

func printAudit(cmd *cobra.Command, r *ledger.AuditReport, shards int, asJSON bool) error {
	out := cmd.OutOrStdout()
	if asJSON {
		return printJSON(out, map[string]any{
			"shards": shards, "products": r.Products, "purchases": r.Purchases, "units": r.Units,
			"oversold": r.Oversold, "findings": r.Findings, "clean": r.Clean(),
		})
	}
	fmt.Fprintf(out, "%d shards, %d products, %d purchases of %d units: %d oversold, %d findings\n",
		shards, r.Products, r.Purchases, r.Units, r.Oversold, len(r.Findings))
	if len(r.Findings) == 0 {
		return nil
	}
	var rows [][]any
	for _, f := range r.Findings {
		rows = append(rows, []any{f.ProductID, f.Shard, f.Problem})
	}
	return table(out, []any{"PRODUCT", "SHARD", "PROBLEM"}, rows)
}
