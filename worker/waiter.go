package worker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/api/traces"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// waiter is a coordinator that waits for a purchase.
type waiter struct {
	*link.Sale
	service *service
	span    trace.Span // nil when it is not recorded
}

// told makes a waiter a buyer.
func (w *waiter) told(stored *ledger.Purchase, err error) {
	if err != nil {
		w.answer(link.Stored{}, w.service.status(traces.With(w.Context(), w.span), w.Request.GetProductId(), err))
		return
	}
	answer := link.Stored{
		PurchaseID: holdfastv1.PurchaseID(w.Request.GetRegion(), stored.PurchaseID), State: states[stored.State],
		CreateTime: stored.CreateTime, Released: stored.Amount - stored.Has(),
	}
	if stored.ExpireTime != nil {
		answer.ExpireTime = *stored.ExpireTime
	}
	w.answer(answer, nil)
}

func (w *waiter) answer(stored link.Stored, err error) {
	if w.span != nil {
		traces.Decided(w.span, err)
	}
	w.Answer(stored, err)
}

func (s *service) sell(sale *link.Sale) {
	req, w := sale.Request, &waiter{Sale: sale, service: s, span: s.trace(sale)}
	if err := s.sells(req); err != nil {
		w.answer(link.Stored{}, err)
		return
	}
	p := Purchase{
		ProductID: req.GetProductId(), Region: req.GetRegion(), RequestID: req.GetRequestId(),
		Amount: req.GetAmount(), CustomerID: req.GetCustomerId(), PaymentMethod: req.GetPaymentMethod(), Until: sale.Until,
		From: sale.Region(), span: w.span,
	}
	if hold := req.GetHold(); hold != nil {
		expires := hold.GetExpireTime().AsTime()
		p.ExpireTime = &expires
	}
	s.tenures.sell(p, w)
}

// trace begins the span of a purchase that its coordinator has traced so far; it is nil when
// there is none.
func (s *service) trace(sale *link.Sale) trace.Span {
	from := sale.Trace()
	if !from.IsValid() {
		return nil
	}
	_, span := s.tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), from), "sell",
		trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(sale.Came), trace.WithAttributes(
			traces.Product.String(strings.Clone(sale.Request.GetProductId())), traces.Shard.String(strings.Clone(sale.Request.GetRegion())),
			traces.Amount.Int64(sale.Request.GetAmount()),
		))
	if !span.IsRecording() {
		return nil
	}
	return span
}

// sells reports why a purchase cannot be sold, whatever the product's tenure says.
func (s *service) sells(req *holdfastv1.CreatePurchaseRequest) error {
	switch {
	case !s.topology.Has(req.GetRegion()):
		return unknownRegion(req.GetRegion(), s.topology)
	case !s.topology.Sells(req.GetRegion()):
		return holdfastv1.FieldError(holdfastv1.ReasonRegionDraining, "region",
			fmt.Sprintf("region %q takes no new purchases", req.GetRegion()))
	case req.GetAmount() < 1:
		// Admission would add what it is to take away.
		return holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "amount", "must be at least 1")
	case req.GetHold() != nil:
		return s.holds(req.GetHold())
	}
	return nil
}

// holds reports why a hold cannot be had.
func (s *service) holds(h *holdfastv1.Hold) error {
	latest := time.Now().Add(s.maxHold)
	if h.GetExpireTime().AsTime().After(latest) {
		return holdTooLong(&ledger.HoldError{Latest: latest}, map[string]string{})
	}
	return nil
}
