package simulated

import (
	"fmt"

	"github.com/holdfast-io/holdfast/worker/payment"
)

// Entry is one payment of the ledger. Amounts are minor units of Currency.
type Entry struct {
	// Number orders the ledger by when a key was first written to, from 1.
	Number     int64         `json:"number"`
	Key        string        `json:"key"`
	Method     string        `json:"method"`
	Currency   string        `json:"currency"`
	MinorUnits int64         `json:"minor_units"`
	State      payment.State `json:"state"`

	Authorized int64 `json:"authorized"`
	Captured   int64 `json:"captured"`
	Refunded   int64 `json:"refunded"`
	// Voided is what was authorized and let go again, by a void or a smaller capture.
	Voided int64 `json:"voided"`
	// Refunds are the refunds by their keys; their sum is Refunded.
	Refunds map[string]int64 `json:"refunds,omitempty"`

	Calls Calls `json:"calls"`
	// DoubleCaptures and DoubleRefunds count the calls that would have moved money a second
	// time: captures after the first one, refunds under a key that was refunded before.
	// Repeats for the same amount were answered, the others refused.
	DoubleCaptures int `json:"double_captures"`
	DoubleRefunds  int `json:"double_refunds"`
	// Refused counts the calls that were refused for any reason.
	Refused int `json:"refused"`
}

// Calls counts the calls that arrived, also those that a fault then lost.
type Calls struct {
	Authorize int `json:"authorize"`
	Capture   int `json:"capture"`
	Void      int `json:"void"`
	Refund    int `json:"refund"`
	LookUp    int `json:"look_up"`
}

// add counts a call, and answers which of its kind it is, from 1.
func (c *Calls) add(op operation) int {
	counter := map[operation]*int{
		authorize: &c.Authorize, capture: &c.Capture, void: &c.Void, refund: &c.Refund, lookUp: &c.LookUp,
	}[op]
	*counter++
	return *counter
}

// Check is an error when the entry's amounts cannot be: more captured than authorized, more
// refunded than captured, or money that is held where none should be.
func (e Entry) Check() error {
	var refunds int64
	for _, amount := range e.Refunds {
		refunds += amount
	}
	held := e.Authorized - e.Captured - e.Voided
	switch {
	case e.Authorized != 0 && e.Authorized != e.MinorUnits,
		e.Captured < 0 || e.Voided < 0 || held < 0,
		refunds != e.Refunded || e.Refunded > e.Captured,
		held != 0 && e.State != payment.Authorized,
		e.Captured != 0 && e.State != payment.Captured:
		return fmt.Errorf("check payment %s: amounts cannot be: %+v", e.Key, e)
	}
	return nil
}

func (e Entry) status() payment.Status {
	status := payment.Status{
		State: e.State, Authorized: e.Authorized, Captured: e.Captured, Refunded: e.Refunded,
	}
	if e.Number > 0 {
		status.Reference = fmt.Sprintf("sim_%d", e.Number)
	}
	return status
}
