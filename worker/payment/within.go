package payment

import (
	"context"
	"time"
)

// Within is the provider with a limit for each call, besides the caller's own. A call that
// takes longer is [ErrUnknown].
func Within(provider Provider, limit time.Duration) Provider {
	return within{provider: provider, limit: limit}
}

type within struct {
	provider Provider
	limit    time.Duration
}

func (w within) Authorize(ctx context.Context, p Payment) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, w.limit)
	defer cancel()
	return w.provider.Authorize(ctx, p)
}

func (w within) Capture(ctx context.Context, p Payment, minorUnits int64) error {
	ctx, cancel := context.WithTimeout(ctx, w.limit)
	defer cancel()
	return w.provider.Capture(ctx, p, minorUnits)
}

func (w within) Void(ctx context.Context, p Payment) error {
	ctx, cancel := context.WithTimeout(ctx, w.limit)
	defer cancel()
	return w.provider.Void(ctx, p)
}

func (w within) Refund(ctx context.Context, p Payment, refundKey string, minorUnits int64) error {
	ctx, cancel := context.WithTimeout(ctx, w.limit)
	defer cancel()
	return w.provider.Refund(ctx, p, refundKey, minorUnits)
}

func (w within) LookUp(ctx context.Context, p Payment) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, w.limit)
	defer cancel()
	return w.provider.LookUp(ctx, p)
}
