package worker

import (
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

var (
	// ErrProductNotFound is returned when no shard knows the product.
	ErrProductNotFound = errors.New("product not found")
	// ErrDraining is returned when the worker is shutting down.
	ErrDraining = errors.New("worker is draining")

	errRequestIDReused = ledger.ErrRequestIDReused
	// errPastHold refuses a hold that would be over when it begins.
	errPastHold = ledger.ErrPastHold
	// errTakenBefore ends what takes units and has taken them before: whoever asked for it
	// looks for the first outcome.
	errTakenBefore = errors.New("units were taken before")
)

// InsufficientStockError refuses a purchase: when the tenure looked, fewer units
// were available than asked for, and nothing in flight could change that.
type InsufficientStockError struct{ Available int64 }

func (e *InsufficientStockError) Error() string {
	return fmt.Sprintf("%d units available", e.Available)
}

// LimitError refuses a purchase that goes beyond a limit of its product.
type LimitError struct {
	Limit string // the limit's name in the contract
	Max   int64
	Has   int64 // units that the customer has already, where that counts
}

func (e *LimitError) Error() string { return fmt.Sprintf("%s is %d", e.Limit, e.Max) }

const (
	maxPerPurchase = "max_per_purchase"
	maxPerCustomer = "max_per_customer"
)

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

// ProductExistsError says that a product exists with another value of a field.
type ProductExistsError struct {
	Field string
	Value int64
}

func (e *ProductExistsError) Error() string {
	return fmt.Sprintf("exists with %s %d", e.Field, e.Value)
}
