package worker

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// Programs act on code and reason: repeat, give up, or call an operator.
func TestErrorsTellWhatToDo(t *testing.T) {
	s := &service{log: hclog.NewNullLogger()}
	shard := func(cause error) error { return &ShardError{Shard: "eu", cause: cause} }
	for _, tt := range []struct {
		err    error
		code   codes.Code
		reason string
	}{
		{&InsufficientStockError{Available: 3}, codes.FailedPrecondition, holdfastv1.ReasonInsufficientStock},
		{&LimitError{Limit: maxPerPurchase, Max: 3}, codes.FailedPrecondition, holdfastv1.ReasonLimitExceeded},
		{ErrProductNotFound, codes.NotFound, holdfastv1.ReasonProductNotFound},
		{errRequestIDReused, codes.InvalidArgument, holdfastv1.ReasonRequestIDReused},
		{&ProductExistsError{Field: "amount_in_storage", Value: 3}, codes.AlreadyExists, holdfastv1.ReasonProductExists},
		{ErrDraining, codes.Unavailable, holdfastv1.ReasonWorkerDraining},
		{shard(ledger.ErrNotSent), codes.Unavailable, holdfastv1.ReasonShardUnavailable},
		{shard(fmt.Errorf("raise: %w", ledger.ErrFenced)), codes.Unavailable, holdfastv1.ReasonFenced},
		{shard(&ledger.RefusedError{PgError: &pgconn.PgError{Code: "23514"}}), codes.Internal, "INTERNAL"},
		{shard(&ledger.RefusedError{PgError: &pgconn.PgError{Code: "55P03"}}), codes.Unavailable, holdfastv1.ReasonShardUnavailable},
		{shard(&ledger.RefusedError{PgError: &pgconn.PgError{Code: "40P01"}}), codes.Unavailable, holdfastv1.ReasonShardUnavailable},
		{&LockError{cause: errors.New("etcd is away")}, codes.Unavailable, holdfastv1.ReasonLockUnavailable},
		{errors.New("password=secret"), codes.Internal, "INTERNAL"},
	} {
		got := s.status(t.Context(), "p", tt.err)
		if status.Code(got) != tt.code || holdfastv1.Reason(got) != tt.reason {
			t.Errorf("%v: %v %s, want %v %s", tt.err, status.Code(got), holdfastv1.Reason(got), tt.code, tt.reason)
		}
	}
	if got := s.status(t.Context(), "p", errors.New("password=secret")); status.Convert(got).Message() != "internal error" {
		t.Errorf("what is not known reached the caller: %v", got)
	}
}

// Admission subtracts the amount, so a negative one would make units of nothing.
// Coordinators refuse it; a worker must not rely on that.
func TestWorkerRefusesAmountsBelowOne(t *testing.T) {
	s := &service{topology: cluster.Topology{Number: 1, Shards: []string{"eu"}}, log: hclog.NewNullLogger()}
	for _, amount := range []int64{0, -1} {
		err := s.sells(&holdfastv1.CreatePurchaseRequest{ProductId: "p", Region: "eu", Amount: amount})
		if holdfastv1.Reason(err) != holdfastv1.ReasonInvalidField {
			t.Errorf("purchase of %d: %v", amount, err)
		}
		_, err = s.CreateProduct(context.Background(), &holdfastv1.CreateProductRequest{ProductId: "p", AmountInStorage: amount})
		if holdfastv1.Reason(err) != holdfastv1.ReasonInvalidField {
			t.Errorf("product of %d: %v", amount, err)
		}
	}
}
