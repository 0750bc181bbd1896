package worker

import (
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/trace"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

func (s *sale) asPurchase() Purchase {
	return Purchase{
		ProductID: s.row.ProductID, Region: s.region, RequestID: s.row.RequestID, Amount: s.row.Amount,
		CustomerID: s.row.CustomerID, PaymentMethod: s.row.PaymentMethod, ExpireTime: s.row.ExpireTime,
		OrderID: s.row.OrderID, UnitPrice: s.row.UnitPrice,
	}
}

// Purchase is what a customer asks for. Region and RequestID are set.
type Purchase struct {
	ProductID, Region, RequestID string
	Amount                       int64
	CustomerID, PaymentMethod    string
	ExpireTime                   *time.Time // of a hold; nil for a purchase that is confirmed at once
	OrderID                      *uuid.UUID // nil when it stands alone
	UnitPrice                    *int64     // nil when nothing is paid here
	Until                        time.Time  // when it must be decided; zero for never

	// From is the region that it came through; empty when nobody knows.
	From string

	span    trace.Span // nil when it is not recorded
	special special    // of what takes units and is no new purchase
}

// row is the purchase as it is to be stored. The id is in order of time
// (UUIDv7), which keeps the index that it lands in small and warm.
func (p Purchase) row(fence *ledger.Fence) ledger.Purchase {
	return ledger.Purchase{
		PurchaseID: uuid.Must(uuid.NewV7()), ProductID: p.ProductID, RequestID: p.RequestID, Amount: p.Amount,
		CustomerID: p.CustomerID, PaymentMethod: p.PaymentMethod, ExpireTime: p.ExpireTime,
		OrderID: p.OrderID, UnitPrice: p.UnitPrice, Fence: fence,
	}
}

// sameContent tells a repetition from a request id that was used twice. When a hold ends is
// reckoned from when it was asked for, so a repetition may have another end.
func sameContent(row *ledger.Purchase, p Purchase) bool {
	return row.ProductID == p.ProductID && row.Amount == p.Amount &&
		row.CustomerID == p.CustomerID && row.PaymentMethod == p.PaymentMethod &&
		(row.ExpireTime == nil) == (p.ExpireTime == nil) &&
		same(row.OrderID, p.OrderID) && same(row.UnitPrice, p.UnitPrice)
}

// same compares what may not be there.
func same[T comparable](a, b *T) bool { return a == b || a != nil && b != nil && *a == *b }
