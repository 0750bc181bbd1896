package worker

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/link"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// What a worker comes to too late, because it was paused, the buyer may have been refused
// by another one meanwhile.
func TestLateSaleIsNotDecided(t *testing.T) {
	b := newBench(10)
	late := wish("eu", "late", 1)
	late.Until = time.Now().Add(-time.Millisecond)
	wantFailed(t, mustAdmit(t, b.tenure, late), link.ErrLate)
	b.wantUnits(t, 10, 0)

	soon := wish("eu", "soon", 1)
	soon.Until = time.Now().Add(20 * time.Millisecond)
	admitted := mustAdmit(t, b.tenure, soon)
	inTime := b.buy(t, "in time", 1)
	time.Sleep(time.Until(soon.Until) + time.Millisecond) // the pause
	b.commitIn(b.eu, func(rows []*ledger.Purchase) ([]ledger.Outcome, error) {
		if len(rows) != 1 || rows[0].RequestID != "in time" {
			t.Errorf("%d rows were sent", len(rows))
		}
		return all(ledger.Inserted)(rows)
	})
	wantFailed(t, admitted, link.ErrLate)
	wantSold(t, inTime)
	b.wantUnits(t, 9, 0)
}

// The same of a call that does not come over a link.
func TestLateCallIsNotDone(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a")
	p := a.create(t, 10)
	h := a.hold(t, p, "eu", "h", 1, time.Minute)
	late := link.TellUntil(t.Context(), time.Now().Add(-time.Millisecond))
	if _, err := a.CancelPurchase(late, cancelOf(h, "x")); !errors.Is(err, link.ErrLate) {
		t.Fatalf("got %v", err)
	}
	if _, err := a.CancelPurchase(metadata.AppendToOutgoingContext(t.Context(), "holdfast-until", "x"), cancelOf(h, "x")); err == nil {
		t.Fatal("a time that is none was taken")
	}
	inTime := link.TellUntil(t.Context(), time.Now().Add(time.Minute))
	got, err := a.CancelPurchase(inTime, cancelOf(h, "x"))
	wantState(t, got, err, isCancelled, 1)
}

// A hold may be asked for again at any time, also when it is over; only a new one must end
// in the future.
func TestHoldIsRepeatedAfterItsEnd(t *testing.T) {
	c := newCluster(t)
	a, b := c.start(t, "a"), c.start(t, "b")
	p := a.create(t, 10)
	first := a.hold(t, p, "eu", "h", 1, 50*time.Millisecond)
	time.Sleep(60 * time.Millisecond)
	over := -time.Since(link.PastHold) // as coordinators tell it
	for _, n := range []*node{a, b} {
		again, err := n.tryHold(t.Context(), p, "eu", "h", 1, over)
		if err != nil || again.GetPurchaseId() != first.GetPurchaseId() {
			t.Errorf("%v, %v; want %v", again, err, first)
		}
		_, err = n.tryHold(t.Context(), p, "eu", "new", 1, over)
		wantReason(t, err, holdfastv1.ReasonInvalidField)
	}
	// One whose end comes while the call is under way is a hold that expires at once.
	if _, err := a.tryHold(t.Context(), p, "eu", "short", 1, -time.Millisecond); err != nil {
		t.Error(err)
	}
	a.wantAvailable(t, p, 10)
}
