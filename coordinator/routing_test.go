package coordinator_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

// owners asks for every product once and returns which worker answered.
func (f *front) owners(products []string) map[string]string {
	f.t.Helper()
	f.shop.takeCalls()
	var callers errgroup.Group
	callers.SetLimit(16)
	for _, id := range products {
		callers.Go(func() error {
			_, err := f.products.GetProduct(f.t.Context(), &holdfastv1.GetProductRequest{ProductId: id})
			return err
		})
	}
	if err := callers.Wait(); err != nil {
		f.t.Fatal(err)
	}
	owners := map[string]string{}
	for _, c := range f.shop.takeCalls() {
		owners[c.req.(*holdfastv1.GetProductRequest).GetProductId()] = c.worker
	}
	return owners
}

// Each product that moves costs its buyers a new tenure. On a busy machine a worker may be
// taken for silent for a moment, so a product has moved only if it stays away.
func TestWorkerThatComesBackElsewhereKeepsItsProducts(t *testing.T) {
	products := make([]string, 2000)
	f := openFront(t, coordinator.Config{}, "w1", "w2", "w3")
	for i := range products {
		products[i] = fmt.Sprintf("p-%d", i)
		f.shop.products[products[i]] = &holdfastv1.Product{ProductId: products[i]}
	}
	before := f.owners(products)
	for unsure := f.movedSince(before, products); len(unsure) > 0; unsure = f.movedSince(before, products) {
		maps.Copy(before, f.owners(unsure))
	}
	share := map[string]int{}
	for _, w := range before {
		share[w]++
	}
	if len(before) != len(products) || len(share) != 3 || min(share["w1"], share["w2"], share["w3"]) < len(products)/4 {
		t.Errorf("products are not spread: %v", share)
	}

	old := f.workers["w2"]
	old.set(answer(errDraining)) // so that it is seen when the new address is known
	f.open("w2")
	f.callUntilAnsweredBy("w2", before)
	moved := f.movedSince(before, products)
	for limit := time.Now().Add(stayAway); len(moved) > 0 && time.Now().Before(limit); {
		moved = f.movedSince(before, moved)
	}
	if len(moved) > 0 {
		t.Errorf("%d of %d products moved to another worker", len(moved), len(products))
	}
}

// stayAway is longer than a busy machine keeps a worker from answering.
const stayAway = 10 * time.Second

// movedSince asks for products, and returns those that another worker than before
// answers for.
func (f *front) movedSince(before map[string]string, products []string) (moved []string) {
	f.t.Helper()
	for product, w := range f.owners(products) {
		if w != before[product] {
			moved = append(moved, product)
		}
	}
	return moved
}

// callUntilAnsweredBy asks for a worker's product until it answers itself.
func (f *front) callUntilAnsweredBy(name string, owners map[string]string) {
	f.t.Helper()
	var product string
	for p, w := range owners {
		if w == name {
			product = p
		}
	}
	for f.t.Context().Err() == nil {
		f.shop.takeCalls()
		if _, err := f.products.GetProduct(f.t.Context(), &holdfastv1.GetProductRequest{ProductId: product}); err != nil {
			f.t.Fatal(err)
		}
		if calls := f.shop.takeCalls(); len(calls) == 1 && calls[0].worker == name {
			return
		}
	}
}

// What was filled in must not depend on which coordinator a customer comes to.
func TestRegionFollowsFromTheCustomer(t *testing.T) {
	s := newShops(t, "w1")
	fronts := []*front{s.front(coordinator.Config{}), s.front(coordinator.Config{})}
	fronts[0].stock("p", 1000)
	share := map[string]int{}
	for i := range 100 {
		regions := map[string]bool{}
		for _, f := range fronts {
			req := buy("p", 1)
			req.CustomerId = fmt.Sprintf("customer-%d", i)
			p, err := f.purchases.CreatePurchase(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			regions[p.GetRegion()] = true
			share[p.GetRegion()]++
		}
		if len(regions) != 1 {
			t.Errorf("customer-%d is at home in %v", i, regions)
		}
	}
	if len(share) != 2 || min(share["eu"], share["us"]) < 60 {
		t.Errorf("customers are not spread over the shards: %v", share)
	}
}

// Two calls without a request_id are two purchases; with one, they are one.
func TestRequestIDIsFilledInOnlyWhenEmpty(t *testing.T) {
	f := openFront(t, coordinator.Config{}, "w1")
	f.stock("p", 10)
	for _, id := range []string{"", "", "mine", "mine"} {
		req := buy("p", 1)
		req.RequestId, req.Region = id, "us"
		p, err := f.purchases.CreatePurchase(t.Context(), req)
		if err != nil || p.GetRequestId() == "" || (id != "" && p.GetRequestId() != id) || p.GetRegion() != "us" {
			t.Errorf("%q: %v, %v", id, p, err)
		}
	}
	if n := len(f.shop.stored("p")); n != 3 {
		t.Errorf("%d purchases, want 3", n)
	}
}
