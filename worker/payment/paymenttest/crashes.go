package paymenttest

import (
	"errors"
	"testing"

	"github.com/holdfast-io/holdfast/worker/payment"
)

// step is a call, what must be done before it, and what is true after it.
type step struct {
	name   string
	before func(b *bench, p payment.Payment) error
	call   func(b *bench, p payment.Payment) error
	after  func(t *testing.T, b *bench, p payment.Payment)
}

func steps(t *testing.T) []step {
	ctx := t.Context()
	begin := func(*bench, payment.Payment) error { return nil }
	capture := func(b *bench, p payment.Payment) error { return b.Capture(ctx, p, 600) }
	refund := func(b *bench, p payment.Payment) error { return b.Refund(ctx, p, "r1", 200) }
	void := func(b *bench, p payment.Payment) error { return b.Void(ctx, p) }
	captured := func(b *bench, p payment.Payment) error { return errors.Join(authorize(b, p), capture(b, p)) }
	is := func(state payment.State, amounts ...int64) func(*testing.T, *bench, payment.Payment) {
		return func(t *testing.T, b *bench, p payment.Payment) {
			t.Helper()
			b.is(t, p, state, amounts...)
		}
	}
	return []step{
		{"authorize", begin, authorize, is(payment.Authorized, 1000)},
		{"capture", authorize, capture, is(payment.Captured, 1000, 600)},
		{"void", authorize, void, is(payment.Voided, 1000)},
		{"void of nothing", begin, void, is(payment.Voided)},
		{"refund", captured, refund, is(payment.Captured, 1000, 600, 200)},
	}
}

// crashes breaks the first, second, … request of a call, until there is none left to break,
// and repeats the call as whoever comes after the crash does.
func crashes(t *testing.T, b *bench) {
	for _, step := range steps(t) {
		for _, fault := range Faults {
			for nth := 1; ; nth++ {
				p := b.payment()
				b.ok(t, step.before(b, p))
				b.network.Break(fault, nth)
				err := step.call(b, p)
				broke := b.network.Mend()
				t.Logf("%s, %s of message %d: %v", step.name, fault, nth, err)
				if !broke {
					b.ok(t, err)
					break
				}
				if err != nil && !errors.Is(err, payment.ErrUnknown) {
					t.Fatalf("got %v", err)
				}
				b.ok(t, step.call(b, p))
				step.after(t, b, p)
				b.network.Deliver(t)
				step.after(t, b, p)
			}
		}
	}
}

// lateAuthorize is the case that Void is made for: the caller sent an Authorize, crashed,
// and it arrives after its heir has voided.
func lateAuthorize(t *testing.T, b *bench) {
	for nth := 1; ; nth++ {
		p := b.payment()
		b.network.Break(RequestLate, nth)
		err := authorize(b, p)
		if !b.network.Mend() {
			b.ok(t, err)
			return
		}
		b.ok(t, b.Void(t.Context(), p))
		b.network.Deliver(t)
		b.voided(t, p)
	}
}

// crashedVoid loses one message of the Authorize and then one of the Void.
func crashedVoid(t *testing.T, b *bench) {
	for _, first := range Faults {
		for _, second := range Faults {
			for i := 1; b.crashVoid(t, first, i, second, 1); i++ {
				for j := 2; b.crashVoid(t, first, i, second, j); j++ {
				}
			}
		}
	}
}

// crashVoid tells whether both calls had as many messages.
func (b *bench) crashVoid(t *testing.T, first Fault, i int, second Fault, j int) bool {
	p := b.payment()
	b.network.Break(first, i)
	_ = authorize(b, p)
	broke := b.network.Mend()
	b.network.Break(second, j)
	_ = b.Void(t.Context(), p)
	broke = b.network.Mend() && broke
	b.ok(t, b.Void(t.Context(), p))
	b.network.Deliver(t)
	b.voided(t, p)
	return broke
}

// voided checks that nothing is held and nothing can be.
func (b *bench) voided(t *testing.T, p payment.Payment) {
	t.Helper()
	for range 2 {
		got, err := b.LookUp(t.Context(), p)
		if err != nil || got.State != payment.Voided || got.Captured != 0 {
			t.Fatalf("got %+v, %v", got, err)
		}
		b.refused(t, authorize(b, p), payment.ReasonVoided)
		b.refused(t, b.Capture(t.Context(), p, 1000), payment.ReasonVoided)
	}
}
