package worker

import (
	"errors"
	"math"
	"testing"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// One unit too strict refuses the last unit, one too lax sells it twice.
func TestJudge(t *testing.T) {
	const most = 1 << 53
	for _, tt := range []struct {
		amount, available, inFlight int64
		want                        verdict
	}{
		{1, 1, 0, fits},
		{5, 5, 0, fits},
		{5, 5, 3, fits},
		{1, 0, 0, unfit},
		{6, 5, 0, unfit},
		{6, 5, 1, mightFit},
		{7, 5, 1, unfit},
		{1, 0, 1, mightFit},
		{most, most, 0, fits},
		{most, most - 1, 1, mightFit},
		{most, most - 2, 1, unfit},
		{math.MaxInt64, most, 0, unfit},
	} {
		if got := judge(tt.amount, tt.available, tt.inFlight); got != tt.want {
			t.Errorf("judge(%d, %d, %d) = %v, want %v", tt.amount, tt.available, tt.inFlight, got, tt.want)
		}
	}
}

// Counted only when it commits, one unit could be sent twice.
func TestUnitsAreCountedWhenSent(t *testing.T) {
	b := newBench(10)
	s := b.buy(t, "r1", 4)
	b.wantUnits(t, 6, 4)
	wantPending(t, s)
	b.commitIn(b.eu, all(ledger.Inserted))
	wantSold(t, s)
	b.wantUnits(t, 6, 0)
}

// What each answer of the shard does to units, tenure and caller is the heart of
// the protocol: units come back only when it is certain that nothing was stored.
func TestOutcomeOfACommit(t *testing.T) {
	shardError := new(ShardError)
	for _, tt := range []struct {
		name                string
		answer              func([]*ledger.Purchase) ([]ledger.Outcome, error)
		available, inFlight int64
		ended               bool
		wantErr             error
	}{
		{"inserted", all(ledger.Inserted), 6, 0, false, nil},
		{"fenced by a newer tenure", all(ledger.Fenced), 6, 4, true, errTenureEnded},
		{"not sent", fails(errNotSent), 10, 0, false, errNotSent},
		{"refused", fails(errRefused), 10, 0, false, errRefused},
		{"request or reply lost", fails(errUnknown), 6, 4, true, errTenureEnded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(10)
			s := b.buy(t, "r1", 4)
			b.commitIn(b.eu, tt.answer)
			b.wantUnits(t, tt.available, tt.inFlight)
			if isClosed(b.over) != tt.ended {
				t.Errorf("ended is %t", isClosed(b.over))
			}
			if tt.wantErr == nil {
				wantSold(t, s)
				return
			}
			wantFailed(t, s, tt.wantErr)
			if !tt.ended && (!errors.As(s.err, &shardError) || shardError.Shard != "eu") {
				t.Errorf("%v does not name the shard", s.err)
			}
		})
	}
}

// A request that could still fit must not be refused, and not be forgotten.
func TestWaitingRequestIsAnsweredWhenWhatItWaitsForSettles(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func([]*ledger.Purchase) ([]ledger.Outcome, error)
		then   func(*testing.T, *bench, *bought)
	}{
		{"sold: it does not fit any more", all(ledger.Inserted), func(t *testing.T, b *bench, s *bought) {
			wantPending(t, s) // until the tenure is proved to be current
			b.verifyIn(b.eu, says(ledger.Checked{Current: true}))
			wantRefused(t, s, 2)
		}},
		{"refused: it fits", fails(errRefused), func(t *testing.T, b *bench, s *bought) {
			b.wantUnits(t, 5, 5)
			b.commitIn(b.eu, all(ledger.Inserted))
			wantSold(t, s)
		}},
		{"a repetition: it fits", all(ledger.Replayed), func(t *testing.T, b *bench, s *bought) {
			b.wantUnits(t, 5, 5)
			b.commitIn(b.eu, all(ledger.Inserted))
			wantSold(t, s)
		}},
		{"unanswered: the next tenure knows", fails(errUnknown), func(t *testing.T, _ *bench, s *bought) {
			wantFailed(t, s, errTenureEnded)
		}},
		{"fenced: the next tenure knows", all(ledger.Fenced), func(t *testing.T, _ *bench, s *bought) {
			wantFailed(t, s, errTenureEnded)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(10)
			b.buy(t, "first", 8)
			s := b.buy(t, "second", 5)
			wantPending(t, s)
			b.wantUnits(t, 2, 8)
			b.commitIn(b.eu, tt.answer)
			tt.then(t, b, s)
		})
	}
}

