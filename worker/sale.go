package worker

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// sale is one purchase on its way, and all buyers that wait for it. So is whatever else
// takes units.
type sale struct {
	region   string
	row      ledger.Purchase
	special  special   // nil for a purchase
	until    time.Time // when it must be decided; zero for never
	tenure   *tenure
	replayed bool // met an earlier purchase at commit
	past     bool // is a hold that would be over when it begins
	short    shortage
	limited  *account   // its customer's, while that is read
	room     shortage   // of its customer's limit
	account  *account   // its customer's, once it is counted there
	span     trace.Span // of the buyer who came first; nil when it is not recorded

	first  told   // the buyer who came first
	others []told // with the same request id
}

func (s *sale) key() saleKey { return saleKey{s.region, s.row.RequestID} }

// told is called once, with what was stored or with an error. It must not block, nor
// call the tenure.
type told func(stored *ledger.Purchase, err error)

// special commits, alone, what takes units and is no new purchase.
type special func(ctx context.Context, s shard, f ledger.Fence) (ledger.Outcome, error)

// shortage is what the tenure could have had of its product when a sale was found not to
// fit, and what it knew by then to be given back. What the shards have given back is read
// after that; so if the sale does not fit with that either, there was a moment since it
// came in which it did not fit.
type shortage struct{ available, possible, released int64 }
