package coordinator

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// BatchCreatePurchases sends each worker the purchases of its products in one
// call, all workers at once. What a worker does not answer goes to the next
// worker of each product, as a single purchase would.
func (s *service) BatchCreatePurchases(
	ctx context.Context, req *holdfastv1.BatchCreatePurchasesRequest,
) (*holdfastv1.BatchCreatePurchasesResponse, error) {
	if err := s.check(req); err != nil {
		return nil, err
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	for i, r := range req.GetRequests() {
		if err := s.complete(ctx, r, fmt.Sprintf("requests[%d].", i)); err != nil {
			return nil, err
		}
	}
	b := &batch{
		requests: req.GetRequests(),
		results:  make([]*holdfastv1.PurchaseResult, len(req.GetRequests())),
	}
	open := make([]int, len(b.requests))
	for i := range open {
		open[i] = i
	}
	last := errNoWorker
	for round := 0; len(open) > 0; round++ {
		var workers int
		var err error
		if open, workers, err = s.router.batchRound(ctx, b, open, round); err != nil {
			last = err
		}
		if len(open) == 0 {
			break
		}
		if s.router.pause(ctx, round, workers) != nil {
			b.fail(open, gaveUp(ctx, last))
			break
		}
	}
	return &holdfastv1.BatchCreatePurchasesResponse{Results: b.results}, nil
}

// batch is a call under way. Each result is written once, by whoever asked for it.
type batch struct {
	requests []*holdfastv1.CreatePurchaseRequest
	results  []*holdfastv1.PurchaseResult
}

func (b *batch) fail(indexes []int, err error) {
	for _, i := range indexes {
		b.results[i] = &holdfastv1.PurchaseResult{
			Result: &holdfastv1.PurchaseResult_Error{Error: status.Convert(err).Proto()},
		}
	}
}

// batchRound asks, for each open purchase, the product's worker of this round.
// It returns what is still open, and an error that kept it so.
func (r *router) batchRound(ctx context.Context, b *batch, open []int, round int) (still []int, workers int, last error) {
	groups := map[*grpc.ClientConn][]int{}
	for _, i := range open {
		var conn *grpc.ClientConn
		if _, conn, workers = r.pick(b.requests[i].GetProductId(), round); workers == 0 {
			return open, 0, errNoWorker
		}
		groups[conn] = append(groups[conn], i)
	}
	var (
		wg sync.WaitGroup
		mu sync.Mutex // guards still and last
	)
	for conn, indexes := range groups {
		wg.Go(func() {
			unanswered, err := r.batchAttempt(ctx, b, conn, indexes)
			mu.Lock()
			defer mu.Unlock()
			still = append(still, unanswered...)
			if err != nil {
				last = err
			}
		})
	}
	wg.Wait()
	return still, workers, last
}

// batchAttempt sends one worker its part and keeps the answers. It returns the
// purchases that the next worker is to be asked for.
func (r *router) batchAttempt(ctx context.Context, b *batch, conn *grpc.ClientConn, indexes []int) ([]int, error) {
	part := &holdfastv1.BatchCreatePurchasesRequest{}
	for _, i := range indexes {
		part.Requests = append(part.Requests, b.requests[i])
	}
	var resp *holdfastv1.BatchCreatePurchasesResponse
	err := r.attempt(ctx, conn, func(ctx context.Context, conn *grpc.ClientConn) (err error) {
		resp, err = holdfastv1.NewPurchaseServiceClient(conn).BatchCreatePurchases(ctx, part)
		return err
	})
	switch {
	case !answered(err):
		return indexes, err
	case err != nil:
		b.fail(indexes, err)
		return nil, nil
	case len(resp.GetResults()) != len(indexes):
		b.fail(indexes, status.Errorf(codes.Internal, "a worker gave %d results for %d purchases", len(resp.GetResults()), len(indexes)))
		return nil, nil
	}
	var unanswered []int
	var last error
	for n, result := range resp.GetResults() {
		if err := status.ErrorProto(result.GetError()); !answered(err) {
			unanswered, last = append(unanswered, indexes[n]), err
			continue
		}
		b.results[indexes[n]] = result
	}
	return unanswered, last
}
