package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Repaired is a running total that was set to what the rows say.
type Repaired struct {
	ProductID string
	Shard     string
	Total     string // "purchased" or "released"
	From, To  int64
}

// RepairReport is what a repair has changed.
type RepairReport struct {
	Totals       int64      // running totals that were set
	Repaired     []Repaired // the first thousand of them
	ExpiredHolds int64
}

// Repair recounts every shard as AuditShowing does, and mends what can be mended safely,
// also while sales go on: running totals that differ from their rows, and holds whose time
// is up.
//
// It does not touch the rest, which takes somebody who knows what happened: what is
// oversold, purchases above their fence or without one, amounts that differ, and a total of
// what was given back that is too high. Units that nobody gave back may have been sold by
// it already, and while a tenure goes by it more of them would be; the database refuses to
// lower it.
func Repair(ctx context.Context, shards []*Shard, show func(Progress)) (*RepairReport, error) {
	report := &RepairReport{}
	for _, s := range shards {
		for {
			n, err := s.ExpireDue(ctx)
			if err != nil {
				return report, err
			}
			if report.ExpiredHolds += n; n == 0 {
				break
			}
		}
	}
	a := newAudit(shards, show)
	a.totalsOff = func(ctx context.Context, s *Shard, productID string) error {
		repaired, err := s.repairTotals(ctx, productID)
		report.Totals += int64(len(repaired))
		report.Repaired = append(report.Repaired, repaired[:min(len(repaired), maxFindings-len(report.Repaired))]...)
		return err
	}
	return report, a.run(ctx)
}

// In this order, as by those who change purchases. Whoever has changed rows and not yet a
// total waits for these locks, and his rows are not counted; whoever has changed the total
// is waited for, and his rows are, because the count is a statement of its own.
const (
	insertRelease = `INSERT INTO releases (product_id, released) VALUES (@product_id, 0) ON CONFLICT DO NOTHING`
	lockRelease   = `SELECT FROM releases WHERE product_id = @product_id FOR UPDATE`
	lockFence     = `SELECT FROM fences WHERE product_id = @product_id FOR UPDATE`

	recountTotals = `
SELECT f.purchased, r.released,
       (coalesce(p.taken, 0) + coalesce(d.missing, 0))::bigint, (coalesce(p.given_back, 0) + coalesce(d.delivered, 0))::bigint
  FROM releases r LEFT JOIN fences f ON f.product_id = r.product_id,
       (SELECT sum(amount + readmitted) AS taken, sum(released) AS given_back
          FROM purchases WHERE product_id = @product_id) p,
       (SELECT sum(amount) FILTER (WHERE amount > 0) AS delivered, -sum(amount) FILTER (WHERE amount < 0) AS missing
          FROM deliveries WHERE product_id = @product_id) d
 WHERE r.product_id = @product_id`

	setReleased = `UPDATE releases SET released = @units WHERE product_id = @product_id`

	// The tenure of the fence has counted by the wrong total. It ends, since nobody is that
	// tenure any more; a newer one counts by the right one.
	setPurchased = `UPDATE fences SET purchased = @units, tenure_id = gen_random_uuid() WHERE product_id = @product_id`
)

// repairTotals sets the running totals of a product to what its rows say, while nobody
// moves them.
func (s *Shard) repairTotals(ctx context.Context, productID string) (repaired []Repaired, err error) {
	args := pgx.NamedArgs{"product_id": productID}
	err = pgx.BeginFunc(ctx, s.list, func(tx pgx.Tx) error {
		for _, sql := range []string{wholeTables, insertRelease, lockRelease, lockFence} {
			if _, err := tx.Exec(ctx, sql, args); err != nil {
				return err
			}
		}
		var (
			purchased                       *int64 // nil without a fence
			released, soldRows, releaseRows int64
		)
		if err := tx.QueryRow(ctx, recountTotals, args).Scan(&purchased, &released, &soldRows, &releaseRows); err != nil {
			return err
		}
		set := func(sql, total string, from, to int64) error {
			args["units"] = to
			repaired = append(repaired, Repaired{productID, s.name, total, from, to})
			_, err := tx.Exec(ctx, sql, args)
			return err
		}
		if released < releaseRows {
			if err := set(setReleased, "released", released, releaseRows); err != nil {
				return err
			}
		}
		if purchased != nil && *purchased != soldRows {
			return set(setPurchased, "purchased", *purchased, soldRows)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("shard %s: repair: %w", s.name, commitError(err))
	}
	return repaired, nil
}
