package coordinator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// BatchCreatePurchases sends each worker the purchases of its products together,
// all workers at once. What a worker does not answer goes to the next
// worker of each product, as a single purchase would.
func (s *service) BatchCreatePurchases(
	ctx context.Context, req *holdfastv1.BatchCreatePurchasesRequest,
) (*holdfastv1.BatchCreatePurchasesResponse, error) {
	if err := s.check(req); err != nil {
		return nil, err
	}
	until, topology := s.until(ctx), s.router.known()
	for i, r := range req.GetRequests() {
		if r.GetUnitPrice() != nil {
			return nil, pricedAmongOthers(fmt.Sprintf("requests[%d].", i))
		}
		if r.GetHold() == nil && fill(r, topology) {
			continue
		}
		if err := s.complete(ctx, until, r, fmt.Sprintf("requests[%d].", i)); err != nil {
			return nil, err
		}
	}
	b := &batch{
		requests: req.GetRequests(),
		results:  make([]*holdfastv1.PurchaseResult, len(req.GetRequests())),
		ways:     make([]way, len(req.GetRequests())),
	}
	open := make([]int, len(b.requests))
	for i := range open {
		open[i] = i
	}
	for len(open) > 0 && !over(ctx, until) {
		open = s.router.batchRound(ctx, until, b, open)
	}
	for _, i := range open {
		b.results[i] = s.router.failed(gaveUp(ctx, b.ways[i].last))
	}
	return &holdfastv1.BatchCreatePurchasesResponse{Results: b.results}, nil
}

// batch is a call under way. Each result is written once, by whoever asked for it.
type batch struct {
	requests []*holdfastv1.CreatePurchaseRequest
	results  []*holdfastv1.PurchaseResult
	ways     []way
}

// batchRound asks, for each open purchase, the product's next worker. It returns
// what is still open. When all workers were asked it waits instead.
func (r *router) batchRound(ctx context.Context, until time.Time, b *batch, open []int) (still []int) {
	groups := map[*peer][]int{}
	var through []*way // those that have asked everybody
	for _, i := range open {
		p := r.next(b.requests[i].GetProductId(), &b.ways[i])
		if p == nil {
			through, still = append(through, &b.ways[i]), append(still, i)
			continue
		}
		groups[p] = append(groups[p], i)
	}
	if len(groups) == 0 {
		r.pause(ctx, until, through...)
		return still
	}
	var (
		wg sync.WaitGroup
		mu sync.Mutex // guards still
	)
	for p, indexes := range groups {
		wg.Go(func() {
			unanswered := r.batchAttempt(ctx, until, b, p, indexes)
			mu.Lock()
			defer mu.Unlock()
			still = append(still, unanswered...)
		})
	}
	wg.Wait()
	return still
}

// batchAttempt sends one worker its part and keeps the answers. It returns the
// purchases that the next worker is to be asked for.
func (r *router) batchAttempt(ctx context.Context, until time.Time, b *batch, p *peer, indexes []int) (unanswered []int) {
	part := make([]*holdfastv1.CreatePurchaseRequest, len(indexes))
	for n, i := range indexes {
		part[n] = b.requests[i]
	}
	attempt := r.attemptUntil(until)
	for n, answer := range p.link.SellAll(ctx, part, attempt) {
		i := indexes[n]
		switch {
		case !b.ways[i].settles(r, attempt, answer.Err):
			unanswered = append(unanswered, i)
		case answer.Err != nil:
			b.results[i] = r.failed(answer.Err)
		default:
			r.metrics.decided(nil)
			b.results[i] = &holdfastv1.PurchaseResult{Result: &holdfastv1.PurchaseResult_Purchase{Purchase: answer.Purchase}}
		}
	}
	return unanswered
}

// pricedAmongOthers refuses what others would have to wait for. The path says where in a
// larger request it stands.
func pricedAmongOthers(path string) error {
	return holdfastv1.FieldError(holdfastv1.ReasonInvalidField, path+"unit_price",
		"is not for batches and streams: use CreatePurchase or CreateOrder")
}

func (r *router) failed(err error) *holdfastv1.PurchaseResult {
	r.metrics.decided(err)
	return &holdfastv1.PurchaseResult{Result: &holdfastv1.PurchaseResult_Error{Error: status.Convert(err).Proto()}}
}
