package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// slowShard answers when the test says so, and keeps a record of what it was
// asked.
type slowShard struct {
	shard   // what no test asks of it
	name    string
	release chan error // one call is answered for each: nil is success

	mu       sync.Mutex
	batches  [][]*ledger.Purchase
	reads    [][]ledger.Check
	underWay int
	most     int // calls of Commit at the same time
}

func newSlowShard(name string) *slowShard {
	return &slowShard{name: name, release: make(chan error)}
}

func (s *slowShard) Name() string { return s.name }

func (s *slowShard) Commit(_ context.Context, rows []*ledger.Purchase) ([]ledger.Outcome, error) {
	s.mu.Lock()
	s.batches = append(s.batches, rows)
	s.underWay++
	s.most = max(s.most, s.underWay)
	s.mu.Unlock()
	err := <-s.release
	s.mu.Lock()
	s.underWay--
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return all(ledger.Inserted)(rows)
}

func (s *slowShard) Verify(_ context.Context, checks []ledger.Check) ([]ledger.Checked, error) {
	s.mu.Lock()
	s.reads = append(s.reads, checks)
	s.mu.Unlock()
	if err := <-s.release; err != nil {
		return nil, err
	}
	return says(ledger.Checked{Current: true})(checks)
}

func (s *slowShard) Ping(context.Context) error { return nil }

// wantSizes waits until nothing moves and compares the sizes of what came.
func wantSizes[T any](t *testing.T, s *slowShard, calls *[][]T, sizes ...int) {
	t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []int
	for _, c := range *calls {
		got = append(got, len(c))
	}
	if !slices.Equal(got, sizes) {
		t.Fatalf("calls of %v items, want %v", got, sizes)
	}
}

// inBubble runs lanes to the shards, and the test. One batch is under way at a time, so
// that the order of events is certain.
func inBubble(t *testing.T, test func(*testing.T, *lanes), shards ...*slowShard) {
	inBubbleWith(t, 1, test, shards...)
}

func inBubbleWith(t *testing.T, batches int, test func(*testing.T, *lanes), shards ...*slowShard) {
	synctest.Test(t, func(t *testing.T) {
		var behind []shard
		for _, s := range shards {
			s.release = make(chan error) // of the bubble
			behind = append(behind, s)
		}
		lanes := newLanes(behind, hclog.NewNullLogger(), newMetrics(prometheus.NewRegistry()))
		lanes.batches = batches
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { lanes.run(ctx); close(done) }()
		test(t, lanes)
		cancel()
		<-done
	})
}

func buyMany(t *testing.T, tenure *tenure, region, name string, n int, amount int64) []*bought {
	t.Helper()
	sales := make([]*bought, n)
	for i := range sales {
		sales[i] = mustAdmit(t, tenure, wish(region, fmt.Sprint(name, i), amount))
	}
	return sales
}

// Ten thousand purchases in ten thousand transactions would be a hundred times
// slower: what comes while one batch commits is the next batch.
func TestBatchesGatherWhileOneIsInFlight(t *testing.T) {
	eu := newSlowShard("eu")
	inBubble(t, func(t *testing.T, lanes *lanes) {
		tenure := tenureOn(lanes, "p", 10_000)
		first := buyMany(t, tenure, "eu", "first", 1, 1)
		wantSizes(t, eu, &eu.batches, 1)
		rest := buyMany(t, tenure, "eu", "rest", 5, 1)
		wantSizes(t, eu, &eu.batches, 1)
		eu.release <- nil
		wantSizes(t, eu, &eu.batches, 1, 5)
		wantSold(t, first[0])
		wantPending(t, rest[0])
		many := buyMany(t, tenure, "eu", "many", 2*maxBatch+500, 1)
		for range 4 {
			eu.release <- nil
		}
		wantSizes(t, eu, &eu.batches, 1, 5, maxBatch, maxBatch, 500)
		for _, s := range slices.Concat(rest, many) {
			wantSold(t, s)
		}
		if eu.most != 1 {
			t.Errorf("%d batches at the same time", eu.most)
		}
	}, eu)
}

