package coordinator

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/api/cluster"
)

// homes are where products are to be sold, and where workers are. They are empty, and cost
// nothing, where no worker has a region.
type homes struct {
	byName   map[string]string // the region of each worker that has one
	products map[string]string // the region of each product that has one

	wanted, known chan struct{} // closed when a worker has a region, and when nobody need wait for products
	want, know    func()        // close them
}

func newHomes() homes {
	h := homes{wanted: make(chan struct{}), known: make(chan struct{})}
	h.want, h.know = sync.OnceFunc(func() { close(h.wanted) }), sync.OnceFunc(func() { close(h.known) })
	return h
}

// place takes over the regions of workers. Caller holds the router's mu, also of first.
func (h *homes) place(workers []cluster.Worker) {
	h.byName = nil
	for _, w := range workers {
		if w.Region == "" {
			continue
		}
		if h.byName == nil {
			h.byName = map[string]string{}
		}
		h.byName[w.Name] = w.Region
	}
}

// first returns the best worker in the region where a product is to be sold, if one fits. When
// a worker of a region was cut off from a shard, it is the best one elsewhere: those beside the
// first may be cut off with it.
func (h *homes) first(productID string, names []string, cutOff string, fits func(name string) bool) (name string, ok bool) {
	if cutOff != "" {
		return cluster.First(productID, names, func(name string) bool { return h.byName[name] != cutOff && fits(name) })
	}
	region := h.products[productID]
	if region == "" {
		return "", false
	}
	return cluster.First(productID, names, func(name string) bool { return h.byName[name] == region && fits(name) })
}

// regionOf is where a worker is that was asked.
func (r *router) regionOf(p *peer) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for name, known := range r.peers {
		if known == p {
			return r.homes.byName[name]
		}
	}
	return ""
}

// watchHomes follows where products are to be sold, once there is a choice. All coordinators
// must, also those without a region: two that disagree would take products from each other.
func (c *Coordinator) watchHomes(ctx context.Context) error {
	select {
	case <-c.router.homes.wanted:
	case <-ctx.Done():
		return nil
	}
	err := c.cfg.Directory.WatchHomes(ctx, c.router.settle, c.router.move,
		func(err error) { c.log.Warn("homes of products not read", "error", err) })
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// homesPatience is how long workers are not called yet because nobody knows where products
// are to be sold.
const homesPatience = 5 * time.Second

// awaitHomes returns once the homes of products were read, if there is a choice: whoever
// starts to call workers without them takes every product away from its home.
func (c *Coordinator) awaitHomes(ctx context.Context, workers []cluster.Worker) {
	if !slices.ContainsFunc(workers, func(w cluster.Worker) bool { return w.Region != "" }) {
		return
	}
	c.router.homes.want()
	timer := time.NewTimer(homesPatience)
	defer timer.Stop()
	select {
	case <-c.router.homes.known:
	case <-timer.C:
		c.router.homes.know() // or it would be waited for again
	case <-ctx.Done():
	}
}

// settle takes over the homes of all products.
func (r *router) settle(products map[string]string) {
	defer r.homes.know()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.homes.products = products
}

// move takes over the home of one product; an empty region is none.
func (r *router) move(productID, region string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if region == "" {
		delete(r.homes.products, productID)
		return
	}
	r.homes.products[productID] = region
}
