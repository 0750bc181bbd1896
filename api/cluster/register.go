package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Register keeps the worker's entry in etcd until ctx ends, then takes it out
// and returns. The entry outlives a killed worker by ttl at most (rounded up to
// whole seconds). While etcd is away it goes on trying, and failed is told each
// error.
func (d Directory) Register(ctx context.Context, w Worker, ttl time.Duration, failed func(error)) error {
	encoded, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("register worker: %w", err)
	}
	for ctx.Err() == nil {
		if err := d.keepEntry(ctx, w.Name, string(encoded), ttl); err != nil && ctx.Err() == nil {
			failed(fmt.Errorf("register worker: %w", err))
			pause(ctx)
		}
	}
	return ctx.Err()
}

// keepEntry writes the entry under a new lease and renews it until a renewal
// fails or ctx ends. The old lease is revoked, so that no entry stays behind.
func (d Directory) keepEntry(ctx context.Context, name, value string, ttl time.Duration) error {
	seconds := int64((ttl + time.Second - 1) / time.Second)
	entering, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	lease, err := d.Client.Grant(entering, seconds)
	if err != nil {
		return err
	}
	defer d.revoke(ctx, lease.ID)
	if _, err := d.Client.Put(entering, d.workersKey()+name, value, clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	tick := time.NewTicker(ttl / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := d.renew(ctx, lease.ID, ttl/3); err != nil {
				return err
			}
		}
	}
}

func (d Directory) renew(ctx context.Context, lease clientv3.LeaseID, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := d.Client.KeepAliveOnce(ctx, lease)
	return err
}

// revoke works also when ctx has ended, and for a second at most: a lease that
// is not revoked expires by itself.
func (d Directory) revoke(ctx context.Context, lease clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_, _ = d.Client.Revoke(ctx, lease)
}
