package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/lockmgr"
)

// killing is what is known of the worker that was killed.
type killing struct {
	holders  int
	at       time.Time
	products map[string]bool // what it held
}

// kill ends the worker that holds the most wanted product with SIGKILL.
func (cfg *Config) kill(ctx context.Context, k *killing) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	wanted := mostWanted(cfg.Orders.Demand())
	victim, held, err := cfg.holderOf(ctx, wanted)
	if err != nil {
		return fmt.Errorf("find the holder of %s: %w", wanted, err)
	}
	process := cfg.Stack.Workers[victim]
	if process == nil {
		return fmt.Errorf("the holder of %s is %q, which is not of this stack", wanted, victim)
	}
	k.products, k.at = held, time.Now()
	if err := process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", victim, err)
	}
	k.holders++
	cfg.Say("   half-way: %s, which holds product %s and %d others, is killed (SIGKILL)", victim, wanted, len(held)-1)
	return nil
}

func mostWanted(demand map[string]int64) string {
	best := ""
	for id, units := range demand {
		if best == "" || units > demand[best] || (units == demand[best] && id < best) {
			best = id
		}
	}
	return best
}

// holderOf waits until somebody holds the product, and returns who, and all that
// he holds.
func (cfg *Config) holderOf(ctx context.Context, product string) (worker string, held map[string]bool, err error) {
	locks, err := lockmgr.New(lockmgr.Config{Client: cfg.Etcd.Client, Prefix: cfg.Etcd.LockPrefix(), Owner: "demo"})
	if err != nil {
		return "", nil, err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		worker, held, err = ownedWith(ctx, locks, product)
		if !errors.Is(err, lockmgr.ErrNotHeld) {
			return worker, held, err
		}
		select {
		case <-ctx.Done():
			return "", nil, err
		case <-tick.C:
		}
	}
}

// ownedWith returns the owner of a product and everything that he owns, or
// lockmgr.ErrNotHeld.
func ownedWith(ctx context.Context, locks *lockmgr.Manager, product string) (string, map[string]bool, error) {
	holders, err := locks.Holders(ctx)
	if err != nil {
		return "", nil, err
	}
	byOwner := map[string]map[string]bool{}
	owner := ""
	for _, h := range holders {
		if byOwner[h.Owner] == nil {
			byOwner[h.Owner] = map[string]bool{}
		}
		byOwner[h.Owner][h.Name] = true
		if h.Name == product {
			owner = h.Owner
		}
	}
	if owner == "" {
		return "", nil, lockmgr.ErrNotHeld
	}
	var w cluster.Worker
	if err := json.Unmarshal([]byte(owner), &w); err != nil {
		return "", nil, fmt.Errorf("owner %q: %w", owner, err)
	}
	return w.Name, byOwner[owner], nil
}
