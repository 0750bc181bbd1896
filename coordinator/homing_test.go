package coordinator_test

import (
	"fmt"
	"testing"

	"github.com/holdfast-io/holdfast/api/cluster"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

// A coordinator that does not follow a product takes it back from where its buyers are. One
// that has no region itself must follow it too.
func TestProductIsFollowedToItsHome(t *testing.T) {
	s := newShops(t)
	regions := map[string]string{"w1": "eu", "w2": "us"}
	for name, region := range regions {
		w := serveWorker(t, name, s.shop)
		s.workers[name] = w
		s.enter(cluster.Worker{Name: name, Address: w.address(), Region: region})
	}
	for i, f := range []*front{
		s.front(coordinator.Config{Region: "eu"}), s.front(coordinator.Config{Region: "us"}), s.front(coordinator.Config{}),
	} {
		product := fmt.Sprint("p", i)
		f.stock(product, 1)
		for _, region := range []string{"eu", "us"} {
			if err := s.directory.SetHome(t.Context(), product, region); err != nil {
				t.Fatal(err)
			}
			f.askUntilAnsweredIn(product, region, regions)
		}
	}
}

// Coordinators are restarted all the time, and each would take all products away from home.
func TestCoordinatorThatStartsKnowsWhereProductsAreSold(t *testing.T) {
	s := newShops(t)
	for name, region := range map[string]string{"w1": "eu", "w2": "us"} {
		w := serveWorker(t, name, s.shop)
		s.workers[name] = w
		s.enter(cluster.Worker{Name: name, Address: w.address(), Region: region})
	}
	const product = "p"
	second := s.ranked(product)[1].name // would not be asked first
	if err := s.directory.SetHome(t.Context(), product, map[string]string{"w1": "eu", "w2": "us"}[second]); err != nil {
		t.Fatal(err)
	}
	f := s.front(coordinator.Config{})
	if _, err := f.products.CreateProduct(t.Context(), &holdfastv1.CreateProductRequest{ProductId: product, AmountInStorage: 1}); err != nil {
		t.Fatal(err)
	}
	if calls := f.shop.takeCalls(); len(calls) != 1 || calls[0].worker != second {
		t.Errorf("asked %v, want only %s", calls, second)
	}
}

// askUntilAnsweredIn asks for a product until a worker of the region answers.
func (f *front) askUntilAnsweredIn(product, region string, regions map[string]string) {
	f.t.Helper()
	for f.t.Context().Err() == nil {
		f.shop.takeCalls()
		if _, err := f.products.GetProduct(f.t.Context(), &holdfastv1.GetProductRequest{ProductId: product}); err != nil {
			f.t.Fatal(err)
		}
		if calls := f.shop.takeCalls(); len(calls) == 1 && regions[calls[0].worker] == region {
			return
		}
	}
}

// A request_id is one of a product and a shard, and a repetition may come through another
// region: where a customer's purchases are stored must not depend on the way there.
func TestShardOfACustomerIsTheSameThroughEveryRegion(t *testing.T) {
	s := newShops(t, "w1")
	fronts := []*front{s.front(coordinator.Config{Region: "eu"}), s.front(coordinator.Config{Region: "us"})}
	fronts[0].stock("p", 1000)
	for i := range 20 {
		ids := map[string]bool{}
		for _, f := range fronts {
			req := buy("p", 1)
			req.CustomerId, req.RequestId = fmt.Sprint("customer-", i), fmt.Sprint("request-", i)
			p, err := f.purchases.CreatePurchase(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			ids[p.GetPurchaseId()] = true
		}
		if len(ids) != 1 {
			t.Errorf("customer-%d was sold %v for one request", i, ids)
		}
	}
}

func TestRegionOfACoordinatorIsChecked(t *testing.T) {
	s := newShops(t)
	if _, err := coordinator.New(coordinator.Config{Directory: s.directory, Region: "EU West"}); err == nil {
		t.Error("a region that cannot be told was taken")
	}
}
