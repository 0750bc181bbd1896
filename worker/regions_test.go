package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
	"github.com/holdfast-io/holdfast/lockmgr"
)

// door is a coordinator of a region.
type door struct {
	holdfastv1.ProductServiceClient
	holdfastv1.PurchaseServiceClient
}

// startDoor runs a coordinator until the test ends.
func (c *testCluster) startDoor(t *testing.T, region string) door {
	t.Helper()
	co, err := coordinator.New(coordinator.Config{
		Directory: c.directory, Region: region, Logger: localtest.Logger(t).Named("to " + region),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, web := listen(t), listen(t)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- co.Run(ctx, l, web) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		_ = conn.Close()
	})
	return door{holdfastv1.NewProductServiceClient(conn), holdfastv1.NewPurchaseServiceClient(conn)}
}

// buys has purchases of one unit sold, one after the other, and reports how long the slowest
// one took. The customers' shards have nothing to do with the door.
func (d door) buys(ctx context.Context, product, who string, y *tally) (slowest time.Duration) {
	for n := 0; ctx.Err() == nil; n++ {
		slowest = max(slowest, d.buy(product, fmt.Sprint(who, "-", n), y))
	}
	return slowest
}

func (d door) buy(product, request string, y *tally) time.Duration {
	begun := time.Now()
	_, err := d.CreatePurchase(context.Background(), &holdfastv1.CreatePurchaseRequest{
		ProductId: product, Amount: 1, CustomerId: request, RequestId: request,
	})
	y.add(1, err)
	return time.Since(begun)
}

// twoRegions is a product that a worker in eu sells, another one in us, and a coordinator in
// each region.
type twoRegions struct {
	*testCluster
	doors   map[string]door
	product string
}

const followAfter = 500 * time.Millisecond

func newTwoRegions(t *testing.T) *twoRegions {
	t.Helper()
	r := &twoRegions{testCluster: newCluster(t), doors: map[string]door{}, product: newProduct()}
	names := []string{"worker-eu", "worker-us"}
	for _, region := range regions {
		r.start(t, "worker-"+region, func(cfg *Config) { cfg.Region, cfg.FollowAfter = region, followAfter })
	}
	r.awaitWorkers(t, len(names))
	for _, region := range regions {
		r.doors[region] = r.startDoor(t, region)
	}
	for first(r.product, names) != "worker-eu" {
		r.product = newProduct()
	}
	_, err := r.doors["us"].CreateProduct(t.Context(), &holdfastv1.CreateProductRequest{ProductId: r.product, AmountInStorage: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	r.awaitHolder(t, "worker-eu")
	return r
}

func first(product string, names []string) string {
	name, _ := cluster.First(product, names, func(string) bool { return true })
	return name
}

// awaitWorkers returns when so many are on the list.
func (c *testCluster) awaitWorkers(t *testing.T, n int) {
	t.Helper()
	ctx, seen := context.WithCancel(patient(t))
	defer seen()
	_ = c.directory.Watch(ctx, func(v cluster.View) {
		if len(v.Workers) == n {
			seen()
		}
	}, func(err error) { t.Log(err) })
	if t.Context().Err() != nil {
		t.Fatal("workers are not on the list")
	}
}

// awaitHolder returns when the product is held by the worker of this name.
func (r *twoRegions) awaitHolder(t *testing.T, name string) (token int64) {
	t.Helper()
	for ctx := patient(t); ; {
		h, err := r.looker.Holder(ctx, r.product)
		var w cluster.Worker
		if err == nil {
			err = json.Unmarshal([]byte(h.Owner), &w)
		}
		switch {
		case err != nil && !errors.Is(err, lockmgr.ErrNotHeld):
			t.Fatalf("%s does not hold the product: %v", name, err)
		case w.Name == name:
			return h.Token
		}
	}
}

// The units are where the buyers are, and none of them is told that they were on their way.
func TestProductMovesToItsDemand(t *testing.T) {
	r := newTwoRegions(t)
	y := newTally()
	for _, move := range []struct{ region, holder string }{{"us", "worker-us"}, {"eu", "worker-eu"}} {
		ctx, leave := context.WithCancel(t.Context())
		slowest := make([]time.Duration, 4)
		var wg sync.WaitGroup
		for i := range slowest {
			wg.Go(func() { slowest[i] = r.doors[move.region].buys(ctx, r.product, fmt.Sprint(move.region, i), y) })
		}
		begun := time.Now()
		r.awaitHolder(t, move.holder)
		t.Logf("moved to %s after %v", move.region, time.Since(begun))
		if took := time.Since(begun); took < followAfter/2 {
			t.Errorf("moved to %s after %v: demand has not lasted by then", move.region, took)
		}
		r.doors[move.region].buy(r.product, "last in "+move.region, y)
		leave()
		wg.Wait()
		t.Logf("the slowest purchase took %v", slices.Max(slowest))
		r.awaitHolder(t, move.holder)
	}
	y.wantOnly(t)
	checkLedger(t, r.shards, r.product, y.sold)
}

// A product that is wanted everywhere would be sold by nobody if it ran after everybody.
func TestProductOfMixedDemandStays(t *testing.T) {
	r := newTwoRegions(t)
	before, y := r.awaitHolder(t, "worker-eu"), newTally()
	for n, begun := 0, time.Now(); time.Since(begun) < 5*followAfter; n++ {
		region := "us" // three of five
		if n%5 > 2 {
			region = "eu"
		}
		r.doors[region].buy(r.product, fmt.Sprint(n), y)
	}
	if after := r.awaitHolder(t, "worker-eu"); after != before {
		t.Errorf("token %d, before %d: it has changed hands", after, before)
	}
	homes, err := r.directory.Client.Get(t.Context(), r.directory.Prefix+"homes/", clientv3.WithPrefix())
	if err != nil || homes.Count > 0 {
		t.Errorf("homes %v, %v; want none", homes, err)
	}
	y.wantOnly(t)
	checkLedger(t, r.shards, r.product, y.sold)
}
