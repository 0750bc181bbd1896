package auth

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Roles is a set of roles.
type Roles uint8

// The roles.
const (
	Buyer Roles = 1 << iota
	Operator
	Viewer
)

var roleNames = map[string]Roles{"buyer": Buyer, "operator": Operator, "viewer": Viewer}

// Has reports whether one of the others is in the set.
func (r Roles) Has(others Roles) bool { return r&others != 0 }

// Caller is who makes a call.
type Caller struct {
	Name       string // for logs; unique
	Roles      Roles
	CustomerID string    // for whom a buyer buys
	Expires    time.Time // when the token does; zero for never
}

// onlyBuys reports whether nothing but the role of a buyer lets somebody do what both may.
func (c *Caller) onlyBuys(may Roles) bool { return !c.Roles.Has(may &^ Buyer) }

var (
	// ErrNoToken is told of a call without a token.
	ErrNoToken = errors.New("no token")
	// ErrExpired is told of a token that was valid.
	ErrExpired = errors.New("the token has expired")
	// ErrForeign is told of a token that nobody knows: of another issuer, for another
	// audience, with a signature that is not the issuer's, or none at all.
	ErrForeign = errors.New("the token is not known")
	// ErrUnavailable is told when the issuer does not answer.
	ErrUnavailable = errors.New("the issuer of tokens does not answer")
	// ErrRole is told a caller without the role that a request takes.
	ErrRole = errors.New("the caller's roles do not allow it")
	// ErrCustomer is told a buyer who asks for another customer.
	ErrCustomer = errors.New("it is another customer's")
	// ErrPrice is told a buyer who names a price.
	ErrPrice = fmt.Errorf("%w: buyers do not name prices", ErrRole)
)

type contextKey struct{}

// NewContext is the context of a call of this caller.
func NewContext(ctx context.Context, c *Caller) context.Context {
	return context.WithValue(ctx, contextKey{}, c)
}

// FromContext is who makes the call of a context, or nil.
func FromContext(ctx context.Context) *Caller {
	c, _ := ctx.Value(contextKey{}).(*Caller)
	return c
}
