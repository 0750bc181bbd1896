package coordinator

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	workerv1 "github.com/holdfast-io/holdfast/api/holdfast/worker/v1"
	"github.com/holdfast-io/holdfast/api/link"
)

// What is done to a purchase any worker can do. Its id is the key, so that repetitions of a
// call meet where they need not wait for each other's row.

func (s *service) ExtendPurchase(ctx context.Context, req *holdfastv1.ExtendPurchaseRequest) (*holdfastv1.Purchase, error) {
	if err := s.check(req); err != nil {
		return nil, err
	}
	if req.Hold == nil {
		req.Hold = &holdfastv1.Hold{}
	}
	if err := s.fillHold(req.GetHold(), ""); err != nil {
		return nil, err
	}
	fillRequestID(&req.RequestId)
	return ask(ctx, s, req.GetPurchaseId(), req,
		holdfastv1.NewPurchaseServiceClient, holdfastv1.PurchaseServiceClient.ExtendPurchase)
}

// ConfirmPurchase goes on to the product's worker when the hold has expired: only the
// product's tenure can tell whether the units are still there.
func (s *service) ConfirmPurchase(
	ctx context.Context, req *holdfastv1.ConfirmPurchaseRequest,
) (*holdfastv1.Purchase, error) {
	fillRequestID(&req.RequestId)
	purchase, err := ask(ctx, s, req.GetPurchaseId(), req,
		holdfastv1.NewPurchaseServiceClient, holdfastv1.PurchaseServiceClient.ConfirmPurchase)
	if holdfastv1.Reason(err) != holdfastv1.ReasonToReadmit {
		return purchase, err
	}
	product := holdfastv1.Info(err).GetMetadata()["product_id"]
	return ask(ctx, s, product, &workerv1.ReadmitRequest{ProductId: product, Confirmation: req},
		workerv1.NewWorkerServiceClient, workerv1.WorkerServiceClient.Readmit)
}

func (s *service) CancelPurchase(ctx context.Context, req *holdfastv1.CancelPurchaseRequest) (*holdfastv1.Purchase, error) {
	fillRequestID(&req.RequestId)
	return ask(ctx, s, req.GetPurchaseId(), req,
		holdfastv1.NewPurchaseServiceClient, holdfastv1.PurchaseServiceClient.CancelPurchase)
}

func (s *service) ReturnPurchase(ctx context.Context, req *holdfastv1.ReturnPurchaseRequest) (*holdfastv1.Purchase, error) {
	fillRequestID(&req.RequestId)
	return ask(ctx, s, req.GetPurchaseId(), req,
		holdfastv1.NewPurchaseServiceClient, holdfastv1.PurchaseServiceClient.ReturnPurchase)
}

func (s *service) CreateDelivery(ctx context.Context, req *holdfastv1.CreateDeliveryRequest) (*holdfastv1.Delivery, error) {
	fillRequestID(&req.RequestId)
	return ask(ctx, s, req.GetProductId(), req,
		holdfastv1.NewProductServiceClient, holdfastv1.ProductServiceClient.CreateDelivery)
}

// fillRequestID makes a request id where the caller has given none: from then on the call
// can be repeated on any worker.
func fillRequestID(id *string) {
	if *id == "" {
		*id = uuid.NewString()
	}
}

// fillHold says when a hold is to end, so that a repetition has the same end. That the end
// is in the future is for the worker to say: the call may be a repetition. A time out of the
// range of its type is refused: it would be another one where times are counted in
// microseconds, or none. The path says where in a larger request it stands.
func (s *service) fillHold(h *holdfastv1.Hold, path string) error {
	if h == nil {
		return nil
	}
	now := time.Now()
	expires := now.Add(s.hold)
	switch h.GetExpiration().(type) {
	case *holdfastv1.Hold_ExpireTime:
		if expires = h.GetExpireTime().AsTime(); !h.GetExpireTime().IsValid() || expires.UnixMicro() <= 0 {
			return holdfastv1.FieldError(holdfastv1.ReasonInvalidField, path+"hold.expire_time", "must be a time in the future")
		}
		if !expires.After(now) {
			expires = link.PastHold
		}
	case *holdfastv1.Hold_Duration:
		if !h.GetDuration().IsValid() {
			return holdfastv1.FieldError(holdfastv1.ReasonInvalidField, path+"hold.duration", "must be a duration")
		}
		expires = now.Add(h.GetDuration().AsDuration())
	}
	h.Expiration = &holdfastv1.Hold_ExpireTime{ExpireTime: timestamppb.New(expires.Truncate(time.Microsecond))}
	return nil
}