// A buyer must not wait for the way of two batches to a region far away.
func TestNextBatchIsSentToAShardFarAway(t *testing.T) {
	eu := newSlowShard("eu")
	inBubbleWith(t, 2, func(t *testing.T, lanes *lanes) {
		tenure := tenureOn(lanes, "p", 10)
		first := buyMany(t, tenure, "eu", "first", 1, 1)
		wantSizes(t, eu, &eu.batches, 1)
		second := buyMany(t, tenure, "eu", "second", 1, 1)
		time.Sleep(farAway - time.Nanosecond)
		wantSizes(t, eu, &eu.batches, 1)
		time.Sleep(time.Nanosecond)
		wantSizes(t, eu, &eu.batches, 1, 1)
		time.Sleep(2 * farAway)
		rest := buyMany(t, tenure, "eu", "rest", 5, 1)
		wantSizes(t, eu, &eu.batches, 1, 1) // no more than two
		eu.release <- nil
		wantSizes(t, eu, &eu.batches, 1, 1, 5)
		eu.release <- nil
		eu.release <- nil
		synctest.Wait()
		for _, s := range slices.Concat(first, second, rest) {
			wantSold(t, s)
		}
		if eu.most != 2 {
			t.Errorf("%d batches at the same time", eu.most)
		}
	}, eu)
}

// lagging answers all at once but batches of slow requests.
type lagging struct{ *slowShard }

func (s lagging) Commit(ctx context.Context, rows []*ledger.Purchase) ([]ledger.Outcome, error) {
	if strings.HasPrefix(rows[0].RequestID, "slow") {
		return s.slowShard.Commit(ctx, rows)
	}
	return all(ledger.Inserted)(rows)
}

// A batch that waits for somebody's lock says nothing of the way to the shard: once one
// after it was answered, others do not wait.
func TestBatchThatTakesLongDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		eu := newSlowShard("eu")
		lanes := newLanes([]shard{lagging{eu}}, hclog.NewNullLogger(), newMetrics(prometheus.NewRegistry()))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { lanes.run(ctx); close(done) }()
		tenure := tenureOn(lanes, "p", 10)
		slow := buyMany(t, tenure, "eu", "slow", 1, 1)
		wantSizes(t, eu, &eu.batches, 1)
		first := buyMany(t, tenure, "eu", "first", 1, 1)
		time.Sleep(farAway)
		synctest.Wait()
		wantSold(t, first[0])
		for i := range 3 {
			next := buyMany(t, tenure, "eu", fmt.Sprint("next", i), 1, 1)
			synctest.Wait()
			wantSold(t, next[0])
		}
		wantPending(t, slow[0])
		eu.release <- nil
		synctest.Wait()
		wantSold(t, slow[0])
		cancel()
		<-done
	})
}

// To a shard far away a batch takes long, and whole ones gather meanwhile: they are sent
// too. What is less than a batch waits, or there would be many small ones.
func TestWholeBatchesAreSentBesides(t *testing.T) {
	eu := newSlowShard("eu")
	inBubbleWith(t, 2, func(t *testing.T, lanes *lanes) {
		tenure := tenureOn(lanes, "p", 10_000)
		sales := buyMany(t, tenure, "eu", "first", 1, 1)
		wantSizes(t, eu, &eu.batches, 1)
		sales = append(sales, buyMany(t, tenure, "eu", "some", maxBatch-1, 1)...)
		wantSizes(t, eu, &eu.batches, 1)
		sales = append(sales, buyMany(t, tenure, "eu", "more", 11, 1)...)
		wantSizes(t, eu, &eu.batches, 1, maxBatch)
		for range 3 {
			eu.release <- nil
		}
		wantSizes(t, eu, &eu.batches, 1, maxBatch, 10)
		for _, s := range sales {
			wantSold(t, s)
		}
	}, eu)
}

// A shard far away must not slow down the customers of the others.
func TestShardsDoNotWaitForEachOther(t *testing.T) {
	eu, us := newSlowShard("eu"), newSlowShard("us")
	inBubble(t, func(t *testing.T, lanes *lanes) {
		tenure := tenureOn(lanes, "p", 10)
		slow := mustAdmit(t, tenure, wish("eu", "r", 1))
		quick := mustAdmit(t, tenure, wish("us", "r", 1))
		us.release <- nil
		synctest.Wait()
		wantSold(t, quick)
		wantPending(t, slow)
		eu.release <- nil
	}, eu, us)
}

