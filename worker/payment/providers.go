package payment

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Providers are the providers that a worker can pay with, by the names that a
// payment_method has. The zero value has none.
type Providers struct {
	named map[string]Provider
}

// NewProviders keeps providers by their names, which must be fit for a payment_method.
func NewProviders(named map[string]Provider) (Providers, error) {
	for name, provider := range named {
		if err := checkName(name); err != nil {
			return Providers{}, fmt.Errorf("name provider: %w", err)
		}
		if provider == nil {
			return Providers{}, fmt.Errorf("name provider: %s is nil", name)
		}
	}
	return Providers{named: maps.Clone(named)}, nil
}

// Find is the provider and the token that a payment_method names. The error is [ErrMethod].
func (ps Providers) Find(paymentMethod string) (Provider, Method, error) {
	method, err := ParseMethod(paymentMethod)
	if err != nil {
		return nil, Method{}, err
	}
	provider, ok := ps.named[method.Provider]
	if !ok {
		return nil, Method{}, fmt.Errorf("%w names the provider %q, but there are only %s",
			ErrMethod, method.Provider, ps)
	}
	return provider, method, nil
}

// Names are the providers' names, in order.
func (ps Providers) Names() []string { return slices.Sorted(maps.Keys(ps.named)) }

// String lists the names.
func (ps Providers) String() string {
	if len(ps.named) == 0 {
		return "none"
	}
	return strings.Join(ps.Names(), ", ")
}
