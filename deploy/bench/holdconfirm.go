package bench

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// holdFor is longer than any buyer takes to confirm.
const holdFor = time.Minute

// holdConfirm is two calls for each order: a hold, and then its confirmation.
type holdConfirm struct{ unary }

func newHoldConfirm(s *servers) Strategy { return &holdConfirm{unary{calls: calls{servers: s}}} }

// Prepare implements Strategy.
func (h *holdConfirm) Prepare(ctx context.Context, buyers int) error {
	if err := h.unary.Prepare(ctx, buyers); err != nil {
		return err
	}
	for _, request := range h.requests {
		request.Hold = &holdfastv1.Hold{Expiration: &holdfastv1.Hold_Duration{Duration: durationpb.New(holdFor)}}
	}
	return nil
}

// Buy implements Strategy.
func (h *holdConfirm) Buy(ctx context.Context, buyer int, orders []Order, outcomes []error) {
	request, client := h.requests[buyer], h.client(buyer)
	for i := range orders {
		h.servers.fill(request, &orders[i])
		held, err := client.CreatePurchase(ctx, request)
		if err == nil {
			_, err = client.ConfirmPurchase(ctx, &holdfastv1.ConfirmPurchaseRequest{
				PurchaseId: held.GetPurchaseId(), RequestId: orders[i].Request,
			})
		}
		outcomes[i] = outcome(err)
	}
}
