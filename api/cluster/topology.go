package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Topology is the numbered list of shards. A higher number is newer.
type Topology struct {
	Number int64    `json:"number"`
	Shards []string `json:"shards"`
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

// Home is the shard of a customer who names no region. It depends on nothing
// but the customer's id and the names of the shards.
func (t Topology) Home(customerID string) string {
	return Rank(customerID, t.Shards)[0]
}

// Rank orders names by rendezvous hashing for a key, the best first (Thaler and
// Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998): when a
// name goes away, only the keys that had it first move, each to its second.
func Rank(key string, names []string) []string {
	type scored struct {
		name  string
		score uint64
	}
	ranked := make([]scored, len(names))
	for i, name := range names {
		ranked[i] = scored{name, xxhash.Sum64String(name + "\x00" + key)}
	}
	slices.SortFunc(ranked, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.name, b.name))
	})
	ordered := make([]string, len(ranked))
	for i, r := range ranked {
		ordered[i] = r.name
	}
	return ordered
}