// When a product is sold out thousands hear of it: one read answers them all,
// and it began after the last of them asked.
func TestRefusalsShareOneRead(t *testing.T) {
	eu := newSlowShard("eu")
	inBubble(t, func(t *testing.T, lanes *lanes) {
		tenure := tenureOn(lanes, "p", 0)
		first := buyMany(t, tenure, "eu", "first", 1, 1)
		wantSizes(t, eu, &eu.reads, 1)
		rest := buyMany(t, tenure, "eu", "rest", 500, 1)
		eu.release <- nil
		wantSizes(t, eu, &eu.reads, 1, 500)
		wantRefused(t, first[0], 0)
		wantPending(t, rest[0])
		eu.release <- nil
		synctest.Wait()
		for _, s := range rest {
			wantRefused(t, s, 0)
		}
		if len(eu.batches) > 0 {
			t.Errorf("%d batches sent", len(eu.batches))
		}
	}, eu)
}

// One purchase that the database does not take must not take others with it.
func TestPoisonedPurchaseFailsAlone(t *testing.T) {
	for _, poisoned := range [][]int{{0}, {37}, {99}, {13, 14, 80}} {
		t.Run(fmt.Sprint(poisoned), func(t *testing.T) {
			b := newBench(100)
			var bad []*bought
			sales := buyMany(t, b.tenure, "eu", "r", 100, 1)
			for _, i := range poisoned {
				sales[i].sale.row.CustomerID = poisoner
				bad = append(bad, sales[i])
			}
			commits := 0
			b.commitIn(b.eu, func(rows []*ledger.Purchase) ([]ledger.Outcome, error) {
				commits++
				for _, p := range rows {
					if p.CustomerID == poisoner {
						return nil, errRefused
					}
				}
				return all(ledger.Inserted)(rows)
			})
			for _, s := range sales {
				if slices.Contains(bad, s) {
					wantFailed(t, s, errRefused)
				} else {
					wantSold(t, s)
				}
			}
			b.wantUnits(t, int64(len(bad)), 0)
			if most := 1 + 14*len(bad); commits > most {
				t.Errorf("%d commits, want at most %d", commits, most)
			}
		})
	}
}

// Somebody who keeps a fence locked stalls each attempt for as long as a lock
// timeout. Trying its purchases one by one would stall the shard for hours.
func TestStalledProductFailsAloneAndAtOnce(t *testing.T) {
	b := newBench(500)
	other := tenureOn(b.lanes, "other", 500)
	stalled, sold := buyMany(t, b.tenure, "eu", "r", maxBatch/2, 1), buyMany(t, other, "eu", "r", maxBatch/2, 1)
	stalls := 0
	b.commitIn(b.eu, func(rows []*ledger.Purchase) ([]ledger.Outcome, error) {
		if slices.ContainsFunc(rows, func(p *ledger.Purchase) bool { return p.Fence.TenureID == b.fence.TenureID }) {
			stalls++
			return nil, errTransient
		}
		return all(ledger.Inserted)(rows)
	})
	if stalls != 2 {
		t.Errorf("%d attempts with the stalled product, want 2", stalls)
	}
	for i := range stalled {
		wantFailed(t, stalled[i], errTransient)
		wantSold(t, sold[i])
	}
	b.wantUnits(t, 500, 0)
}

// What a lost answer leaves open is open for the products of its batch, and for
// no others: ending all tenures would stop a worker for one lost packet.
func TestUnansweredCommitEndsTheTenuresOfItsBatch(t *testing.T) {
	eu := newSlowShard("eu")
	inBubble(t, func(t *testing.T, lanes *lanes) {
		a, b, c := tenureOn(lanes, "a", 10), tenureOn(lanes, "b", 10), tenureOn(lanes, "c", 10)
		first := mustAdmit(t, c, wish("eu", "first", 1))
		synctest.Wait()
		ofA, ofB := mustAdmit(t, a, wish("eu", "r", 1)), mustAdmit(t, b, wish("eu", "r", 1))
		eu.release <- nil
		wantSizes(t, eu, &eu.batches, 1, 2)
		ofC := mustAdmit(t, c, wish("eu", "r", 1))
		eu.release <- errUnknown
		eu.release <- nil
		synctest.Wait()
		wantSold(t, first)
		wantFailed(t, ofA, errTenureEnded)
		wantFailed(t, ofB, errTenureEnded)
		wantSold(t, ofC)
		for tenure, ended := range map[*tenure]bool{a: true, b: true, c: false} {
			if isClosed(tenure.over) != ended || isClosed(tenure.settled) != ended {
				t.Errorf("tenure of %s: ended is %t, want %t", tenure.product.ProductID, !ended, ended)
			}
		}
	}, eu)
}

