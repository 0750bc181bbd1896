package paymenttest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/holdfast-io/holdfast/worker/payment"
)

// rounds is how often each race is run.
const rounds = 20

// Whoever wins: after the void has returned, nothing is held.
func races(t *testing.T, b *bench) {
	for range rounds {
		p := b.payment()
		var authorized, voided error
		together(
			func() { authorized = authorize(b, p) },
			func() { voided = again(func() error { return b.Void(t.Context(), p) }) },
		)
		b.ok(t, voided)
		if authorized != nil && !payment.IsRefused(authorized, payment.ReasonVoided) && !errors.Is(authorized, payment.ErrUnknown) {
			t.Fatalf("authorize: got %v", authorized)
		}
		b.refused(t, authorize(b, p), payment.ReasonVoided)
		b.refused(t, b.Capture(t.Context(), p, 1000), payment.ReasonVoided)
		got, err := b.LookUp(t.Context(), p)
		if err != nil || got.State != payment.Voided || got.Captured != 0 {
			t.Fatalf("got %+v, %v", got, err)
		}
	}
}

// One of them wins, and the other is told so.
func racesCapture(t *testing.T, b *bench) {
	for range rounds {
		p := b.authorized(t)
		var captured, voided error
		together(
			func() { captured = again(func() error { return b.Capture(t.Context(), p, 1000) }) },
			func() { voided = again(func() error { return b.Void(t.Context(), p) }) },
		)
		if captured == nil {
			b.refused(t, voided, payment.ReasonCaptured)
			b.is(t, p, payment.Captured, 1000, 1000)
			continue
		}
		b.refused(t, captured, payment.ReasonVoided)
		b.ok(t, voided)
		b.is(t, p, payment.Voided, 1000)
	}
}

// Four refunds of 400 cannot all be of 1000, nor can one of them happen twice.
func racesRefunds(t *testing.T, b *bench) {
	p := b.captured(t)
	var calls []func()
	errs := make([]error, 8)
	for i := range errs {
		key := fmt.Sprintf("r%d", i%4)
		calls = append(calls, func() { errs[i] = again(func() error { return b.Refund(t.Context(), p, key, 400) }) })
	}
	together(calls...)
	succeeded := map[int]bool{}
	for i, err := range errs {
		if err == nil {
			succeeded[i%4] = true
			continue
		}
		b.refused(t, err, payment.ReasonTooMuch)
	}
	if len(succeeded) != 2 {
		t.Fatalf("%d refunds succeeded", len(succeeded))
	}
	b.is(t, p, payment.Captured, 1000, 1000, 800)
}

// again repeats a call while its outcome is not known, as callers do.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, payment.ErrUnknown) {
			return err
		}
	}
}
