package chaos

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

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

// pauseHolderWithoutReplies has etcd renew the holder's lock without the holder
// knowing. It learns of it after the pause, when the lock is somebody else's.
func pauseHolderWithoutReplies(ctx context.Context, w *World, pick uint64) (string, func() error, error) {
	name, why := w.holder(ctx, pick)
	what := fmt.Sprintf("%s (%s): replies of etcd held back, SIGSTOP", name, why)
	release, err := w.network.poison(hold, []string{downstream}, toEtcd(w, name, pick)...)
	if err != nil {
		return what, release, err
	}
	sleep(ctx, lockTTL/3) // a renewal is asked for at least this often; nothing tells when it was
	p := w.worker(name)
	heal := func() error { return errors.Join(p.Signal(syscall.SIGCONT), release()) }
	return what, heal, p.Signal(syscall.SIGSTOP)
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

// toEtcd, toShards, toShard and fromOthers choose the links of a worker.
func toEtcd(w *World, name string, _ uint64) (links []link) {
	for member := range w.stack.EtcdEndpoints() {
		links = append(links, link{name, member})
	}
	return links
}

func toShards(w *World, name string, _ uint64) (links []link) {
	for _, shard := range w.shardNames() {
		links = append(links, link{name, shard})
	}
	return links
}

func toShard(w *World, name string, pick uint64) []link { return []link{{name, w.shard(pick >> 32)}} }

func fromOthers(_ *World, name string, _ uint64) []link { return []link{{others, name}} }

func cutHolder(
	links func(*World, string, uint64) []link, toxic string, directions ...string,
) func(context.Context, *World, uint64) (string, func() error, error) {
	return func(ctx context.Context, w *World, pick uint64) (string, func() error, error) {
		name, why := w.holder(ctx, pick)
		cut := links(w, name, pick)
		heal, err := w.network.poison(toxic, directions, cut...)
		return fmt.Sprintf("%s (%s): %v", name, why, cut), heal, err
	}
}
