package simulated

import (
	"maps"
	"sync"

	"github.com/holdfast-io/holdfast/worker/payment"
)

// operation is a method of payment.Provider, named as in the path.
type operation string

const (
	authorize operation = "authorize"
	capture   operation = "capture"
	void      operation = "void"
	refund    operation = "refund"
	lookUp    operation = "lookup"
)

// ledger is all payments. It decides; waiting and losing is the server's.
type ledger struct {
	mu     sync.Mutex
	byKey  map[string]*Entry
	listed []*Entry // by Number-1; without keys that were only looked up
}

// arrive counts a call, and answers which of its kind for that key it is.
func (l *ledger) arrive(op operation, c call) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.byKey[c.Key]
	if e == nil {
		e = &Entry{Key: c.Key, State: payment.Nothing}
		l.byKey[c.Key] = e
	}
	if op != lookUp && e.Number == 0 {
		l.listed = append(l.listed, e)
		e.Number = int64(len(l.listed))
		e.Method, e.Currency, e.MinorUnits = c.Method, c.Currency, c.MinorUnits
	}
	return e.Calls.add(op)
}

// apply does what a call that has arrived asks for, unless it was done before.
func (l *ledger) apply(op operation, c call, decline bool) (payment.Status, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.byKey[c.Key]
	err := e.apply(op, c, decline)
	if _, ok := err.(*payment.RefusedError); ok { //nolint:errorlint // made right here, never wrapped
		e.Refused++
	}
	return e.status(), err
}

func (e *Entry) apply(op operation, c call, decline bool) error {
	if e.Number > 0 && (e.Currency != c.Currency || e.MinorUnits != c.MinorUnits || e.Method != c.Method) {
		return payment.Refuse(payment.ReasonReused, "key %s is of another payment", c.Key)
	}
	switch op {
	case authorize:
		return e.authorize(decline)
	case capture:
		return e.capture(c.Amount)
	case void:
		return e.void()
	case refund:
		return e.refund(c.RefundKey, c.Amount)
	default:
		return nil
	}
}

func (e *Entry) authorize(decline bool) error {
	if !knownTokens[e.Method] {
		return payment.Refuse(payment.ReasonProvider, "there is no method %q", e.Method)
	}
	if e.State == payment.Nothing {
		if decline {
			e.State = payment.Declined
		} else {
			e.State, e.Authorized = payment.Authorized, e.MinorUnits
		}
	}
	switch e.State {
	case payment.Declined:
		return &payment.DeclinedError{Code: "card_declined", Message: "Your card was declined."}
	case payment.Voided:
		return payment.Refuse(payment.ReasonVoided, "payment %s was voided", e.Key)
	default:
		return nil
	}
}

func (e *Entry) capture(amount int64) error {
	switch {
	case e.State == payment.Captured:
		e.DoubleCaptures++
		if amount != e.Captured {
			return payment.Refuse(payment.ReasonReused, "%d were captured before, not %d", e.Captured, amount)
		}
		return nil
	case e.State == payment.Voided:
		return payment.Refuse(payment.ReasonVoided, "payment %s was voided", e.Key)
	case e.State != payment.Authorized:
		return payment.Refuse(payment.ReasonNotAuthorized, "payment %s is %s", e.Key, e.State)
	case amount > e.Authorized:
		return payment.Refuse(payment.ReasonTooMuch, "%d are authorized, not %d", e.Authorized, amount)
	}
	e.State, e.Captured, e.Voided = payment.Captured, amount, e.Authorized-amount
	return nil
}

// void also marks a key that nothing is known of: that is the tombstone.
func (e *Entry) void() error {
	switch e.State {
	case payment.Captured:
		return payment.Refuse(payment.ReasonCaptured, "payment %s was captured", e.Key)
	case payment.Nothing, payment.Authorized:
		e.State, e.Voided = payment.Voided, e.Authorized
	}
	return nil
}

func (e *Entry) refund(key string, amount int64) error {
	if before, ok := e.Refunds[key]; ok {
		e.DoubleRefunds++
		if before != amount {
			return payment.Refuse(payment.ReasonReused, "refund %s was of %d, not %d", key, before, amount)
		}
		return nil
	}
	switch {
	case e.State != payment.Captured:
		return payment.Refuse(payment.ReasonNotCaptured, "payment %s is %s", e.Key, e.State)
	case amount > e.Captured-e.Refunded:
		return payment.Refuse(payment.ReasonTooMuch, "%d are left to refund, not %d", e.Captured-e.Refunded, amount)
	}
	if e.Refunds == nil {
		e.Refunds = map[string]int64{}
	}
	e.Refunds[key] = amount
	e.Refunded += amount
	return nil
}

// page is up to limit entries after a number, and the number to go on after; 0 at the end.
func (l *ledger) page(after int64, limit int) ([]Entry, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	begin := min(max(after, 0), int64(len(l.listed)))
	end := min(begin+int64(limit), int64(len(l.listed)))
	entries := make([]Entry, 0, end-begin)
	for _, e := range l.listed[begin:end] {
		entry := *e
		entry.Refunds = maps.Clone(e.Refunds)
		entries = append(entries, entry)
	}
	if end == int64(len(l.listed)) {
		end = 0
	}
	return entries, end
}
