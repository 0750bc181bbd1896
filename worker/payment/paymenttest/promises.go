package paymenttest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/worker/payment"
)

func repeats(t *testing.T, b *bench) {
	p := b.payment()
	b.is(t, p, payment.Nothing)
	var references [2]string
	for i := range 2 {
		reference, err := b.Authorize(t.Context(), p)
		b.ok(t, err)
		references[i] = reference
		b.is(t, p, payment.Authorized, 1000)
	}
	if references[0] == "" || references[0] != references[1] {
		t.Fatalf("references are %q", references)
	}
	p.Reference = references[0]
	for range 2 {
		b.ok(t, b.Capture(t.Context(), p, 1000))
		b.is(t, p, payment.Captured, 1000, 1000)
	}
	b.ok(t, authorize(b, p))
	for range 2 {
		b.ok(t, b.Refund(t.Context(), p, "r1", 1000))
		b.is(t, p, payment.Captured, 1000, 1000, 1000)
	}
	b.ok(t, b.Capture(t.Context(), p, 1000))
	p.Reference = ""
	b.is(t, p, payment.Captured, 1000, 1000, 1000)
}

func declines(t *testing.T, b *bench) {
	p := b.payment()
	p.Method = b.subject.Declined
	for range 2 {
		err := authorize(b, p)
		if refusal, ok := errors.AsType[*payment.DeclinedError](err); !ok || refusal.Code == "" {
			t.Fatalf("got %v", err)
		}
		b.is(t, p, payment.Declined)
	}
	b.refused(t, b.Capture(t.Context(), p, 1000), payment.ReasonNotAuthorized)
	b.ok(t, b.Void(t.Context(), p))
	b.is(t, p, payment.Declined)
	if err := authorize(b, p); !declined(err) {
		t.Fatalf("got %v", err)
	}
}

func capturesPart(t *testing.T, b *bench) {
	p := b.authorized(t)
	b.ok(t, b.Capture(t.Context(), p, 400))
	b.is(t, p, payment.Captured, 1000, 400)
	b.refused(t, b.Capture(t.Context(), p, 600), payment.ReasonReused)
	b.refused(t, b.Refund(t.Context(), p, "r1", 401), payment.ReasonTooMuch)
	b.ok(t, b.Refund(t.Context(), p, "r2", 400))
	b.is(t, p, payment.Captured, 1000, 400, 400)
}

func capturesOnce(t *testing.T, b *bench) {
	p := b.authorized(t)
	b.refused(t, b.Capture(t.Context(), p, 1001), payment.ReasonTooMuch)
	b.is(t, p, payment.Authorized, 1000)
	b.ok(t, b.Capture(t.Context(), p, 1000))
	b.refused(t, b.Capture(t.Context(), p, 999), payment.ReasonReused)
	b.is(t, p, payment.Captured, 1000, 1000)
}

func refunds(t *testing.T, b *bench) {
	p := b.captured(t)
	b.ok(t, b.Refund(t.Context(), p, "r1", 300))
	b.ok(t, b.Refund(t.Context(), p, "r1", 300))
	b.refused(t, b.Refund(t.Context(), p, "r1", 301), payment.ReasonReused)
	b.is(t, p, payment.Captured, 1000, 1000, 300)
	b.refused(t, b.Refund(t.Context(), p, "r2", 701), payment.ReasonTooMuch)
	b.ok(t, b.Refund(t.Context(), p, "r3", 700))
	b.refused(t, b.Refund(t.Context(), p, "r4", 1), payment.ReasonTooMuch)
	b.ok(t, b.Refund(t.Context(), p, "r3", 700))
	b.is(t, p, payment.Captured, 1000, 1000, 1000)
}

func voids(t *testing.T, b *bench) {
	p := b.authorized(t)
	for range 2 {
		b.ok(t, b.Void(t.Context(), p))
		b.is(t, p, payment.Voided, 1000)
	}
	b.refused(t, b.Capture(t.Context(), p, 1000), payment.ReasonVoided)
	b.refused(t, authorize(b, p), payment.ReasonVoided)
	b.refused(t, b.Refund(t.Context(), p, "r1", 1), payment.ReasonNotCaptured)
	b.is(t, p, payment.Voided, 1000)
}

// The caller that crashed before it sent anything voids as well.
func voidsFirst(t *testing.T, b *bench) {
	p := b.payment()
	for range 2 {
		b.ok(t, b.Void(t.Context(), p))
		b.refused(t, authorize(b, p), payment.ReasonVoided)
		b.is(t, p, payment.Voided)
	}
	b.refused(t, b.Capture(t.Context(), p, 1000), payment.ReasonVoided)
}

func voidsCaptured(t *testing.T, b *bench) {
	p := b.captured(t)
	b.refused(t, b.Void(t.Context(), p), payment.ReasonCaptured)
	b.is(t, p, payment.Captured, 1000, 1000)
}

func reuses(t *testing.T, b *bench) {
	p := b.payment()
	reference, err := b.Authorize(t.Context(), p)
	b.ok(t, err)
	for name, change := range map[string]func(*payment.Payment){
		"amount":   func(p *payment.Payment) { p.MinorUnits = 2000 },
		"currency": func(p *payment.Payment) { p.Currency = "usd" },
		"method":   func(p *payment.Payment) { p.Method = b.subject.Declined },
	} {
		for _, known := range []string{"", reference} {
			other := p
			change(&other)
			other.Reference = known
			t.Logf("with another %s, reference %q", name, known)
			b.refused(t, authorize(b, other), payment.ReasonReused)
			b.refused(t, b.Capture(t.Context(), other, 1000), payment.ReasonReused)
			b.refused(t, b.Void(t.Context(), other), payment.ReasonReused)
		}
	}
	b.is(t, p, payment.Authorized, 1000)
}

func refusesEarly(t *testing.T, b *bench) {
	p := b.payment()
	b.refused(t, b.Capture(t.Context(), p, 1000), payment.ReasonNotAuthorized)
	b.refused(t, b.Refund(t.Context(), p, "r1", 1), payment.ReasonNotCaptured)
	b.is(t, p, payment.Nothing)
	b.ok(t, authorize(b, p))
	b.refused(t, b.Refund(t.Context(), p, "r1", 1), payment.ReasonNotCaptured)
	b.ok(t, b.Capture(t.Context(), p, 1000))
	b.ok(t, b.Refund(t.Context(), p, "r1", 1))
}

func malformed(t *testing.T, b *bench) {
	p := b.payment()
	p.Key = "it's"
	b.refused(t, authorize(b, p), payment.ReasonInvalid)
	p = b.payment()
	b.refused(t, b.Capture(t.Context(), p, 0), payment.ReasonInvalid)
	b.refused(t, b.Refund(t.Context(), p, "r1", -1), payment.ReasonInvalid)
	b.refused(t, b.Refund(t.Context(), p, "", 1), payment.ReasonInvalid)
}

func cancelled(t *testing.T, b *bench) {
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	p := b.payment()
	for name, err := range map[string]error{
		"capture": b.Capture(ctx, p, 1),
		"void":    b.Void(ctx, p),
		"refund":  b.Refund(ctx, p, "r1", 1),
	} {
		if !errors.Is(err, payment.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := b.Authorize(ctx, p); !errors.Is(err, payment.ErrUnknown) {
		t.Errorf("authorize: got %v", err)
	}
	b.is(t, p, payment.Nothing)
}
