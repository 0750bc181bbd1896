package cluster

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Topology is the numbered list of shards. A higher number is newer, and has all
// shards of the lower ones: what a shard has sold counts for ever, so none may be
// left out of the sum.
type Topology struct {
	Number int64    `json:"number"`
	Shards []string `json:"shards"`
	// Homes are the shards of customers who name no region; all when empty.
	// They stay when a shard is added, so that no customer moves.
	Homes []string `json:"homes,omitempty"`
	// Draining are the shards that take no new purchases.
	Draining []string `json:"draining,omitempty"`
}

var shardName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}[a-z0-9]$|^[a-z]$`)

// Validate returns an error unless the topology has at least one shard and the
// names of its shards are distinct and of 1 to 32 characters a-z, 0-9 and '-'.
func (t Topology) Validate() error {
	if len(t.Shards) == 0 {
		return errors.New("a topology needs at least one shard")
	}
	for i, name := range t.Shards {
		if !shardName.MatchString(name) {
			return fmt.Errorf("shard name %q: want 1 to 32 of a-z, 0-9 and '-', beginning with a letter", name)
		}
		if slices.Contains(t.Shards[:i], name) {
			return fmt.Errorf("shard name %q: given twice", name)
		}
	}
	return nil
}

// Has reports whether the topology has a shard of this name.
func (t Topology) Has(shard string) bool { return slices.Contains(t.Shards, shard) }

// Sells reports whether the topology has a shard of this name that takes new
// purchases.
func (t Topology) Sells(shard string) bool {
	return t.Has(shard) && !slices.Contains(t.Draining, shard)
}

// Home is the shard of a customer who names no region. It depends on nothing
// but the customer's id and the names of the shards, and changes only when the
// shard is drained.
func (t Topology) Home(customerID string) string {
	homes := t.homes()
	if shard, ok := First(customerID, homes, t.Sells); ok {
		return shard
	}
	if shard, ok := First(customerID, t.Shards, t.Sells); ok { // all homes are drained
		return shard
	}
	return homes[0]
}

func (t Topology) homes() []string {
	if len(t.Homes) == 0 {
		return t.Shards
	}
	return t.Homes
}

// Added is the next topology, with one more shard. Customers who name no region
// stay where they are.
func (t Topology) Added(shard string) (Topology, error) {
	next := t.next()
	next.Homes = slices.Clone(t.homes())
	next.Shards = append(next.Shards, shard)
	return next, next.Validate()
}

// Drained is the next topology, in which a shard takes no new purchases.
func (t Topology) Drained(shard string) (Topology, error) {
	next := t.next()
	switch {
	case !t.Has(shard):
		return next, fmt.Errorf("there is no shard %q", shard)
	case !t.Sells(shard):
		return next, fmt.Errorf("shard %q drains already", shard)
	case len(t.Draining)+1 == len(t.Shards):
		return next, fmt.Errorf("shard %q is the last one that takes purchases", shard)
	}
	next.Draining = append(next.Draining, shard)
	return next, nil
}

// Renumbered is the same topology under the next number.
func (t Topology) Renumbered() Topology { return t.next() }

func (t Topology) next() Topology {
	return Topology{
		Number: t.Number + 1, Shards: slices.Clone(t.Shards),
		Homes: slices.Clone(t.Homes), Draining: slices.Clone(t.Draining),
	}
}

// First returns the best name for a key among those that fit, by rendezvous hashing
// (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998):
// when a name goes away, only the keys that had it first move, each to its second.
// It reports false when none fits.
func First(key string, names []string, fits func(name string) bool) (first string, ok bool) {
	var best uint64
	for _, name := range names {
		if !fits(name) {
			continue
		}
		s := score(key, name)
		if !ok || s > best || s == best && name < first {
			first, best, ok = name, s, true
		}
	}
	return first, ok
}

func score(key, name string) uint64 {
	var room [256]byte // keys and names of the usual lengths need no allocation
	return xxhash.Sum64(append(append(append(room[:0], name...), 0), key...))
}
