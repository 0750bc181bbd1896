package worker

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/holdfast-io/holdfast/api/cluster"
)

// Where a product should be sold, by what is asked for in which region.
func TestLeaderIsWhereMostIsAskedFor(t *testing.T) {
	sells := func(region string) bool { return region == "eu" || region == "us" }
	for _, tt := range []struct {
		name    string
		weights []weight
		want    string
	}{
		{"nothing", nil, ""},
		{"too little", []weight{{"us", 19}}, ""},
		{"enough", []weight{{"us", 20}}, "us"},
		{"all at home", []weight{{"eu", 100}}, ""},
		{"two thirds", []weight{{"eu", 10}, {"us", 20}}, "us"},
		{"less than two thirds", []weight{{"eu", 10}, {"us", 19}}, ""},
		{"60/40", []weight{{"eu", 4000}, {"us", 6000}}, ""},
		{"spread", []weight{{"eu", 10}, {"us", 19}, {"ap", 10}}, ""},
		{"where nobody sells", []weight{{"ap", 100}, {"eu", 1}}, ""},
		{"where nobody knows", []weight{{"", 100}, {"eu", 1}}, ""},
		{"mostly where nobody knows", []weight{{"", 11}, {"us", 20}}, ""},
	} {
		if got := leader(tt.weights, "eu", sells); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// askedFor is purchases that come from a region, at the same distances.
type askedFor struct {
	region string
	each   time.Duration
	during time.Duration
}

// after is that of the tests: a product moves after ten seconds, if it has led for five.
const after = 10 * time.Second

func inEU() *follower {
	f := &follower{own: "eu", after: after, metrics: newMetrics(prometheus.NewRegistry())}
	f.learn([]cluster.Worker{{Region: "eu"}, {Region: "us"}, {Region: "ap"}, {}})
	return f
}

// moved is when a product of eu is found to belong elsewhere, and where.
func moved(asks ...askedFor) (moves []time.Duration, regions []string) {
	d, f, now := &demand{}, inEU(), time.Duration(0)
	for _, a := range asks {
		for end := now + a.during; now < end; now += a.each {
			if region := d.count(a.region, now, f); region != "" {
				moves, regions = append(moves, now), append(regions, region)
			}
		}
	}
	return moves, regions
}

// A product that follows too fast is sold by nobody for long; one that follows too slowly is
// far from its buyers.
func TestProductFollowsDemandThatLasts(t *testing.T) {
	const (
		often  = 10 * time.Millisecond
		seldom = 2 * time.Second
		s      = time.Second
	)
	for _, tt := range []struct {
		name  string
		asks  []askedFor
		from  time.Duration // when it moves at the earliest; 0: never
		until time.Duration
	}{
		{"from its beginning", []askedFor{{"us", often, 11 * s}}, 10 * s, 11 * s},
		{"not before it is old enough", []askedFor{{"us", often, 10*s - often}}, 0, 0},
		{"its own", []askedFor{{"eu", often, 60 * s}}, 0, 0},
		{"too little", []askedFor{{"us", seldom, 10 * time.Minute}}, 0, 0},
		{"a rush that is soon over", []askedFor{{"eu", often, 30 * s}, {"us", often / 10, 2 * s}, {"eu", often, 30 * s}}, 0, 0},
		{"a rush that lasts", []askedFor{{"eu", often, 30 * s}, {"us", often / 10, 10 * s}}, 35 * s, 38 * s},
		{"a change for good", []askedFor{{"eu", often, 60 * s}, {"us", often, 30 * s}}, 75 * s, 85 * s},
		{"where nobody sells", []askedFor{{"mars", often, 60 * s}}, 0, 0},
		{"a rush, and silence", []askedFor{{"us", often, 9 * s}, {"us", 10 * time.Minute, 30 * time.Minute}}, 0, 0},
	} {
		moves, _ := moved(tt.asks...)
		switch {
		case tt.from == 0 && len(moves) > 0:
			t.Errorf("%s: moves after %v", tt.name, moves)
		case tt.from > 0 && (len(moves) == 0 || moves[0] < tt.from || moves[0] > tt.until):
			t.Errorf("%s: moves after %v, want one between %v and %v", tt.name, moves, tt.from, tt.until)
		}
	}
}

// What could not be moved is tried again, and not all the time.
func TestMovesAreFarBetween(t *testing.T) {
	moves, regions := moved(askedFor{"us", time.Millisecond, 35 * time.Second})
	if len(moves) != 3 {
		t.Fatalf("moves after %v, want 3", moves)
	}
	for i, at := range moves {
		if i > 0 && at-moves[i-1] < after || regions[i] != "us" {
			t.Errorf("moves after %v to %v", moves, regions)
		}
	}
}

// Demand that swings faster than a product follows would have it move without end.
func TestSwingingDemandMovesNothing(t *testing.T) {
	for _, swing := range []time.Duration{time.Second, 3 * time.Second, 6 * time.Second} {
		var asks []askedFor
		for range 50 {
			asks = append(asks, askedFor{"us", 5 * time.Millisecond, swing}, askedFor{"eu", 5 * time.Millisecond, swing})
		}
		if moves, _ := moved(asks...); len(moves) > 0 {
			t.Errorf("each for %v: moves after %v", swing, moves)
		}
	}
}

// exact is the demand of a region with every purchase weighed by itself.
type exact map[string]float64

func (e exact) age(by time.Duration) {
	for region := range e {
		e[region] *= math.Exp2(-float64(by) / float64(after))
	}
}

// share is what the region would have of all with one purchase more.
func (e exact) share(region string) float64 {
	total := 1.0
	for _, n := range e {
		total += n
	}
	return (e[region] + 1) / total
}

// However purchases come, as long as no other region has most of what is not forgotten, the
// product stays.
func TestMixedDemandMovesNothing(t *testing.T) {
	// The past is aged in steps, which makes what weighs 65 % appear to be less than two thirds.
	const mixed = 0.65
	rapid.Check(t, func(t *rapid.T) {
		d, f, now, e := &demand{}, inEU(), time.Duration(0), exact{}
		elsewhere := rapid.SampledFrom([]string{"us", "ap", ""})
		for range rapid.IntRange(1, 2000).Draw(t, "purchases") {
			gap := time.Duration(rapid.OneOf(rapid.IntRange(0, 50), rapid.IntRange(0, 5000)).Draw(t, "gap")) * time.Millisecond
			now += gap
			e.age(gap)
			region := elsewhere.Draw(t, "region")
			if e.share(region) > mixed {
				region = "eu"
			}
			e[region]++
			if to := d.count(region, now, f); to != "" {
				t.Fatalf("moves to %s after %v, when %v is asked for", to, now, e)
			}
		}
	})
}

// Regions that are forgotten cost nothing.
func TestRegionsOfThePastAreForgotten(t *testing.T) {
	d, f := &demand{}, inEU()
	for _, region := range []string{"us", "ap", "mars", ""} {
		d.count(region, 0, f)
	}
	for now := time.Second; now < 2*time.Minute; now += time.Second {
		d.count("eu", now, f)
	}
	if len(d.weights) != 1 {
		t.Errorf("remembers %v", d.weights)
	}
}

// A tenure without a region, and one of which nobody has bought, have nothing of all this.
func TestOnlyAWorkerWithARegionCountsDemand(t *testing.T) {
	b := newBench(10)
	b.buy(t, "r1", 1)
	if b.demand != nil {
		t.Error("counts without a region")
	}
	b.follower = inEU()
	p := wish("eu", "r2", 1)
	p.From = "us"
	mustAdmit(t, b.tenure, p)
	if w := b.demand.weights; len(w) != 1 || w[0] != (weight{"us", 1}) {
		t.Errorf("counted %v", w)
	}
}

// Counting is on the way of every purchase.
func TestDemandIsCountedWithoutAllocations(t *testing.T) {
	d, f, now := &demand{}, inEU(), time.Duration(0)
	d.count("us", 0, f)
	d.count("eu", 0, f)
	if n := testing.AllocsPerRun(1000, func() {
		now += 10 * time.Millisecond
		d.count("us", now/16, f)
		d.count("eu", now/16, f)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDemand(b *testing.B) {
	d, f, now := &demand{}, inEU(), time.Duration(0)
	for b.Loop() {
		now += 100 * time.Microsecond
		d.count("us", now, f)
	}
}

// Its successor knows better where a product belongs than a tenure that is over.
func TestOnlyACurrentTenureMovesItsProduct(t *testing.T) {
	registry := prometheus.NewRegistry()
	var set []string
	f := newFollower(&Config{Region: "eu", FollowAfter: after}, hclog.NewNullLogger(), newMetrics(registry))
	f.setHome = func(_ context.Context, product, region string) error {
		if region == "ap" {
			return errors.New("etcd is away")
		}
		set = append(set, product+" in "+region)
		return nil
	}
	b := newBench(1)
	f.move(t.Context(), move{b.tenure, "ap"})
	f.move(t.Context(), move{b.tenure, "us"})
	b.stop()
	f.move(t.Context(), move{b.tenure, "us"})
	if len(set) != 1 || set[0] != "p in us" {
		t.Errorf("moved %v", set)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "holdfast_tenures_moved_total" {
				counted[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	if len(counted) != 1 || counted["us"] != 1 {
		t.Errorf("counted %v", counted)
	}
}
