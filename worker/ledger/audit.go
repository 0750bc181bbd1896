package ledger

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"
)

// Kind is what an audit can have against a product.
type Kind string

// What an audit finds.
const (
	Oversold      Kind = "oversold"       // customers have more units than there are
	PurchasedOff  Kind = "purchased_off"  // the running total of what was sold is not that of the rows
	ReleasedOff   Kind = "released_off"   // nor that of what was given back
	AboveFence    Kind = "above_fence"    // purchases of a tenure that is newer than the fence
	NoFence       Kind = "no_fence"       // purchases without a fence
	NoProduct     Kind = "no_product"     // purchases of a product that no shard knows
	AmountsDiffer Kind = "amounts_differ" // shards disagree on the amount in storage

	OrphanedPayments Kind = "orphaned_payments" // money and units have parted; see Backlog
)

// Kinds are all there are.
func Kinds() []Kind {
	return []Kind{Oversold, PurchasedOff, ReleasedOff, AboveFence, NoFence, NoProduct, AmountsDiffer, OrphanedPayments}
}

// Finding is what an audit has against one product.
type Finding struct {
	ProductID string
	Shard     string // empty when it concerns all shards together
	Kind      Kind
	Problem   string // in words
}

// maxFindings bounds what a report lists.
const maxFindings = 1000

// AuditReport is a recount of all shards.
type AuditReport struct {
	Products     int64 // known to any shard
	Purchases    int64 // rows on all shards
	Units        int64 // units that customers have, on all shards
	Oversold     int64 // units sold beyond the storage, over all products
	OverdueHolds int64 // holds that nobody has expired a minute after their time was up; no fault in itself

	Backlog                 // of all shards
	Findings []Finding      // the first thousand
	Found    map[Kind]int64 // how many there are in all
}

// Clean reports whether nothing was found.
func (r *AuditReport) Clean() bool { return r.Oversold == 0 && len(r.Findings) == 0 }

// Count is how many findings there are, listed or not.
func (r *AuditReport) Count() (n int64) {
	for _, found := range r.Found {
		n += found
	}
	return n
}

func (r *AuditReport) found(product, shard string, kind Kind, format string, args ...any) {
	r.Found[kind]++
	if len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, Finding{product, shard, kind, fmt.Sprintf(format, args...)})
	}
}

// Progress is how far the recount of one shard is. The whole is what Postgres last
// estimated, and 0 when it has no idea.
type Progress struct {
	Shard                  string
	Products, OfProducts   int64
	Purchases, OfPurchases int64
}

// Audit is AuditShowing without anybody who looks on.
func Audit(ctx context.Context, shards []*Shard) (*AuditReport, error) {
	return AuditShowing(ctx, shards, func(Progress) {})
}

// AuditShowing recounts every shard from its rows and holds the sums against the storage,
// the running totals and the fences. It shows, by one goroutine, how far each shard is.
//
// It needs little memory, however many rows there are: each shard sends its products in
// the order of their ids, as one snapshot, and they are merged as they come.
//
// It may run while sales go on. The snapshots of two shards are of different moments: units
// that one shard gave back after its snapshot, and that another one sold before its own,
// look as if they were oversold. So what looks oversold is counted again in a way that
// proves it (see proveOversold) before it is reported.
func AuditShowing(ctx context.Context, shards []*Shard, show func(Progress)) (*AuditReport, error) {
	a := newAudit(shards, show)
	if err := a.run(ctx); err != nil {
		return nil, err
	}
	for _, s := range shards {
		owed, err := s.Backlog(ctx)
		if err != nil {
			return nil, err
		}
		a.report.owe(s.name, owed)
	}
	return a.report, nil
}

// owe adds what a shard owes.
func (r *AuditReport) owe(shard string, b Backlog) {
	r.OrphanedPayments += b.OrphanedPayments
	r.OverduePayments += b.OverduePayments
	r.UndeliveredEvents += b.UndeliveredEvents
	if b.OrphanedPayments > 0 {
		r.found("", shard, OrphanedPayments, "%d payments that nobody will capture or let go", b.OrphanedPayments)
	}
}

// audit is one in the making.
type audit struct {
	shards  []*Shard
	sources []*source // of the shards, in their order
	show    func(Progress)
	suspect []stock // products that look oversold
	report  *AuditReport

	// totalsOff, when set, is told of each running total that is not that of the rows.
	totalsOff func(ctx context.Context, s *Shard, productID string) error
}

func newAudit(shards []*Shard, show func(Progress)) *audit {
	a := &audit{shards: shards, show: show, report: &AuditReport{Found: map[Kind]int64{}}}
	for _, s := range shards {
		a.sources = append(a.sources, &source{shard: s, pages: make(chan []account, 1), progress: Progress{Shard: s.name}})
	}
	return a
}

