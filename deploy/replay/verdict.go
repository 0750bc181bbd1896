package replay

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// A Row is a live purchase as a shard stores it.
type Row struct {
	PurchaseID, ProductID, RequestID string
	Amount                           int64
}

// A Verdict is what the buyers were told, held against what the shards hold.
// Purchases are counted in lines, stock in units.
type Verdict struct {
	// What must be 0.
	Oversold      int64 // units beyond the amount in storage, over all products
	Lost          int   // purchases that were acknowledged and have no such row
	Doubled       int   // rows beyond the first of one request id
	FalseRefusals int   // refused although the units were there, or are even his
	Failed        int   // buyers who were told neither yes nor no

	// Unacknowledged rows are sold without a buyer who knows. It happens: the
	// answer was lost and the run ended before he could ask again.
	Unacknowledged int

	Offered  int // lines that a buyer asked for
	Admitted int
	Refused  int
	Skipped  int // lines of the file that are no purchases

	PurchasesPerSecond float64 // admitted, over the time of the buying

	// Evidence names what was found wrong, the first cases of each kind.
	Evidence []string
}

// Err is nil when every promise was kept.
func (v Verdict) Err() error {
	var broken []string
	for _, count := range []struct {
		of   int64
		what string
	}{
		{v.Oversold, "units oversold"},
		{int64(v.Lost), "acknowledged purchases lost"},
		{int64(v.Doubled), "purchases doubled"},
		{int64(v.FalseRefusals), "buyers falsely refused"},
		{int64(v.Failed), "buyers told no outcome"},
	} {
		if count.of != 0 {
			broken = append(broken, fmt.Sprintf("%d %s", count.of, count.what))
		}
	}
	if broken == nil {
		return nil
	}
	return errors.New(strings.Join(broken, ", "))
}

// Judge compares the buyers' notes with the rows of all shards, read after the
// run, and with the amount in storage of each product.
//
// Rows of products that are not in stock belong to somebody else and are
// passed over; a product of the report that is not in stock is an error. Rows
// must be all live purchases of the products: that nothing was given back
// meanwhile is what makes a refusal checkable, because what fits at the end
// would have fitted at any time before.
func Judge(report *Report, stock map[string]int64, rows iter.Seq2[Row, error]) (Verdict, error) {
	for product := range report.Stock {
		if _, ok := stock[product]; !ok {
			return Verdict{}, fmt.Errorf("judge: no amount in storage is given for product %s", product)
		}
	}
	j := judgement{
		rows:     make(map[string]Row),
		requests: make(map[string]string),
		left:     maps.Clone(stock),
		verdict:  Verdict{Skipped: report.Skipped},
	}
	for row, err := range rows {
		if err != nil {
			return Verdict{}, fmt.Errorf("judge: read rows: %w", err)
		}
		j.countRow(row)
	}
	j.countOversold()
	for _, outcome := range report.Outcomes {
		j.countOutcome(outcome)
	}
	j.countUnacknowledged()
	if report.Elapsed > 0 {
		j.verdict.PurchasesPerSecond = float64(j.verdict.Admitted) / report.Elapsed.Seconds()
	}
	return j.verdict, nil
}

// judgement is a verdict in the making.
type judgement struct {
	rows     map[string]Row    // by purchase id
	requests map[string]string // the first purchase id of each request id
	left     map[string]int64  // units of each product that no row has taken

	acknowledged int // rows that their buyer knows
	verdict      Verdict
}

func (j *judgement) countRow(row Row) {
	if _, ours := j.left[row.ProductID]; !ours {
		return
	}
	j.left[row.ProductID] -= row.Amount
	if first, again := j.requests[row.RequestID]; again {
		j.verdict.Doubled++
		j.note(j.verdict.Doubled, "doubled: request %s is purchase %s and %s", row.RequestID, first, row.PurchaseID)
	} else {
		j.requests[row.RequestID] = row.PurchaseID
	}
	j.rows[row.PurchaseID] = row
}

func (j *judgement) countOversold() {
	products := 0
	for _, product := range slices.Sorted(maps.Keys(j.left)) {
		if left := j.left[product]; left < 0 {
			products++
			j.verdict.Oversold -= left
			j.note(products, "oversold: %d units of product %s", -left, product)
		}
	}
}

func (j *judgement) countOutcome(outcome Outcome) {
	v, line := &j.verdict, outcome.Line
	switch outcome.Answer {
	case Unasked:
		return
	case Admitted:
		v.Admitted++
		j.checkAdmitted(outcome)
	case Refused:
		v.Refused++
		j.checkRefused(line)
	case Failed:
		v.Failed++
		j.note(v.Failed, "failed: line %d: %s", line.Number, outcome.Failure)
	}
	v.Offered++
}

// checkAdmitted looks for the row that the buyer was promised, to the letter.
func (j *judgement) checkAdmitted(outcome Outcome) {
	line := outcome.Line
	promised := Row{outcome.PurchaseID, line.ProductID, line.RequestID, line.Amount}
	if j.rows[outcome.PurchaseID] == promised {
		j.acknowledged++
		return
	}
	j.verdict.Lost++
	j.note(j.verdict.Lost, "lost: line %d was told purchase %s", line.Number, outcome.PurchaseID)
}

// checkRefused accuses a refusal in two cases: the units are still there, or
// they went to this very request, whose buyer was told no when he asked again.
func (j *judgement) checkRefused(line Line) {
	purchase, sold := j.requests[line.RequestID]
	left := j.left[line.ProductID]
	if !sold && line.Amount > left {
		return
	}
	j.verdict.FalseRefusals++
	if sold {
		j.note(j.verdict.FalseRefusals, "refused: line %d, which has purchase %s", line.Number, purchase)
		return
	}
	j.note(j.verdict.FalseRefusals, "refused: line %d wanted %d of product %s, %d are left",
		line.Number, line.Amount, line.ProductID, left)
}

func (j *judgement) countUnacknowledged() {
	j.verdict.Unacknowledged = len(j.rows) - j.acknowledged
}

// note keeps the first cases of each kind; a broken build has thousands.
func (j *judgement) note(nth int, format string, args ...any) {
	const enough = 5
	if nth <= enough {
		j.verdict.Evidence = append(j.verdict.Evidence, fmt.Sprintf(format, args...))
	}
}

// LongestGap is the longest time that a buyer of one of these products waited
// for his answer, among the calls that ended after from: the outage that the
// buyers felt.
func LongestGap(report *Report, products map[string]bool, from time.Time) time.Duration {
	var longest time.Duration
	for _, outcome := range report.Outcomes {
		if products[outcome.Line.ProductID] && outcome.End.After(from) {
			longest = max(longest, outcome.End.Sub(outcome.Start))
		}
	}
	return longest
}
