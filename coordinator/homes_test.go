package coordinator

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// regional is a router before two workers in eu and two in us, none of which is called.
func regional(t *testing.T, homes map[string]string) *router {
	t.Helper()
	r := newRouter(Config{AttemptTimeout: time.Second, MaxInFlight: 1, Metrics: prometheus.NewRegistry()}, nil)
	var workers []cluster.Worker
	for _, name := range []string{"eu-1", "eu-2", "us-1", "us-2"} {
		p := &peer{address: name}
		p.heard.Store(hear(t.Context()))
		r.names = append(r.names, name)
		r.peers[name] = p
		workers = append(workers, cluster.Worker{Name: name, Region: name[:2]})
	}
	r.homes.place(workers)
	r.settle(homes)
	return r
}

// asked are the workers in the order in which they are asked for a product.
func asked(r *router, product string) (order []string) {
	w := &way{}
	for p := r.next(product, w); p != nil; p = r.next(product, w) {
		order = append(order, p.address)
	}
	return order
}

// Whoever is asked first sells the product, and does so far from its buyers if he is not at
// home there. All others are asked after that: a region may go down as a whole.
func TestWorkersAtHomeAreAskedFirst(t *testing.T) {
	r := regional(t, map[string]string{})
	for i := range 100 {
		product := fmt.Sprint("p", i)
		anywhere := asked(r, product)
		for _, region := range []string{"eu", "us"} {
			r.move(product, region)
			want := slices.Clone(anywhere)
			slices.SortStableFunc(want, func(a, b string) int { return away(a, region) - away(b, region) })
			if got := asked(r, product); !slices.Equal(got, want) {
				t.Errorf("%s at home in %s: asked %v, want %v", product, region, got, want)
			}
		}
		r.move(product, "")
		if got := asked(r, product); !slices.Equal(got, anywhere) {
			t.Errorf("%s without a home: asked %v, want %v", product, got, anywhere)
		}
	}
}

func away(name, region string) int {
	if name[:2] == region {
		return 0
	}
	return 1
}

func TestOthersServeWhenNobodyAtHomeCan(t *testing.T) {
	r := regional(t, map[string]string{"p": "us", "lost": "mars"})
	for _, name := range []string{"us-1", "us-2"} {
		r.peers[name].heard.Load().end() // silent
	}
	if order := asked(r, "p"); len(order) != 4 || order[0][:2] != "eu" || order[1][:2] != "eu" {
		t.Errorf("asked %v, want those in eu first while us is silent", order)
	}
	r.names = []string{"eu-1", "eu-2"}
	for _, product := range []string{"p", "lost"} {
		if order := asked(r, product); len(order) != 2 {
			t.Errorf("%s: asked %v, want those in eu when us has gone", product, order)
		}
	}
}

// The way of every purchase leads through here.
func TestNextWorkerIsFoundWithoutAllocations(t *testing.T) {
	r := regional(t, map[string]string{"p": "us"})
	w := &way{asked: make([]*peer, 0, 8)}
	for _, product := range []string{"p", "q"} {
		if n := testing.AllocsPerRun(100, func() {
			w.asked = w.asked[:0]
			r.next(product, w)
		}); n > 0 {
			t.Errorf("%s: %v allocations", product, n)
		}
	}
}

// Two workers of one region may be cut off from a shard together: before they are believed,
// another region is asked, which can sell.
func TestRegionThatIsCutOffIsNotBelievedAlone(t *testing.T) {
	for _, product := range []string{"a", "b", "c", "d", "e"} {
		r := regional(t, map[string]string{product: "us"})
		w := &way{}
		if first := r.next(product, w); first == nil || first.address[:2] != "us" {
			t.Fatalf("%s: %+v is asked first", product, first)
		}
		cutOff := holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonShardUnavailable, "", nil)
		if w.settles(r, time.Now(), cutOff) {
			t.Fatal("the first one is believed")
		}
		if second := r.next(product, w); second == nil || second.address[:2] != "eu" {
			t.Errorf("%s: %+v is asked next", product, second)
		}
	}
}
