package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
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

// The lanes. A worker's own trouble, that of the databases and that of etcd and
// the coordinator come independently of each other.
const (
	laneWorkers = "workers"
	laneShards  = "shards"
	laneCentre  = "centre"
)

// pastTTL is longer than a lock lives without its holder.
const pastTTL = lockTTL + 1200*time.Millisecond

// Faults is the table of all that this suite can break.
func Faults() []Fault {
	const upstream, downstream = "upstream", "downstream"
	return []Fault{
		{"holder-killed", laneWorkers, 1500 * time.Millisecond, killHolder},
		{"holder-paused", laneWorkers, 6 * time.Second, pauseHolder},
		{"holder-drained", laneWorkers, time.Second, drainHolder},
		{"cut-etcd-requests", laneWorkers, pastTTL, cutHolder(toEtcd, swallow, upstream)},
		{"cut-etcd-replies", laneWorkers, pastTTL, cutHolder(toEtcd, swallow, downstream)},
		{"cut-shard-requests", laneWorkers, pastTTL, cutHolder(toShard, swallow, upstream)},
		{"cut-shard-replies", laneWorkers, pastTTL, cutHolder(toShard, swallow, downstream)},
		{"cut-peers-requests", laneWorkers, pastTTL, cutHolder(fromOthers, swallow, upstream)},
		{"cut-peers-replies", laneWorkers, pastTTL, cutHolder(fromOthers, swallow, downstream)},

		{"commit-replies-reset", laneShards, time.Second, cutHolder(toShard, reset, downstream)},
		{"commit-requests-reset", laneShards, time.Second, cutHolder(toShard, reset, upstream)},
		{"postgres-killed", laneShards, time.Second, killPostgres},
		{"backend-paused", laneShards, 3 * time.Second, pauseBackend},

		{"etcd-leader-killed", laneCentre, 2 * time.Second, killEtcdLeader},
		{"etcd-quorum-lost", laneCentre, pastTTL, loseQuorum},
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

func killHolder(ctx context.Context, w *World, pick uint64) (string, func() error, error) {
	name, why := w.holder(ctx, pick)
	w.setDown(name, true)
	heal := func() error { return w.startWorker(name) }
	err := w.worker(name).Kill()
	w.network.hangUp(link{others, name}) // as if the port were the process's own
	return fmt.Sprintf("%s (%s): SIGKILL", name, why), heal, err
}

func pauseHolder(ctx context.Context, w *World, pick uint64) (string, func() error, error) {
	name, why := w.holder(ctx, pick)
	p := w.worker(name)
	heal := func() error { return p.Signal(syscall.SIGCONT) }
	return fmt.Sprintf("%s (%s): SIGSTOP", name, why), heal, p.Signal(syscall.SIGSTOP)
}

func drainHolder(ctx context.Context, w *World, pick uint64) (string, func() error, error) {
	name, why := w.holder(ctx, pick)
	w.setDown(name, true)
	heal := func() error { return w.startWorker(name) }
	began := time.Now()
	what := fmt.Sprintf("%s (%s): SIGTERM", name, why)
	if !w.worker(name).Terminate(15 * time.Second) {
		return what, heal, errors.New("did not drain in 15 s")
	}
	return fmt.Sprintf("%s, ended after %v", what, time.Since(began).Round(time.Millisecond)), heal, nil
}

// toEtcd, toShard and fromOthers choose the links of a worker.
func toEtcd(w *World, name string, _ uint64) (links []link) {
	for member := range w.stack.EtcdEndpoints() {
		links = append(links, link{name, member})
	}
	return links
}

func toShard(w *World, name string, pick uint64) []link {
	shards := w.stack.Shards()
	return []link{{name, shards[pick>>32%uint64(len(shards))]}}
}

func fromOthers(_ *World, name string, _ uint64) []link { return []link{{others, name}} }

func cutHolder(links func(*World, string, uint64) []link, toxic, direction string) func(context.Context, *World, uint64) (string, func() error, error) {
	return func(ctx context.Context, w *World, pick uint64) (string, func() error, error) {
		name, why := w.holder(ctx, pick)
		cut := links(w, name, pick)
		heal, err := w.network.poison(toxic, direction, cut...)
		return fmt.Sprintf("%s (%s): %v", name, why, cut), heal, err
	}
}

func killPostgres(_ context.Context, w *World, pick uint64) (string, func() error, error) {
	shards := w.stack.Shards()
	shard := shards[pick%uint64(len(shards))]
	heal := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.stack.RestartPostgres(ctx, shard)
	}
	return "server of shard " + shard + ": SIGKILL", heal, w.stack.Postgres[shard].Kill()
}

func killEtcdLeader(ctx context.Context, w *World, _ uint64) (string, func() error, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	leader, err := w.stack.EtcdCluster.AwaitLeader(ctx)
	if err != nil {
		return "no leader", nil, err
	}
	return leader.Name + " leads: SIGKILL", leader.Start, leader.Kill()
}

// loseQuorum kills a minority and pauses another member, so that one is left.
func loseQuorum(_ context.Context, w *World, pick uint64) (string, func() error, error) {
	members := w.stack.EtcdCluster.Members
	killed, paused := members[pick%3], members[(pick+1)%3]
	heal := func() error { return errors.Join(paused.Signal(syscall.SIGCONT), killed.Start()) }
	what := fmt.Sprintf("%s: SIGKILL, %s: SIGSTOP", killed.Name, paused.Name)
	return what, heal, errors.Join(killed.Kill(), paused.Signal(syscall.SIGSTOP))
}

func compactEtcd(ctx context.Context, w *World, _ uint64) (string, func() error, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	nothing := func() error { return nil }
	now, err := w.etcd.Get(ctx, prefix)
	if err != nil {
		return "not reached", nothing, err
	}
	_, err = w.etcd.Compact(ctx, now.Header.Revision)
	return fmt.Sprintf("at revision %d", now.Header.Revision), nothing, err
}

func killCoordinator(_ context.Context, w *World, _ uint64) (string, func() error, error) {
	w.setDown("coordinator", true)
	w.mu.Lock()
	defer w.mu.Unlock()
	return "SIGKILL", w.startCoordinator, w.stack.Coordinator.Kill()
}
