package worker

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/api/traces"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// status is the one place where errors become what callers see. What it does
// not know is internal: the caller is told no more, and the log everything.
func (s *service) status(ctx context.Context, productID string, err error) error {
	var (
		stock  *InsufficientStockError
		limit  *LimitError
		exists *ProductExistsError
		shard  *ShardError
		lock   *LockError

		refused *ledger.RefusedError
	)
	switch {
	case errors.As(err, &stock):
		return holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonInsufficientStock, err.Error(),
			map[string]string{"product_id": productID, "available": strconv.FormatInt(stock.Available, 10)})
	case errors.As(err, &limit):
		return limitStatus(productID, limit)
	case errors.Is(err, ErrProductNotFound):
		return holdfastv1.Error(codes.NotFound, holdfastv1.ReasonProductNotFound,
			fmt.Sprintf("product_id: there is no product %q", productID), map[string]string{"product_id": productID})
	case errors.Is(err, errRequestIDReused):
		return holdfastv1.FieldError(holdfastv1.ReasonRequestIDReused, "request_id", err.Error())
	case errors.Is(err, errPastHold):
		return pastHold()
	case errors.Is(err, link.ErrLate):
		return link.ErrLate
	case errors.As(err, &exists):
		return holdfastv1.Error(codes.AlreadyExists, holdfastv1.ReasonProductExists,
			fmt.Sprintf("%s: product %q %v and cannot be changed", exists.Field, productID, err),
			map[string]string{"product_id": productID, exists.Field: strconv.FormatInt(exists.Value, 10)})
	case errors.Is(err, ErrDraining):
		return drainingStatus()
	case ctx.Err() != nil:
		return holdfastv1.Error(contextCode(ctx), holdfastv1.ReasonLockUnavailable,
			"no outcome before the deadline; repeat with the same request_id", nil)
	case errors.Is(err, ledger.ErrFenced):
		return holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonFenced,
			"the shards know newer tenures of the product than etcd does; an operator has to look", nil)
	case errors.As(err, &refused) && !refused.Transient():
		break // the database will not take this purchase, however often it is sent
	case errors.As(err, &shard):
		if !isContactLost(err) {
			traces.Log(ctx, s.log).Warn("shard unavailable", "product", productID, "error", err)
		}
		return holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonShardUnavailable,
			fmt.Sprintf("shard %s did not answer; repeat with the same request_id", shard.Shard),
			map[string]string{"shard": shard.Shard})
	case errors.As(err, &lock):
		traces.Log(ctx, s.log).Warn("lock unavailable", "product", productID, "error", err)
		return holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonLockUnavailable,
			"the product's lock could not be had in time; repeat with the same request_id", nil)
	}
	traces.Log(ctx, s.log).Error("internal error", "product", productID, "error", err)
	return holdfastv1.Error(codes.Internal, "INTERNAL", "internal error", nil)
}

// limitStatus tells by which limit a purchase is refused.
func limitStatus(productID string, e *LimitError) error {
	metadata := map[string]string{"product_id": productID, e.Limit: strconv.FormatInt(e.Max, 10)}
	if e.Limit == maxPerCustomer {
		metadata["has"] = strconv.FormatInt(e.Has, 10)
	}
	return holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonLimitExceeded,
		fmt.Sprintf("amount: %v", e), metadata)
}

func pastHold() error {
	return holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "hold.expire_time", errPastHold.Error())
}

func drainingStatus() error {
	return holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonWorkerDraining, ErrDraining.Error(), nil)
}

func contextCode(ctx context.Context) codes.Code {
	if errors.Is(ctx.Err(), context.Canceled) {
		return codes.Canceled
	}
	return codes.DeadlineExceeded
}

func unknownRegion(region string, t cluster.Topology) error {
	return holdfastv1.FieldError(holdfastv1.ReasonUnknownRegion, "region",
		fmt.Sprintf("there is no region %q; known are %s", region, strings.Join(t.Shards, ", ")))
}

const (
	defaultPage = 100
	maxPage     = 1000
)

func pageSize(asked int32) int {
	if asked <= 0 {
		return defaultPage
	}
	return min(int(asked), maxPage)
}

// A page token is the id that the page before ended with.
func encodeToken(id string) string { return base64.RawURLEncoding.EncodeToString([]byte(id)) }

func decodeToken(token string) (string, error) {
	id, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || !utf8.Valid(id) || bytes.ContainsRune(id, 0) { // Postgres takes neither
		return "", badToken()
	}
	return string(id), nil
}

func decodePurchaseToken(token string) (shard string, after uuid.UUID, err error) {
	id, err := decodeToken(token)
	if err != nil || id == "" {
		return "", uuid.Nil, err
	}
	shard, after, ok := holdfastv1.ParseID(id)
	if !ok {
		return "", uuid.Nil, badToken()
	}
	return shard, after, nil
}

func badToken() error {
	return holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "page_token", "is not a token of this listing")
}
