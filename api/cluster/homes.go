package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
	"unique"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ValidateRegion returns an error unless a region's name is one that a shard could have, or
// empty: a member that names none.
func ValidateRegion(name string) error {
	if name != "" && !shardName.MatchString(name) {
		return fmt.Errorf("region %q: want 1 to 32 of a-z, 0-9 and '-', beginning with a letter", name)
	}
	return nil
}

const (
	// homesPage is how many homes are read at once: there may be one for every product.
	homesPage = 2000

	// homesTimeout is until such a read has failed. Nobody waits for it that long.
	homesTimeout = 10 * time.Second
)

func (d Directory) homesPrefix() string { return d.Prefix + "homes/" }

// SetHome says in which region a product is to be sold, from now on.
func (d Directory) SetHome(ctx context.Context, productID, region string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := d.Client.Put(ctx, d.homesPrefix()+productID, region); err != nil {
		return fmt.Errorf("set home: %w", err)
	}
	return nil
}

// WatchHomes calls all with the homes of all products, then one with each that changes (""
// when it is no more), until ctx ends; it returns ctx's error. When changes may have been
// missed, all is called again. Calls do not overlap. While etcd is away it goes on trying,
// and failed is told each error.
func (d Directory) WatchHomes(
	ctx context.Context, all func(regions map[string]string), one func(productID, region string), failed func(error),
) error {
	for ctx.Err() == nil {
		if err := d.followHomes(ctx, all, one); err != nil && ctx.Err() == nil {
			failed(err)
			pause(ctx)
		}
	}
	return ctx.Err()
}

// followHomes applies events, other than follow: there is too much to read it for each.
func (d Directory) followHomes(
	ctx context.Context, all func(map[string]string), one func(productID, region string),
) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	homes, revision, err := d.readHomes(ctx)
	if err != nil {
		return err
	}
	all(homes)
	events := d.Client.Watch(ctx, d.homesPrefix(), clientv3.WithPrefix(), clientv3.WithRev(revision+1))
	for {
		revision, err = d.nextHomes(ctx, events, revision, one)
		if err != nil {
			return err
		}
	}
}

// nextHomes passes the next changes on, or looks whether etcd has gone back. It returns the
// revision that is known then.
func (d Directory) nextHomes(
	ctx context.Context, events clientv3.WatchChan, revision int64, one func(productID, region string),
) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, rereadInterval)
	defer cancel()
	select {
	case resp, ok := <-events:
		if err := resp.Err(); err != nil || !ok {
			return 0, cmp.Or(err, errors.New("watch of the homes ended"))
		}
		for _, e := range resp.Events {
			one(string(e.Kv.Key[len(d.homesPrefix()):]), regionIn(e.Kv.Value))
		}
		return max(revision, resp.Header.Revision), nil
	case <-ctx.Done():
	}
	_, at, err := d.readInTime(context.WithoutCancel(ctx))
	if err == nil && at < revision {
		err = fmt.Errorf("etcd went back from revision %d to %d: it was restored or wiped", revision, at)
	}
	return at, err
}

// readHomes also returns the revision that all of them were read at.
func (d Directory) readHomes(ctx context.Context) (homes map[string]string, revision int64, err error) {
	homes = map[string]string{}
	for from, more := d.homesPrefix(), true; more; {
		resp, err := d.readHomesFrom(ctx, from, revision)
		if err != nil {
			return nil, 0, fmt.Errorf("read homes: %w", err)
		}
		for _, kv := range resp.Kvs {
			homes[string(kv.Key[len(d.homesPrefix()):])] = regionIn(kv.Value)
			from = string(kv.Key) + "\x00"
		}
		revision, more = cmp.Or(revision, resp.Header.Revision), resp.More
	}
	return homes, revision, nil
}

func (d Directory) readHomesFrom(ctx context.Context, from string, revision int64) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, homesTimeout)
	defer cancel()
	return d.Client.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(d.homesPrefix())),
		clientv3.WithRev(revision), clientv3.WithLimit(homesPage))
}

// regionIn is the region that a home names: a string that all of them share.
func regionIn(value []byte) string { return unique.Make(string(value)).Value() }