// A product that was taken over must not slow down the others of its batch.
func TestFencedProductEndsAlone(t *testing.T) {
	b := newBench(10)
	other := tenureOn(b.lanes, "other", 10)
	fenced, sold := b.buy(t, "r", 1), mustAdmit(t, other, wish("eu", "r", 1))
	b.commitIn(b.eu, func([]*ledger.Purchase) ([]ledger.Outcome, error) {
		return []ledger.Outcome{ledger.Fenced, ledger.Inserted}, nil
	})
	wantFailed(t, fenced, errTenureEnded)
	wantSold(t, sold)
	if !isClosed(b.over) || isClosed(other.over) {
		t.Errorf("ended are %t and %t, want the first", isClosed(b.over), isClosed(other.over))
	}
}

// Any shard may have been given units back, by whatever worker, so what is left is known
// only when all of them have answered.
func TestRecountNeedsEveryShard(t *testing.T) {
	eu, us := newSlowShard("eu"), newSlowShard("us")
	inBubble(t, func(t *testing.T, lanes *lanes) {
		for _, answers := range [][]error{{nil, nil}, {errNotSent, nil}, {nil, errNotSent}} {
			got := make(chan error, 1)
			go func() {
				_, err := lanes.recountOf(t.Context(), ledger.Fence{ProductID: "p"})
				got <- err
			}()
			for i, err := range answers {
				[]*slowShard{eu, us}[i].release <- err
			}
			if err, want := <-got, errors.Join(answers...); (err == nil) != (want == nil) {
				t.Errorf("shards answer %v: got %v", answers, err)
			}
		}
	}, eu, us)
}

// A thousand tenures that begin at once are one statement. One whose fence is kept
// locked by somebody must not keep the others from beginning.
func TestFencesAreRaisedTogetherAndFailAlone(t *testing.T) {
	eu := &fakeShard{name: "eu"}
	var mu sync.Mutex
	var sizes []int
	eu.raise = func(fences []ledger.Fence) ([]ledger.Raised, error) {
		mu.Lock()
		defer mu.Unlock()
		sizes = append(sizes, len(fences))
		raised := make([]ledger.Raised, len(fences))
		for i, f := range fences {
			if f.ProductID == "locked" {
				return nil, errTransient
			}
			raised[i].Purchased = f.Token
		}
		return raised, nil
	}
	lanes := newLanes([]shard{eu}, hclog.NewNullLogger(), newMetrics(prometheus.NewRegistry()))
	l := lanes.byShard["eu"]
	raised, failed := map[int64]int64{}, map[string]error{}
	ask := func(product string, token int64) {
		l.fences.put(raising{asked: ledger.Fence{ProductID: product, Token: token}, answer: func(r ledger.Raised, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed[product] = err
				return
			}
			raised[token] = r.Purchased
		}})
	}
	for i := range int64(20) {
		ask(fmt.Sprint(i), i+1)
	}
	ask("7", 100) // again, before the first is answered
	l.raise(t.Context(), l.fences.take(1))
	l.raise(t.Context(), l.fences.take(1))
	if !slices.Equal(sizes, []int{20, 1}) {
		t.Errorf("statements of %v fences", sizes)
	}
	ask("locked", 200)
	ask("free", 201)
	l.raise(t.Context(), l.fences.take(1))
	var shardErr *ShardError
	if len(failed) != 1 || !errors.As(failed["locked"], &shardErr) {
		t.Errorf("failed: %v", failed)
	}
	for token, got := range raised {
		if got != token {
			t.Errorf("token %d was answered %d", token, got)
		}
	}
	if len(raised) != 22 {
		t.Errorf("%d fences raised, want 22", len(raised))
	}
}