// A worker that was taken over and does not know it has stale numbers, so "sold
// out" needs a proof that is newer than the question.
func TestRefusalNeedsAProof(t *testing.T) {
	first := ledger.Purchase{ProductID: "p", RequestID: "r1", Amount: 11, CustomerID: "ann"}
	other := first
	other.CustomerID = "bob"
	for _, tt := range []struct {
		name  string
		says  ledger.Checked
		ended bool
		want  func(*testing.T, *bought)
	}{
		{"current", ledger.Checked{Current: true}, false, func(t *testing.T, s *bought) { wantRefused(t, s, 10) }},
		{"taken over", ledger.Checked{}, true, func(t *testing.T, s *bought) { wantFailed(t, s, errTenureEnded) }},
		{"bought before", ledger.Checked{Current: true, First: &first}, false, wantSold},
		{"bought before, and taken over", ledger.Checked{First: &first}, false, wantSold},
		{"request id used for something else", ledger.Checked{Current: true, First: &other}, false,
			func(t *testing.T, s *bought) { wantFailed(t, s, errRequestIDReused) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(10)
			s := b.buy(t, "r1", 11)
			wantPending(t, s)
			b.verifyIn(b.eu, says(tt.says))
			tt.want(t, s)
			b.wantUnits(t, 10, 0)
			if isClosed(b.over) != tt.ended {
				t.Errorf("ended is %t, want %t", isClosed(b.over), tt.ended)
			}
		})
	}
}

// A shard that cannot be read proves nothing, so nothing is refused.
func TestUnreadShardIsNoRefusal(t *testing.T) {
	b := newBench(10)
	s := b.buy(t, "r1", 11)
	b.verifyIn(b.eu, func([]ledger.Check) ([]ledger.Checked, error) { return nil, errNotSent })
	wantFailed(t, s, errNotSent)
}

// A client that repeats a request because it is slow must not buy twice.
func TestRepeatsJoinTheFirst(t *testing.T) {
	b := newBench(10)
	first, second := b.buy(t, "r1", 4), b.buy(t, "r1", 4)
	b.wantUnits(t, 6, 4)
	for name, p := range map[string]Purchase{
		"amount":         wish("eu", "r1", 5),
		"customer":       {ProductID: "p", Region: "eu", RequestID: "r1", Amount: 4, CustomerID: "bob"},
		"payment method": {ProductID: "p", Region: "eu", RequestID: "r1", Amount: 4, CustomerID: "ann", PaymentMethod: "card"},
	} {
		if _, err := purchaseIn(b.tenure, p); !errors.Is(err, errRequestIDReused) {
			t.Errorf("same request id, other %s: got %v", name, err)
		}
	}
	elsewhere := mustAdmit(t, b.tenure, wish("us", "r1", 4)) // request ids are the region's
	b.commitIn(b.eu, all(ledger.Inserted))
	wantSold(t, first)
	wantSold(t, second)
	if first.stored != second.stored {
		t.Error("two answers to one request")
	}
	wantPending(t, elsewhere)
}

// A repetition that came long after the first must find the first outcome.
func TestRepetitionMeetsTheFirstOutcome(t *testing.T) {
	earlier := ledger.Purchase{ProductID: "p", RequestID: "r1", Amount: 4, CustomerID: "ann"}
	b := newBench(10)
	s := b.buy(t, "r1", 4)
	b.commitIn(b.eu, all(ledger.Replayed))
	wantPending(t, s)
	b.wantUnits(t, 10, 0)
	b.verifyIn(b.eu, says(ledger.Checked{Current: true, First: &earlier}))
	wantSold(t, s)
	if s.stored != &earlier {
		t.Errorf("answered %+v", s.stored)
	}

	s = b.buy(t, "r1", 5)
	b.commitIn(b.eu, all(ledger.Replayed))
	b.verifyIn(b.eu, says(ledger.Checked{Current: true, First: &earlier}))
	wantFailed(t, s, errRequestIDReused)

	// What was met is not there: only a new tenure can tell what happened.
	s = b.buy(t, "r1", 4)
	b.commitIn(b.eu, all(ledger.Replayed))
	b.verifyIn(b.eu, says(ledger.Checked{Current: true}))
	wantFailed(t, s, errTenureEnded)
	b.wantEnded(t, true)
}

// The lock is released when settled closes: too early, and what is in flight is
// fenced for nothing; never, and nobody sells the product again.
func TestEndedTenureAdmitsNothingAndSettles(t *testing.T) {
	b := newBench(10)
	inEU := b.buy(t, "r1", 4)
	inUS := mustAdmit(t, b.tenure, wish("us", "r2", 4))
	unfit := b.buy(t, "r3", 11)
	waits := b.buy(t, "r4", 5)
	b.stop()
	b.wantEnded(t, false)
	wantFailed(t, waits, errTenureEnded)
	if _, err := purchaseIn(b.tenure, wish("eu", "r1", 4)); !errors.Is(err, errTenureEnded) {
		t.Errorf("admitted after the end: %v", err)
	}
	b.verifyIn(b.eu, says(ledger.Checked{Current: true}))
	wantRefused(t, unfit, 2)
	b.wantEnded(t, false)
	b.commitIn(b.eu, all(ledger.Replayed))
	b.wantEnded(t, false)
	b.verifyIn(b.eu, says(ledger.Checked{Current: true, First: &inEU.sale.row}))
	wantSold(t, inEU)
	b.wantEnded(t, false)
	b.commitIn(b.us, all(ledger.Inserted))
	wantSold(t, inUS)
	b.wantEnded(t, true)
	b.stop() // twice is once
}
