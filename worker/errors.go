package worker

import (
	"errors"
	"fmt"
)

var (
	// ErrProductNotFound is returned when no shard knows the product.
	ErrProductNotFound = errors.New("product not found")
	// ErrDraining is returned when the worker is shutting down.
	ErrDraining = errors.New("worker is draining")

	errRequestIDReused = errors.New("request id was used with other content")
)

// InsufficientStockError refuses a purchase: when the tenure looked, fewer units
// were available than asked for, and nothing in flight could change that.
type InsufficientStockError struct{ Available int64 }

func (e *InsufficientStockError) Error() string {
	return fmt.Sprintf("%d units available", e.Available)
}

// ShardError names the shard that a call needed and that did not do its part.
type ShardError struct {
	Shard string
	cause error
}

func (e *ShardError) Error() string { return fmt.Sprintf("shard %s: %v", e.Shard, e.cause) }
func (e *ShardError) Unwrap() error { return e.cause }

// LockError says that the product's lock could not be had in time.
type LockError struct{ cause error }

func (e *LockError) Error() string { return fmt.Sprintf("acquire lock: %v", e.cause) }
func (e *LockError) Unwrap() error { return e.cause }

// ProductExistsError says that a product exists with another amount.
type ProductExistsError struct{ AmountInStorage int64 }

func (e *ProductExistsError) Error() string {
	return fmt.Sprintf("exists with amount_in_storage %d", e.AmountInStorage)
}
