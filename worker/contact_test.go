package worker

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// One question without an answer is nothing: every second pause of a garbage
// collector would cost a tenure. Two are an outage, and nobody waits for it.
func TestContactIsLostAfterTwoSilencesAndFoundAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eu := &fakeShard{name: "eu"}
		c := newContact(eu, hclog.NewNullLogger())
		ctx, stop := context.WithCancel(t.Context())
		watched := make(chan struct{})
		go func() { c.watch(ctx); close(watched) }()
		underWay := make(chan error, 1)
		go func() {
			underWay <- c.during(ctx, time.Hour, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		}()
		synctest.Wait()
		eu.away.Store(true)
		time.Sleep(pingInterval + time.Millisecond)
		if err := c.during(ctx, time.Second, func(context.Context) error { return nil }); err != nil {
			t.Errorf("after one silence: %v", err)
		}
		time.Sleep(pingInterval)
		synctest.Wait()
		select {
		case err := <-underWay:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("what was under way ended with %v", err)
			}
		default:
			t.Error("what was under way still waits")
		}
		err := c.during(ctx, time.Second, func(context.Context) error { t.Error("called without contact"); return nil })
		if !errors.Is(err, ledger.ErrNotSent) {
			t.Errorf("without contact: %v", err)
		}
		eu.away.Store(false)
		time.Sleep(pingInterval + time.Millisecond)
		if err := c.during(ctx, time.Second, func(context.Context) error { return nil }); err != nil {
			t.Errorf("after it came back: %v", err)
		}
		stop()
		<-watched
	})
}

// Whether an unanswered purchase is stored cannot be told while its shard is
// away. Its units stay counted, whoever wants them is told so at once, and the other
// shards sell on what is left; the tenure ends with the doubt.
func TestDoubtKeepsItsUnitsCountedUntilItEnds(t *testing.T) {
	b := newBench(10)
	doubtful := b.buy(t, "doubtful", 4)
	b.eu.away.Store(true)
	b.commitIn(b.eu, fails(errUnknown))
	wantFailed(t, doubtful, errInDoubt)
	b.wantUnits(t, 6, 0)
	other := mustAdmit(t, b.tenure, wish("us", "other", 6))
	b.commitIn(b.us, all(ledger.Inserted))
	wantSold(t, other)
	wantFailed(t, mustAdmit(t, b.tenure, wish("us", "wants them", 4)), errInDoubt)
	wantFailed(t, b.buy(t, "doubtful", 4), errInDoubt)
	unfit := mustAdmit(t, b.tenure, wish("us", "unfit", 5))
	wantPending(t, unfit)
	b.verifyIn(b.us, says(ledger.Checked{Current: true}))
	wantFailed(t, unfit, errNoContact) // eu may have been given some back
	if isClosed(b.over) {
		t.Fatal("the tenure ended before the doubt")
	}
	b.eu.away.Store(false)
	b.lanes.byShard["eu"].contact.found()
	select {
	case <-b.over:
	case <-patient(t).Done():
		t.Fatal("the tenure outlived the doubt")
	}
	<-b.settled
}

// A shard that is away stops the sales that need it, and no others.
func TestShardThatIsAwayStopsOnlyItsOwnSales(t *testing.T) {
	c := newCluster(t)
	line, dsn := newLossy(t, c.dsns["eu"])
	a := c.start(t, "a", func(cfg *Config) { cfg.DSNs["eu"] = dsn })
	p := a.create(t, 100)
	a.mustBuy(t, p, "eu", "before", 1)
	token := c.token(t, "us", p)
	line.start(requests)
	asked := time.Now()
	_, err := a.buy(t.Context(), p, "eu", "away", 1)
	wantReason(t, err, holdfastv1.ReasonShardUnavailable)
	if took := time.Since(asked); took > batchTimeout {
		t.Errorf("told after %v", took)
	}
	for i := range int64(10) {
		a.mustBuy(t, p, "us", fmt.Sprint("meanwhile", i), 1)
	}
	asked = time.Now()
	_, err = a.buy(t.Context(), p, "eu", "away too", 1)
	wantReason(t, err, holdfastv1.ReasonShardUnavailable)
	if took := time.Since(asked); took > time.Second {
		t.Errorf("told after %v that it need not have asked", took)
	}
	if got := c.token(t, "us", p); got != token {
		t.Errorf("token %d, want %d still", got, token)
	}
	line.cut()
	a.buyInTheEnd(t, p, "eu", "away", 1)
	a.buyInTheEnd(t, p, "eu", "away too", 1)
	checkLedger(t, c.shards, p, 13)
	a.wantAvailable(t, p, 87)
}

// A worker that alone cannot reach a shard must not keep a product from those
// who can, neither by its lock nor by asking for it again and again.
func TestWorkerThatIsCutOffAloneLeavesTheProduct(t *testing.T) {
	c := newCluster(t)
	line, dsn := newLossy(t, c.dsns["eu"])
	a := c.start(t, "a", func(cfg *Config) { cfg.DSNs["eu"] = dsn })
	b := c.start(t, "b")
	p := a.create(t, 100)
	a.mustBuy(t, p, "eu", "before", 1)
	line.start(requests)
	_, err := a.buy(t.Context(), p, "eu", "away", 1)
	wantReason(t, err, holdfastv1.ReasonShardUnavailable)
	b.mustBuy(t, p, "eu", "away", 1)
	token := c.token(t, "us", p)
	for i := range int64(3) {
		_, err := a.buy(t.Context(), p, "us", fmt.Sprint("asked", i), 1)
		wantReason(t, err, holdfastv1.ReasonShardUnavailable)
		b.mustBuy(t, p, "us", fmt.Sprint("sold", i), 1)
	}
	if got := c.token(t, "us", p); got != token {
		t.Errorf("token %d, want %d still", got, token)
	}
	line.cut()
	checkLedger(t, c.shards, p, 5)
}
