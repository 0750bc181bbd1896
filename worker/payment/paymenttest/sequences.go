package paymenttest

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-io/holdfast/worker/payment"
)

// Sequences checks the promises on random calls for a few payments, of which random
// messages are lost or late.
func Sequences(t *testing.T, subject Subject) {
	network := NewNetwork(t)
	b := &bench{subject: subject, network: network, Provider: subject.Open(t, network)}
	rapid.Check(t, func(t *rapid.T) {
		a := &accounts{bench: b}
		for range 2 {
			a.all = append(a.all, &account{payment: b.payment(), refunds: map[string]int64{}})
		}
		t.Repeat(map[string]func(*rapid.T){
			"authorize": a.authorize,
			"capture":   a.capture,
			"void":      a.void,
			"refund":    a.refund,
			"and again": a.refund, // twice as often: it takes several to be too much
			"deliver":   func(t *rapid.T) { network.Deliver(t); a.check(t, a.all...) },
			"":          func(t *rapid.T) { a.check(t, a.called...) },
		})
		network.Deliver(t)
		a.check(t, a.all...)
	})
}

// account is what the caller knows of one payment.
type account struct {
	payment  payment.Payment
	voided   bool             // a Void has returned nil
	captured int64            // a Capture of that has returned nil
	refunded map[string]bool  // refunds that have returned nil
	refunds  map[string]int64 // refunds that were tried
	last     payment.Status
}

type accounts struct {
	bench  *bench
	all    []*account
	called []*account // by the last action: the others cannot have changed
}

func (a *accounts) authorize(t *rapid.T) {
	one := a.one(t)
	err := a.call(t, func() error { return authorize(a.bench, one.payment) })
	if err == nil && one.voided {
		t.Fatal("authorized after the void")
	}
}

func (a *accounts) capture(t *rapid.T) {
	one := a.one(t)
	amount := rapid.SampledFrom([]int64{400, 1000, 1001}).Draw(t, "amount")
	err := a.call(t, func() error { return a.bench.Capture(t.Context(), one.payment, amount) })
	if err != nil {
		return
	}
	if one.voided || one.captured != 0 && one.captured != amount {
		t.Fatalf("captured %d of %+v", amount, one)
	}
	one.captured = amount
}

func (a *accounts) void(t *rapid.T) {
	one := a.one(t)
	err := a.call(t, func() error { return a.bench.Void(t.Context(), one.payment) })
	if err == nil && one.captured != 0 {
		t.Fatal("voided after the capture")
	}
	one.voided = one.voided || err == nil
}

func (a *accounts) refund(t *rapid.T) {
	one := a.one(t)
	key := rapid.SampledFrom([]string{"r1", "r2", "r3"}).Draw(t, "refund")
	amount, tried := one.refunds[key]
	if !tried {
		amount = rapid.SampledFrom([]int64{1, 300, 700, 1001}).Draw(t, "amount")
		one.refunds[key] = amount
	}
	err := a.call(t, func() error { return a.bench.Refund(t.Context(), one.payment, key, amount) })
	if err == nil {
		if one.refunded == nil {
			one.refunded = map[string]bool{}
		}
		one.refunded[key] = true
	}
}

func (a *accounts) one(t *rapid.T) *account {
	one := rapid.SampledFrom(a.all).Draw(t, "payment")
	a.called = []*account{one}
	return one
}

// call makes one that may break.
func (a *accounts) call(t *rapid.T, call func() error) error {
	fault := rapid.SampledFrom([]Fault{NoFault, NoFault, NoFault, RequestLost, ReplyLost, RequestLate}).Draw(t, "fault")
	a.bench.network.Break(fault, rapid.IntRange(1, 3).Draw(t, "message"))
	err := call()
	a.bench.network.Mend()
	if errors.Is(err, ErrLost) && !errors.Is(err, payment.ErrUnknown) {
		t.Fatalf("a lost message became %v", err)
	}
	return err
}

func (a *accounts) check(t *rapid.T, accounts ...*account) {
	for _, one := range accounts {
		got, err := a.bench.LookUp(t.Context(), one.payment)
		if err == nil {
			err = one.agrees(got)
		}
		if err != nil {
			t.Fatalf("%v: got %+v before %+v, caller knows %+v", err, got, one.last, one)
		}
		one.last = got
	}
}

// agrees checks a status against what the caller knows and what was true before.
func (one *account) agrees(got payment.Status) error {
	var certain, possible int64
	for key, amount := range one.refunds {
		possible += amount
		if one.refunded[key] {
			certain += amount
		}
	}
	switch before := one.last; {
	case got.Authorized > one.payment.MinorUnits, got.Captured > got.Authorized, got.Refunded > got.Captured:
		return errors.New("more was moved than may be")
	case one.voided && got.State != payment.Voided:
		return errors.New("the void was not definite")
	case one.captured != 0 && got.Captured != one.captured:
		return errors.New("a capture is not as it was answered")
	case before.Captured != 0 && got.Captured != before.Captured:
		return errors.New("a capture has changed")
	case got.Refunded < certain || got.Refunded > possible || got.Refunded < before.Refunded:
		return fmt.Errorf("refunds are of %d to %d", certain, possible)
	default:
		return nil
	}
}
