package paymenttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/worker/payment"
)

// Subject is a provider under test. Every Run makes new payments; nothing has to be empty.
type Subject struct {
	// Open makes a provider that sends all its requests through a network.
	Open func(t *testing.T, network *Network) payment.Provider
	// Accepted and Declined are tokens of methods that are authorized and declined.
	Accepted, Declined string
}

// Run checks every promise.
func Run(t *testing.T, subject Subject) {
	for name, check := range map[string]func(*testing.T, *bench){
		"repeated calls answer as the first":       repeats,
		"a declined payment stays declined":        declines,
		"a smaller capture is final":               capturesPart,
		"captures happen once":                     capturesOnce,
		"refunds happen once, and not too much":    refunds,
		"a void is definite":                       voids,
		"a void before the authorize is definite":  voidsFirst,
		"what was captured is not voided":          voidsCaptured,
		"a key is of one payment":                  reuses,
		"what cannot be is refused, without harm":  refusesEarly,
		"malformed payments are refused":           malformed,
		"a call ends with its context":             cancelled,
		"voids and authorizes may race":            races,
		"captures and voids may race":              racesCapture,
		"refunds may race":                         racesRefunds,
		"any request or reply may be lost":         crashes,
		"an authorize may arrive after the void":   lateAuthorize,
		"a void is definite after a crash of both": crashedVoid,
	} {
		t.Run(name, func(t *testing.T) {
			network := NewNetwork(t)
			check(t, &bench{subject: subject, network: network, Provider: subject.Open(t, network)})
		})
	}
}

// keys makes keys that no earlier payment had, also not at a server that goes on running.
var keys atomic.Int64

// bench is where one promise is checked.
type bench struct {
	payment.Provider
	subject Subject
	network *Network
}

// payment of 1000 that will be accepted.
func (b *bench) payment() payment.Payment {
	return payment.Payment{
		Key:    fmt.Sprintf("eu-%d-%d", time.Now().UnixNano(), keys.Add(1)),
		Method: b.subject.Accepted,
		Money:  payment.Money{Currency: "eur", MinorUnits: 1000},
		Begun:  time.Now(),
	}
}

func (b *bench) authorized(t *testing.T) payment.Payment {
	t.Helper()
	p := b.payment()
	b.ok(t, authorize(b, p))
	return p
}

func (b *bench) captured(t *testing.T) payment.Payment {
	t.Helper()
	p := b.authorized(t)
	b.ok(t, b.Capture(t.Context(), p, 1000))
	return p
}

func (b *bench) ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) refused(t *testing.T, err error, reason payment.Reason) {
	t.Helper()
	if !payment.IsRefused(err, reason) {
		t.Fatalf("got %v, want refused for %s", err, reason)
	}
}

// is checks how far a payment is: state, and amounts authorized, captured and refunded.
func (b *bench) is(t *testing.T, p payment.Payment, state payment.State, amounts ...int64) {
	t.Helper()
	got, err := b.LookUp(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	var want [3]int64
	copy(want[:], amounts)
	if got.State != state || want != [3]int64{got.Authorized, got.Captured, got.Refunded} {
		t.Fatalf("got %+v, want %s %v", got, state, amounts)
	}
}

// authorize without the reference, which most checks do not need.
func authorize(b *bench, p payment.Payment) error {
	_, err := b.Authorize(context.Background(), p)
	return err
}

func declined(err error) bool {
	_, ok := errors.AsType[*payment.DeclinedError](err)
	return ok
}

// together runs functions at once and waits for all.
func together(functions ...func()) {
	var group sync.WaitGroup
	for _, f := range functions {
		group.Go(f)
	}
	group.Wait()
}
