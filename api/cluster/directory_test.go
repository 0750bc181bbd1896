package cluster_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-io/holdfast/api/cluster"
)

// Every shard stores the cluster's id and refuses others: a second id would
// make the databases useless.
func TestInitialisingAgainChangesNothing(t *testing.T) {
	d := directory(t)
	first := initialise(t, d)
	again, err := d.Init(t.Context(), uuid.New(), cluster.Topology{Number: 9, Shards: []string{"other"}})
	if err != nil {
		t.Fatal(err)
	}
	if again.ID != first.ID || again.Topology.Number != 1 || !slices.Equal(again.Topology.Shards, euUS.Shards) {
		t.Errorf("got %+v, first was %+v", again, first)
	}
}

func TestManyInitialisingAtOnceAgreeOnOneID(t *testing.T) {
	d := directory(t)
	views := make([]cluster.View, 16)
	var group errgroup.Group
	for i := range views {
		group.Go(func() (err error) {
			views[i], err = d.Init(t.Context(), uuid.New(), cluster.Topology{
				Number: 1, Shards: []string{fmt.Sprintf("shard-%d", i)},
			})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, v := range views {
		if v.ID != views[0].ID || !slices.Equal(v.Topology.Shards, views[0].Topology.Shards) {
			t.Errorf("got %+v and %+v", views[0], v)
		}
	}
}

func TestInvalidTopologyIsNotStored(t *testing.T) {
	d := directory(t)
	if _, err := d.Init(t.Context(), uuid.New(), cluster.Topology{Number: 1}); err == nil {
		t.Error("a topology without shards was taken")
	}
	if _, err := d.View(t.Context()); !errors.Is(err, cluster.ErrNotInitialised) {
		t.Errorf("got %v, want ErrNotInitialised", err)
	}
}

// Two clusters on one etcd must never meet, also when one's prefix begins like
// the other's.
func TestClustersWithOtherPrefixesNeverMeet(t *testing.T) {
	d := directory(t)
	initialise(t, d)
	for _, prefix := range []string{d.Prefix + "b/", strings.TrimSuffix(d.Prefix, "/") + "b/"} {
		other := cluster.Directory{Client: d.Client, Prefix: prefix}
		if _, err := other.View(t.Context()); !errors.Is(err, cluster.ErrNotInitialised) {
			t.Errorf("prefix %s: got %v, want ErrNotInitialised", prefix, err)
		}
	}
}

// Members of two versions run side by side during an upgrade.
func TestKeysOfANewerVersionAreLeftAlone(t *testing.T) {
	d := directory(t)
	first := initialise(t, d)
	if _, err := d.Client.Put(t.Context(), d.Prefix+"cluster/novelty", "{"); err != nil {
		t.Fatal(err)
	}
	if view, err := d.View(t.Context()); err != nil || view.ID != first.ID {
		t.Errorf("got %+v, %v", view, err)
	}
}

// Whoever reads the error must know which key to look at.
func TestEntryThatCannotBeReadIsNamed(t *testing.T) {
	d := directory(t)
	initialise(t, d)
	key := d.Prefix + "cluster/workers/w1"
	if _, err := d.Client.Put(t.Context(), key, "{"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.View(t.Context()); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("got %v, want %s named", err, key)
	}
}
