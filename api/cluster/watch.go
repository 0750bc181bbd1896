package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// retryPause is how long to wait after etcd failed a call; half of it is
	// drawn by chance, so that many members do not come back at the same moment.
	retryPause = 500 * time.Millisecond

	// callTimeout is until a call that etcd does not answer has failed: without
	// it, the client waits for a connection without a word.
	callTimeout = 3 * time.Second

	// rereadInterval is until an etcd that was restored from a backup, or wiped,
	// is noticed: it counts its revisions anew, and a watch sees none that it
	// has passed.
	rereadInterval = 5 * time.Second
)

// Watch calls changed with a view at the start and after each change, until ctx
// ends; it returns ctx's error. Calls do not overlap. While etcd is away it
// goes on trying, and failed is told each error.
func (d Directory) Watch(ctx context.Context, changed func(View), failed func(error)) error {
	for ctx.Err() == nil {
		if err := d.follow(ctx, changed); err != nil && ctx.Err() == nil {
			failed(err)
			pause(ctx)
		}
	}
	return ctx.Err()
}

// follow reads, then reads again at each event, and at times without one. The
// entries are few and change seldom, so a whole read is cheaper to get right
// than applying events.
func (d Directory) follow(ctx context.Context, changed func(View)) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	last, revision, err := d.readInTime(ctx)
	if err != nil {
		return err
	}
	changed(last)
	events := d.Client.Watch(ctx, d.base(), clientv3.WithPrefix(), clientv3.WithRev(revision+1))
	reread := time.NewTicker(rereadInterval)
	defer reread.Stop()
	for {
		select {
		case resp, ok := <-events:
			if err := resp.Err(); err != nil || !ok {
				return cmp.Or(err, errors.New("watch of the cluster ended"))
			}
		case <-reread.C:
		}
		view, at, err := d.readInTime(ctx)
		switch {
		case err != nil:
			return err
		case at < revision:
			return fmt.Errorf("etcd went back from revision %d to %d: it was restored or wiped", revision, at)
		}
		if !reflect.DeepEqual(view, last) {
			changed(view)
		}
		last, revision = view, at
	}
}

// readInTime is read for members, which wait for a cluster to be initialised.
func (d Directory) readInTime(ctx context.Context) (View, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	view, revision, err := d.read(ctx)
	if errors.Is(err, ErrNotInitialised) {
		err = nil
	}
	return view, revision, err
}

func pause(ctx context.Context) {
	wait := retryPause/2 + rand.N(retryPause/2)
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}