func (a *audit) run(ctx context.Context) error {
	for _, src := range a.sources {
		if err := src.estimate(ctx); err != nil {
			return err
		}
		a.show(src.progress)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, src := range a.sources {
		g.Go(func() error { return src.read(ctx) })
	}
	g.Go(func() error { return a.merge(ctx) })
	return g.Wait()
}

// merge takes in what the shards say, product by product.
func (a *audit) merge(ctx context.Context) error {
	for {
		var first *source
		for _, src := range a.sources {
			if src.head(a.show) != nil && (first == nil || src.page[0].ProductID < first.page[0].ProductID) {
				first = src
			}
		}
		if first == nil {
			return a.settle(ctx)
		}
		st := stock{productID: first.page[0].ProductID}
		for _, src := range a.sources {
			if head := src.head(a.show); head == nil || head.ProductID != st.productID {
				continue
			}
			if err := a.addAccount(ctx, src.shard, src.next(), &st); err != nil {
				return err
			}
		}
		if err := a.addStock(ctx, st); err != nil {
			return err
		}
	}
}

// stock is what all shards say of one product.
type stock struct {
	productID                       string
	storage, delivered, units, rows int64
}

// over is how many units more customers have than there are; 0 or less is as it should be.
func (st *stock) over() int64 { return st.units - st.storage - st.delivered }

func (a *audit) addAccount(ctx context.Context, s *Shard, acc account, st *stock) error {
	st.rows += acc.Rows
	st.units += acc.units()
	st.delivered += acc.Delivered - acc.Missing
	r := a.report
	r.Purchases += acc.Rows
	r.Units += acc.units()
	r.OverdueHolds += acc.Overdue
	found := func(kind Kind, format string, args ...any) { r.found(acc.ProductID, s.name, kind, format, args...) }
	switch {
	case acc.AmountInStorage == nil:
	case st.storage == 0:
		st.storage = *acc.AmountInStorage
	case st.storage != *acc.AmountInStorage:
		found(AmountsDiffer, "amount_in_storage is %d here and %d elsewhere", *acc.AmountInStorage, st.storage)
	}
	if acc.AboveFence > 0 {
		found(AboveFence, "%d purchases carry a token above the fence's", acc.AboveFence)
	}
	purchased, released := acc.Taken+acc.Missing, acc.GivenBack+acc.Delivered
	if acc.Purchased == nil && purchased > 0 {
		found(NoFence, "%d purchases without a fence", acc.Rows)
	}
	purchasedOff := acc.Purchased != nil && *acc.Purchased != purchased
	if purchasedOff {
		found(PurchasedOff, "running total %d, but the rows sum to %d", *acc.Purchased, purchased)
	}
	releasedOff := acc.Released != released
	if releasedOff {
		found(ReleasedOff, "running total of what was given back %d, but the rows sum to %d", acc.Released, released)
	}
	if a.totalsOff == nil || !purchasedOff && !releasedOff {
		return nil
	}
	return a.totalsOff(ctx, s, acc.ProductID)
}

func (a *audit) addStock(ctx context.Context, st stock) error {
	switch {
	case st.storage > 0:
		a.report.Products++
	case st.rows > 0:
		a.report.found(st.productID, "", NoProduct, "purchases of a product that no shard knows")
	}
	if st.over() <= 0 {
		return nil
	}
	if a.suspect = append(a.suspect, st); len(a.suspect) < maxSuspects {
		return nil
	}
	return a.settle(ctx)
}

// maxSuspects is how many products are counted again at once.
const maxSuspects = 100

// attempts is how often a product that looks oversold is counted again: while units are
// given back all the time, one count may fail to prove what another one does.
const attempts = 3

// settle reports those of the suspects that are oversold for certain.
func (a *audit) settle(ctx context.Context) error {
	for attempt := 0; attempt < attempts && len(a.suspect) > 0; attempt++ {
		if err := a.proveOversold(ctx); err != nil {
			return err
		}
		a.suspect = slices.DeleteFunc(a.suspect, func(st stock) bool {
			over := st.over()
			if over > 0 {
				a.report.Oversold += over
				a.report.found(st.productID, "", Oversold, "oversold by %d units", over)
			}
			return over > 0
		})
	}
	a.suspect = nil
	return nil
}

// proveOversold counts the suspects again, so that a count above the storage is a proof.
//
// What was taken (bought, readmitted, found missing) and what was given (given back,
// delivered) only ever grow. All shards are asked what was taken, and when all have
// answered, all are asked what was given. At the moment between, t, at least as much had
// been taken as the first answers say, and at most as much had been given as the second
// ones say. So if taken - given is above the storage, then it was at t: units were sold
// that were not there. Had they been there, because somebody gave them back, that had been
// committed before the sale was, and the second answers had it.
//
// It counts rows and trusts no running total, which may be what is wrong.
func (a *audit) proveOversold(ctx context.Context) error {
	ids := make([]string, len(a.suspect))
	for i, st := range a.suspect {
		ids[i] = st.productID
	}
	taken, err := a.sum(ctx, selectTaken, ids)
	if err != nil {
		return err
	}
	given, err := a.sum(ctx, selectGiven, ids)
	if err != nil {
		return err
	}
	for i := range a.suspect {
		st := &a.suspect[i]
		st.units, st.delivered = taken[st.productID], given[st.productID]
	}
	return nil
}

// sum adds up what all shards answer, by product.
func (a *audit) sum(ctx context.Context, sql string, ids []string) (map[string]int64, error) {
	answers := make([]map[string]int64, len(a.shards))
	g, ctx := errgroup.WithContext(ctx)
	for i, s := range a.shards {
		g.Go(func() (err error) {
			answers[i], err = s.sums(ctx, sql, ids)
			return err
		})
	}
	err := g.Wait()
	total := map[string]int64{}
	for _, answer := range answers {
		for id, units := range answer {
			total[id] += units
		}
	}
	return total, err
}
