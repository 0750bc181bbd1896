package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Fault is one way to break a World.
type Fault struct {
	Name string
	Lane string        // faults of one lane do not overlap
	Hold time.Duration // at least; from the injection to the heal

	// Inject breaks something and says what. The heal that it returns is called
	// once, also after an error if it is not nil.
	Inject func(ctx context.Context, w *World, pick uint64) (what string, heal func() error, err error)
}

// The lanes. A worker's own trouble, that of its connections, that of the
// databases, and that of etcd and the coordinators come independently of each
// other.
const (
	laneWorkers = "workers"
	laneLinks   = "links"
	laneShards  = "shards"
	laneCentre  = "centre"
)

// pastTTL is longer than a lock lives without its holder.
const pastTTL = lockTTL + 800*time.Millisecond

// Faults is the table of all that this suite can break.
func Faults() []Fault {
	return []Fault{
		{"holder-killed", laneWorkers, 1500 * time.Millisecond, killHolder},
		{"holder-paused", laneWorkers, 5 * time.Second, pauseHolder},
		{"holder-paused-reply-held", laneWorkers, pastTTL, pauseHolderWithoutReplies},
		{"holder-drained", laneWorkers, time.Second, drainHolder},

		{"cut-etcd-requests", laneLinks, pastTTL, cutHolder(toEtcd, swallow, upstream)},
		{"cut-etcd-replies", laneLinks, pastTTL, cutHolder(toEtcd, swallow, downstream)},
		{"cut-peers-requests", laneLinks, pastTTL, cutHolder(fromOthers, swallow, upstream)},
		{"cut-peers-replies", laneLinks, pastTTL, cutHolder(fromOthers, swallow, downstream)},
		{"holder-stuck", laneLinks, 3 * lockTTL, cutHolder(toShards, swallow, upstream, downstream)},

		{"cut-shard-requests", laneShards, pastTTL, cutHolder(toShard, swallow, upstream)},
		{"cut-shard-replies", laneShards, pastTTL, cutHolder(toShard, swallow, downstream)},
		{"commit-replies-reset", laneShards, time.Second, cutHolder(toShard, reset, downstream)},
		{"commit-requests-reset", laneShards, time.Second, cutHolder(toShard, reset, upstream)},
		{"postgres-killed", laneShards, time.Second, killPostgres},
		{"backend-paused", laneShards, pastTTL, pauseBackend},
		{"shard-added", laneShards, time.Second, addShard},

		{"etcd-leader-killed", laneCentre, 2 * time.Second, killEtcdLeader},
		{"etcd-quorum-lost", laneCentre, pastTTL, loseQuorum},
		{"etcd-disk-stalled", laneCentre, pastTTL, stallEtcdDisk},
		{"etcd-compacted", laneCentre, 100 * time.Millisecond, compactEtcd},
		{"coordinator-killed", laneCentre, 500 * time.Millisecond, killCoordinator},
	}
}

// Only returns the faults whose name is among the comma-separated ones.
func Only(names string) ([]Fault, error) {
	if names == "" {
		return Faults(), nil
	}
	var chosen []Fault
	var known []string
	for _, f := range Faults() {
		known = append(known, f.Name)
	}
	for name := range strings.SplitSeq(names, ",") {
		i := slices.Index(known, name)
		if i < 0 {
			return nil, fmt.Errorf("no fault is named %q; there are %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, Faults()[i])
	}
	return chosen, nil
}
