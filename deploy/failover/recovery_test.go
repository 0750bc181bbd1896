package failover

import (
	"errors"
	"testing"
	"time"
)

// A purchase that was under way at the kill may have been committed before it:
// only one that was asked for afterwards proves that somebody sells.
func TestRecoveryEndsWithANewPurchase(t *testing.T) {
	killed := time.Now()
	at := func(ms int) time.Time { return killed.Add(time.Duration(ms) * time.Millisecond) }
	r := &recovery{}
	r.tell(sale{asked: at(-20), answered: at(-10)}) // nobody was killed yet
	sold := r.begin(killed)
	for _, s := range []sale{
		{asked: at(-5), answered: at(40)},
		{asked: at(5), answered: at(50), err: errors.New("refused")},
		{asked: at(-1), answered: at(60)},
	} {
		r.tell(s)
		select {
		case <-sold:
			t.Fatalf("recovered with %+v", s)
		default:
		}
	}
	r.tell(sale{asked: at(30), answered: at(70)})
	<-sold
	r.tell(sale{asked: at(31), answered: at(71)})
	if r.recovered != 70*time.Millisecond || r.answered != 40*time.Millisecond {
		t.Errorf("recovered after %v, answered after %v, want 70ms and 40ms", r.recovered, r.answered)
	}
	if r.longest != 61*time.Millisecond {
		t.Errorf("longest wait %v, want 61ms", r.longest)
	}
}

// Who asked before SIGTERM and was answered after it waited for the drain too.
func TestSplitCountsWhatWasUnderWay(t *testing.T) {
	told := time.Now()
	at := func(ms int) time.Time { return told.Add(time.Duration(ms) * time.Millisecond) }
	before, after := split([]sale{
		{asked: at(-20), answered: at(-10)},
		{asked: at(-20), answered: at(20)},
		{asked: at(-20), answered: at(0)},
		{asked: at(5), answered: at(7)},
	}, told)
	if len(before) != 1 || len(after) != 3 || percentile(after, 100) != 40*time.Millisecond {
		t.Errorf("before %v, after %v", before, after)
	}
}
