// Package demo shows, on real servers and real orders, what holdfast is for: it
// first lets the usual code oversell, then sells the same way through holdfast,
// kills the worker that matters most half-way, and recounts everything.
//
// It owns the order of events and the figures; the orders and the judgement are
// package replay's, the servers package local's. It never reports a figure that
// it did not measure in this run.
package demo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/deploy/local"
	"github.com/holdfast-io/holdfast/deploy/replay"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// Config says what the demo runs on. Fields without a default are required.
type Config struct {
	Stack  *local.Stack // with two shards, and at least two workers
	Etcd   cluster.Directory
	Orders *replay.Orders
	Buyers int // at once; 32 when zero

	// Say prints a line, Progress how far the sale is.
	Say      func(format string, args ...any)
	Progress func(done, total int)
}

// Figures are what the demo measured.
type Figures struct {
	NaiveOversold      int64   `json:"naive_oversold"`
	ForUpdateOversold  int64   `json:"for_update_oversold"`
	LinesOffered       int     `json:"lines_offered"`
	Admitted           int     `json:"admitted"`
	Refused            int     `json:"refused"`
	Skipped            int     `json:"skipped"`
	Failed             int     `json:"failed"`
	Oversold           int64   `json:"oversold"`
	Lost               int     `json:"lost"`
	Doubled            int     `json:"doubled"`
	FalseRefusals      int     `json:"false_refusals"`
	HoldersKilled      int     `json:"holders_killed"`
	LongestGapMS       float64 `json:"longest_gap_ms"`
	PurchasesPerSecond float64 `json:"purchases_per_second"`
}

// Run runs the demo. The error says that it could not be run to its end, or that
// the audit found something; the figures are valid in the second case too.
func Run(ctx context.Context, cfg Config) (*Figures, error) {
	figures := &Figures{}
	cfg.Say("1. The question's race: check, pay, insert, from two databases at once")
	if err := cfg.race(ctx, figures); err != nil {
		return nil, fmt.Errorf("race: %w", err)
	}
	cfg.Say("2. holdfast on real orders, two databases, %d workers; one is killed half-way", len(cfg.Stack.Workers))
	report, killed, err := cfg.sell(ctx)
	if err != nil {
		return nil, fmt.Errorf("sell: %w", err)
	}
	cfg.Say("3. The audit, recounted from the rows of all shards")
	return figures, cfg.audit(ctx, figures, report, killed)
}

// raceDatabase keeps the tables of the race apart from holdfast's.
const raceDatabase = "question"

// race lets the usual code oversell.
func (cfg *Config) race(ctx context.Context, figures *Figures) error {
	dsns := map[string]string{}
	for shard, pg := range cfg.Stack.Postgres {
		if err := pg.CreateDatabase(ctx, raceDatabase); err != nil {
			return err
		}
		dsns[shard] = pg.DSN(raceDatabase)
	}
	const products, stock, buyers, payment = 12, 10, 16, 10 * time.Millisecond
	cfg.Say("   %d products of %d units, %d buyers, a payment takes %v", products, stock, buyers, payment)
	for _, strategy := range []Strategy{NoLock, ForUpdate} {
		result, err := Race(ctx, RaceConfig{
			DSNs: dsns, Products: products, Stock: stock, Buyers: buyers, Payment: payment, Strategy: strategy,
		})
		if err != nil {
			return err
		}
		cfg.Say("   %-20s sold %d of %d: %d units oversold, %.0f/s",
			strategy, result.Sold, int64(products*stock), result.Oversold, result.PurchasesPerSecond)
		if strategy == NoLock {
			figures.NaiveOversold = result.Oversold
		} else {
			figures.ForUpdateOversold = result.Oversold
		}
	}
	return nil
}

// sell replays the orders and kills a holder half-way.
func (cfg *Config) sell(ctx context.Context) (*replay.Report, *killing, error) {
	conn, err := grpc.NewClient(cfg.Stack.GRPCAddress, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = conn.Close() }()
	shards := cfg.Stack.Shards()
	killed := &killing{}
	var killErr error
	report, err := replay.Run(ctx, replay.Config{
		Products:  holdfastv1.NewProductServiceClient(conn),
		Purchases: holdfastv1.NewPurchaseServiceClient(conn),
		Orders:    cfg.Orders, Buyers: cfg.Buyers, Progress: cfg.Progress,
		Region: func(country string) string {
			if country == "United Kingdom" {
				return shards[0]
			}
			return shards[1]
		},
		Halfway: func(ctx context.Context) { killErr = cfg.kill(ctx, killed) },
	})
	return report, killed, errors.Join(err, killErr)
}

// audit recounts, compares with what the buyers were told, and fails when a
// promise was broken.
func (cfg *Config) audit(ctx context.Context, figures *Figures, report *replay.Report, killed *killing) error {
	var shards []*ledger.Shard
	for name, dsn := range cfg.Stack.DSNs() {
		s, err := ledger.Open(ledger.Config{Name: name, DSN: dsn})
		if err != nil {
			return err
		}
		defer s.Close()
		shards = append(shards, s)
	}
	recount, err := ledger.Audit(ctx, shards)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	stock, err := storage(ctx, shards[0])
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	verdict, err := replay.Judge(report, stock, rows(ctx, shards))
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	figures.take(verdict)
	figures.HoldersKilled = killed.holders
	figures.LongestGapMS = milliseconds(replay.LongestGap(report, killed.products, killed.at))
	cfg.Say("   %d products, %d purchases, %d units on %d shards; running totals and fences agree: %v",
		recount.Products, recount.Purchases, recount.Units, len(shards), recount.Clean())
	for _, evidence := range verdict.Evidence {
		cfg.Say("   %s", evidence)
	}
	for _, f := range recount.Findings {
		cfg.Say("   %s %s: %s", f.ProductID, f.Shard, f.Problem)
	}
	if !recount.Clean() {
		return errors.New("audit: the shards do not add up")
	}
	return verdict.Err()
}

func (f *Figures) take(v replay.Verdict) {
	f.LinesOffered, f.Admitted, f.Refused, f.Skipped, f.Failed = v.Offered, v.Admitted, v.Refused, v.Skipped, v.Failed
	f.Oversold, f.Lost, f.Doubled, f.FalseRefusals = v.Oversold, v.Lost, v.Doubled, v.FalseRefusals
	f.PurchasesPerSecond = v.PurchasesPerSecond
}

// storage reads the amounts in storage; every shard has all of them.
func storage(ctx context.Context, s *ledger.Shard) (map[string]int64, error) {
	const page = 1000
	stock := map[string]int64{}
	for after := ""; ; {
		products, err := s.Products(ctx, after, page)
		if err != nil {
			return nil, err
		}
		for _, p := range products {
			stock[p.ProductID] = p.AmountInStorage
			after = p.ProductID
		}
		if len(products) < page {
			return stock, nil
		}
	}
}

// rows are what customers have of the purchases of all shards, as the judgement wants them.
func rows(ctx context.Context, shards []*ledger.Shard) iter.Seq2[replay.Row, error] {
	return func(yield func(replay.Row, error) bool) {
		for _, s := range shards {
			for p, err := range s.AllPurchases(ctx) {
				if err == nil && p.Has() == 0 {
					continue
				}
				row := replay.Row{
					PurchaseID: holdfastv1.PurchaseID(s.Name(), p.PurchaseID), ProductID: p.ProductID,
					RequestID: p.RequestID, Amount: p.Has(),
				}
				if !yield(row, err) || err != nil {
					return
				}
			}
		}
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
