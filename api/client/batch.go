package client

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// sellAll repeats those purchases of a batch that have no final answer. When the time is up,
// each of them has its last error in the reply.
func (c *call) sellAll(
	method string, req *holdfastv1.BatchCreatePurchasesRequest, reply *holdfastv1.BatchCreatePurchasesResponse, opts []grpc.CallOption,
) error {
	b := &batch{results: make([]*holdfastv1.PurchaseResult, len(req.GetRequests()))}
	for i := range req.GetRequests() {
		b.open = append(b.open, i)
	}
	err := c.insist(func() error {
		part, answers := &holdfastv1.BatchCreatePurchasesRequest{}, &holdfastv1.BatchCreatePurchasesResponse{}
		for _, i := range b.open {
			part.Requests = append(part.Requests, req.GetRequests()[i])
		}
		if err := c.attempt(method, part, answers, opts); err != nil {
			return err
		}
		return b.take(answers.GetResults())
	})
	if err != nil && !b.answered {
		return err
	}
	reply.Results = b.results
	return nil
}

// batch is what is known of the purchases of a batch.
type batch struct {
	results  []*holdfastv1.PurchaseResult
	open     []int // those without a final result
	answered bool  // all have a result
}

// take takes over the results of the open purchases, and returns the error of one that is
// still open.
func (b *batch) take(results []*holdfastv1.PurchaseResult) (undecided error) {
	if len(results) != len(b.open) {
		return status.Error(codes.Internal, fmt.Sprintf("%d purchases were answered with %d results", len(b.open), len(results)))
	}
	var still []int
	for n, i := range b.open {
		b.results[i] = results[n]
		err := status.FromProto(results[n].GetError()).Err()
		if _, again := repetition(err); err != nil && again {
			still, undecided = append(still, i), err
		}
	}
	b.open, b.answered = still, true
	return undecided
}
