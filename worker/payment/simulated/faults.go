package simulated

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// maxWait bounds what a fault may wait, so that the server's own limits can be longer.
const maxWait = time.Minute

// Faults is what goes wrong. The zero value lets everything succeed at once.
type Faults struct {
	// Seed decides which calls go wrong: the same calls do under the same seed.
	Seed uint64 `json:"seed"`

	// Decline is the probability that a payment is declined, from 0 to 1.
	Decline float64 `json:"decline"`

	// The other probabilities are of each call, and exclude each other: their sum is at
	// most 1.

	// LostRequest: nothing is done, and the connection is dropped.
	LostRequest float64 `json:"lost_request"`
	// LostReply: the call is done, and the connection is dropped.
	LostReply float64 `json:"lost_reply"`
	// TimeoutUndone: nothing is done, and that is said after Timeout.
	TimeoutUndone float64 `json:"timeout_undone"`
	// TimeoutDone: the call is done, and answered after Timeout.
	TimeoutDone float64 `json:"timeout_done"`
	// Slow: the call is done and answered after Delay; or as soon as the caller has given up.
	Slow float64 `json:"slow"`

	Delay   time.Duration `json:"delay_ns"`
	Timeout time.Duration `json:"timeout_ns"`
}

// Check is an error for probabilities and times that cannot be.
func (f Faults) Check() error {
	sum := 0.0
	for _, p := range []float64{f.LostRequest, f.LostReply, f.TimeoutUndone, f.TimeoutDone, f.Slow} {
		if !(p >= 0) {
			return fmt.Errorf("check faults: probability %v is below 0", p)
		}
		sum += p
	}
	if !(sum <= 1) || !(f.Decline >= 0 && f.Decline <= 1) {
		return errors.New("check faults: probabilities are above 1, or their sum is")
	}
	for _, wait := range []time.Duration{f.Delay, f.Timeout} {
		if wait < 0 || wait > maxWait {
			return fmt.Errorf("check faults: wait of %v is not of 0 to %v", wait, maxWait)
		}
	}
	return nil
}

// fate is what becomes of one call.
type fate int

const (
	fine fate = iota
	lostRequest
	lostReply
	timeoutUndone
	timeoutDone
	slow
)

// knownTokens are the customers' methods; see the package comment.
var knownTokens = map[string]bool{"": true, "ok": true, "decline": true, "slow": true, "timeout": true, "lost": true}

// fate decides on the nth call of an operation for a payment.
func (f Faults) fate(op operation, c call, n int) fate {
	if op == authorize {
		switch {
		case c.Method == "slow":
			return slow
		case c.Method == "timeout" && n == 1:
			return timeoutDone
		case c.Method == "lost" && n == 1:
			return lostReply
		}
	}
	draw := f.draw(fmt.Sprintf("%s %s %d", op, c.Key, n))
	for _, kind := range []struct {
		p    float64
		fate fate
	}{
		{f.LostRequest, lostRequest},
		{f.LostReply, lostReply},
		{f.TimeoutUndone, timeoutUndone},
		{f.TimeoutDone, timeoutDone},
		{f.Slow, slow},
	} {
		if draw -= kind.p; draw < 0 {
			return kind.fate
		}
	}
	return fine
}

// declines decides by the key alone: a payment's repeated authorizations agree.
func (f Faults) declines(c call) bool {
	return c.Method == "decline" || f.draw("decline "+c.Key) < f.Decline
}

// draw is a number in [0, 1) that follows from the seed and what it is for.
func (f Faults) draw(what string) float64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(what)) // never fails
	return rand.New(rand.NewPCG(f.Seed, hash.Sum64())).Float64()
}
