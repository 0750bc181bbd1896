package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// Order is what one buyer wants.
type Order struct {
	Product, Customer string
	Request           string // unique for the measurement
	Amount            int64
	Region            int // which of the shards stores it
}

// ErrSoldOut is the outcome of an order that was refused for want of stock.
var ErrSoldOut = errors.New("sold out")

// Strategy is one way to sell.
type Strategy interface {
	// Prepare connects for so many buyers at once.
	Prepare(ctx context.Context, buyers int) error
	// Buy returns when all the orders of one buyer are settled, and sets an
	// outcome for each: nil when it is stored and synced, ErrSoldOut, or why it
	// is not known. Buyers buy at the same time, each one call at a time.
	Buy(ctx context.Context, buyer int, orders []Order, outcomes []error)
	// Close ends all connections. It is called once, also after a failed Prepare.
	Close()
}

// candidate is a strategy with a number of buyers: of all candidates of one
// name the fastest is measured.
type candidate struct {
	buyers int // at once
	batch  int // orders of one call
	form   string
	open   func(s *servers) Strategy
}

func (c candidate) String() string {
	label := fmt.Sprintf("%d × %d", c.buyers, c.batch)
	if c.form != "" {
		label = c.form + " " + label
	}
	return label
}

// contender is a strategy by name.
type contender struct {
	name       string
	owner      owner
	candidates func(buyers int) []candidate
}

// owner says whose tables a strategy sells from.
type owner int

const (
	usual     owner = iota // its own
	holdfast               // holdfast's
	unguarded              // its own, and nothing keeps it from overselling
)

// The names that ratios refer to.
const (
	baseline  = "select-for-update"
	ceiling   = "ceiling"
	plainCall = "holdfast-unary"
)

// contenders are the strategies of most workloads, in the order in which they are
// measured.
var contenders = []contender{
	{baseline, usual, crowds(newForUpdate)},
	{"conditional-update", usual, crowds(newConditionalUpdate)},
	{"conditional-cte", usual, crowds(newConditionalCTE)},
	{"serializable", usual, crowds(newSerializable)},
	{"advisory-lock", usual, crowds(newAdvisoryLock)},
	{"two-phase-commit", usual, crowds(newTwoPhaseCommit)},
	{"etcd-mutex", usual, crowds(newEtcdMutex)},
	plain,
	{"holdfast-http", holdfast, asGiven(1, newHTTP)},
	{"holdfast-batch", holdfast, callers(newBatch)},
	{"holdfast-stream", holdfast, asGiven(1, newStream)},
	{ceiling, unguarded, bulk},
}

const (
	besidePayersName     = "holdfast-unary-beside-payers"
	besideManyPayersName = "holdfast-unary-beside-many-payers"
)

// plain is what all that holdfast does for a purchase is compared with.
var plain = contender{plainCall, holdfast, asGiven(1, newUnary)}

// Strategies of workloads that are about what holdfast alone has.
var (
	holders = []contender{plain, {"holdfast-hold-confirm", holdfast, asGiven(1, newHoldConfirm)}}
	carters = []contender{
		plain,
		{"holdfast-order-1", holdfast, ofLines(1)},
		{"holdfast-order-3", holdfast, ofLines(3)},
		{"holdfast-order-10", holdfast, ofLines(10)},
	}
	besides = []contender{
		plain,
		{besidePayersName, holdfast, asGiven(1, newBesidePayers)},
		{besideManyPayersName, holdfast, asGiven(1, newBesideManyPayers)},
	}
)

// allContenders are those of all workloads, each once.
func allContenders() []contender {
	all := slices.Clone(contenders)
	for _, w := range Workloads {
		for _, c := range w.contenders {
			if !slices.ContainsFunc(all, func(known contender) bool { return known.name == c.name }) {
				all = append(all, c)
			}
		}
	}
	return all
}

// StrategyNames are the names of all strategies.
func StrategyNames() []string {
	var names []string
	for _, c := range allContenders() {
		names = append(names, c.name)
	}
	return names
}

// crowds are what a row lock is tried with: more buyers than it can use only
// make it slower, and how many that is depends on the machine.
func crowds(open func(*servers) Strategy) func(int) []candidate {
	return func(int) []candidate {
		var cs []candidate
		for _, buyers := range []int{1, 4, 16, 64} {
			cs = append(cs, candidate{buyers: buyers, batch: 1, open: open})
		}
		return cs
	}
}

// asGiven is one candidate, with the number of buyers that was asked for.
func asGiven(batch int, open func(*servers) Strategy) func(int) []candidate {
	return func(buyers int) []candidate {
		return []candidate{{buyers: buyers, batch: batch, open: open}}
	}
}

// callers share the buyers: each of them sends a batch of many.
func callers(open func(*servers) Strategy) func(int) []candidate {
	return func(buyers int) []candidate {
		return []candidate{
			{buyers: max(2, buyers/8), batch: 500, open: open}, // what shards far away need
			{buyers: max(2, buyers/16), batch: 500, open: open},
			{buyers: max(2, buyers/32), batch: 500, open: open},
			{buyers: max(2, buyers/32), batch: 100, open: open},
		}
	}
}

// kind names an outcome for the count of errors.
func kind(err error) string {
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused):
		return "postgres " + refused.Code
	case errors.Is(err, context.DeadlineExceeded):
		return "deadline"
	case status.Code(err) != codes.Unknown:
		return cmp.Or(holdfastv1.Reason(err), status.Code(err).String())
	}
	return err.Error()
}

// CheckStrategies returns an error for a name that no strategy has.
func CheckStrategies(names []string) error {
	known := StrategyNames()
	for _, name := range names {
		if !slices.Contains(known, name) {
			return fmt.Errorf("strategy %q: want one of %v", name, known)
		}
	}
	return nil
}

// choose returns the workload's contenders of these names, all of them for no names.
func (w *Workload) choose(names []string) ([]contender, error) {
	of := contenders
	if w.contenders != nil {
		of = w.contenders
	}
	if len(names) == 0 || w.idle {
		return of, nil
	}
	chosen := slices.DeleteFunc(slices.Clone(of), func(c contender) bool { return !slices.Contains(names, c.name) })
	if len(chosen) == 0 {
		return nil, fmt.Errorf("workload %s: it has none of the strategies %v", w.Name, names)
	}
	return chosen, nil
}
