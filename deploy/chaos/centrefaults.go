package chaos

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/holdfast-io/holdfast/deploy/local"
)

func killEtcdLeader(ctx context.Context, w *World, _ uint64) (string, func() error, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	leader, err := w.stack.EtcdCluster.AwaitLeader(ctx)
	if err != nil {
		return "no leader", nil, err
	}
	return leader.Name + " leads: SIGKILL", leader.Start, leader.Kill()
}

// stallEtcdDisk prefers the leader, whose heartbeats go on: nobody elects another.
func stallEtcdDisk(ctx context.Context, w *World, pick uint64) (string, func() error, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	leader, err := w.stack.EtcdCluster.AwaitLeader(ctx)
	if err != nil {
		return "no leader", nil, err
	}
	victim, what := leader, leader.Name+" leads: its disk stalls"
	if pick%4 == 0 {
		victim = w.stack.EtcdCluster.Members[pick>>32%3]
		what = victim.Name + ": its disk stalls"
	}
	return what, func() error { return victim.Signal(local.ResumeDisk) }, victim.Signal(local.StallDisk)
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
	now, err := w.etcd.Get(ctx, prefix)
	if err != nil {
		return "not reached", nil, err
	}
	_, err = w.etcd.Compact(ctx, now.Header.Revision)
	return fmt.Sprintf("at revision %d", now.Header.Revision), nil, err
}

func killCoordinator(_ context.Context, w *World, pick uint64) (string, func() error, error) {
	c := w.stack.Coordinators[pick%uint64(len(w.stack.Coordinators))]
	w.setDown(c.Name, true)
	w.mu.Lock()
	defer w.mu.Unlock()
	return c.Name + ": SIGKILL", func() error { return w.startCoordinator(c) }, c.Kill()
}
