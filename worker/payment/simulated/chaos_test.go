package simulated

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/worker/payment"
)

// With everything going wrong at once, callers who do no more than repeat what they do not
// know end with a ledger that says what they were told.
func TestCallersWhoRepeatGetThrough(t *testing.T) {
	_, client := open(t, Faults{
		Seed: 1, Decline: 0.1, LostRequest: 0.1, LostReply: 0.2, TimeoutUndone: 0.1, TimeoutDone: 0.1, Slow: 0.1,
		Delay: time.Millisecond, Timeout: time.Hour / 120,
	})
	impatient := payment.Within(client, 50*time.Millisecond)
	told := map[string]payment.State{}
	var mu sync.Mutex
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 10 {
				p := pay(fmt.Sprintf("eu-%d-%d", worker, i), "")
				state := settle(t, impatient, p, i)
				mu.Lock()
				told[p.Key] = state
				mu.Unlock()
			}
		})
	}
	group.Wait()
	calls, counts := 0, map[payment.State]int{}
	for _, e := range entries(t, client) {
		if e.State != told[e.Key] {
			t.Errorf("%s was told of %+v", told[e.Key], e)
		}
		calls += e.Calls.Authorize + e.Calls.Capture + e.Calls.Void + e.Calls.Refund
		counts[e.State]++
	}
	t.Logf("%d payments took %d calls: %v", len(told), calls, counts)
	if len(told) != 80 || counts[payment.Captured] == 0 || counts[payment.Voided] == 0 || counts[payment.Declined] == 0 {
		t.Errorf("%d payments are %v", len(told), counts)
	}
}

// settle authorizes, and then captures and refunds, or voids.
func settle(t *testing.T, provider payment.Provider, p payment.Payment, i int) payment.State {
	ctx := context.WithoutCancel(t.Context())
	err := again(func() error { _, err := provider.Authorize(ctx, p); return err })
	if declined(err) {
		return payment.Declined
	}
	state := payment.Voided
	if i%3 == 0 {
		err = errors.Join(err, again(func() error { return provider.Void(ctx, p) }))
	} else {
		state = payment.Captured
		err = errors.Join(err,
			again(func() error { return provider.Capture(ctx, p, 900) }),
			again(func() error { return provider.Refund(ctx, p, "r1", 100) }))
	}
	if err != nil {
		t.Errorf("%s: %v", p.Key, err)
	}
	return state
}

func again(call func() error) error {
	for {
		if err := call(); !unknown(err) {
			return err
		}
	}
}
