package replay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// Answer is what a buyer was told in the end.
type Answer int

const (
	Unasked  Answer = iota // the run ended before the line was taken
	Admitted               // it is his
	Refused                // there are not enough units left
	Failed                 // neither, within his patience
)

// An Outcome is one line and what its buyer was told.
type Outcome struct {
	Line       Line
	Answer     Answer
	PurchaseID string // when Admitted
	Failure    string // when Failed: the error in words
	Attempts   int
	// Start and End carry the monotonic clock; repeated attempts lie between.
	Start, End time.Time
}

// buy buys one line, under the line's request id however often it takes.
func (c *crowd) buy(ctx context.Context, line Line) Outcome {
	outcome := Outcome{Line: line, Start: time.Now()}
	request := &holdfastv1.CreatePurchaseRequest{
		ProductId:  line.ProductID,
		Amount:     line.Amount,
		CustomerId: line.CustomerID,
		Region:     c.Region(line.Country),
		RequestId:  line.RequestID,
	}
	var purchase *holdfastv1.Purchase
	attempts, err := insist(ctx, c.Patience, func(ctx context.Context) (err error) {
		purchase, err = c.Purchases.CreatePurchase(ctx, request)
		return err
	})
	if err == nil {
		err = checkReceipt(line, purchase)
	}
	outcome.End, outcome.Attempts = time.Now(), attempts
	switch {
	case err == nil:
		outcome.Answer, outcome.PurchaseID = Admitted, purchase.GetPurchaseId()
	case isInsufficientStock(err):
		outcome.Answer = Refused
	default:
		outcome.Answer, outcome.Failure = Failed, err.Error()
	}
	return outcome
}

// checkReceipt makes sure that the purchase is the one that was asked for.
func checkReceipt(line Line, purchase *holdfastv1.Purchase) error {
	if purchase.GetPurchaseId() == "" {
		return errors.New("answered a purchase without an id")
	}
	if purchase.GetProductId() != line.ProductID || purchase.GetAmount() != line.Amount ||
		purchase.GetRequestId() != line.RequestID {
		return fmt.Errorf("answered another purchase: %v", purchase)
	}
	return nil
}

const (
	// attemptTimeout is shorter than any patience worth having, so that a call
	// into a process that stands still is repeated.
	attemptTimeout = 5 * time.Second

	// The backoff stays short: an outage is measured by the buyers who wait.
	firstBackoff   = 5 * time.Millisecond
	longestBackoff = 100 * time.Millisecond
)

// insist repeats a call as long as its answer leaves open what happened. Every
// such call must be one that may be repeated.
func insist(ctx context.Context, patience time.Duration, call func(context.Context) error) (attempts int, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last error // that the server gave, rather than the end of patience
	for backoff := firstBackoff; ; backoff = min(2*backoff, longestBackoff) {
		attempts++
		if err = attempt(ctx, call); !leavesOpen(err) {
			return attempts, err
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return attempts, fmt.Errorf("no outcome in %d attempts: %w", attempts, last)
		case <-time.After(backoff/2 + rand.N(backoff/2)):
		}
	}
}

func attempt(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	return call(ctx)
}

func leavesOpen(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted:
		return true
	}
	return false
}

// isInsufficientStock tells the one refusal from every other failed
// precondition.
func isInsufficientStock(err error) bool {
	answer := status.Convert(err)
	if answer.Code() != codes.FailedPrecondition {
		return false
	}
	for _, detail := range answer.Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if ok && info.GetReason() == "INSUFFICIENT_STOCK" && info.GetDomain() == "holdfast" {
			return true
		}
	}
	return false
}
