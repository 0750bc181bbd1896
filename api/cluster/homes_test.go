package cluster_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-io/holdfast/api/cluster"
)

// homeWatcher follows the homes of a cluster until the end of the test.
type homeWatcher struct {
	t       testing.TB
	changes chan map[string]string // all homes after each change
}

func watchHomes(t testing.TB, d cluster.Directory) homeWatcher {
	t.Helper()
	h := homeWatcher{t, make(chan map[string]string)}
	background(t, func(ctx context.Context) error {
		known := map[string]string{}
		tell := func() {
			select {
			case h.changes <- maps.Clone(known):
			case <-ctx.Done():
			}
		}
		return d.WatchHomes(ctx, func(all map[string]string) {
			known = all
			tell()
		}, func(productID, region string) {
			known[productID] = region
			if region == "" {
				delete(known, productID)
			}
			tell()
		}, func(err error) { t.Log("watch:", err) })
	})
	return h
}

// until waits for homes that are as wanted.
func (h homeWatcher) until(want map[string]string) {
	h.t.Helper()
	timeout := time.After(patience)
	var last map[string]string
	for {
		select {
		case last = <-h.changes:
			if maps.Equal(last, want) {
				return
			}
		case <-timeout:
			h.t.Fatalf("%d homes, want %d: %.200s …, want %.200s …", len(last), len(want), fmt.Sprint(last), fmt.Sprint(want))
		}
	}
}

func setHome(t testing.TB, d cluster.Directory, productID, region string) {
	t.Helper()
	if err := d.SetHome(t.Context(), productID, region); err != nil {
		t.Fatal(err)
	}
}

// A coordinator that misses a home sends buyers to where the product is not sold any more.
func TestWatchTellsHomesAndTheirChanges(t *testing.T) {
	d := directory(t)
	odd := "a/b \xff…"
	setHome(t, d, "p", "eu")
	setHome(t, d, odd, "us")
	h := watchHomes(t, d)
	h.until(map[string]string{"p": "eu", odd: "us"})
	setHome(t, d, "p", "us")
	h.until(map[string]string{"p": "us", odd: "us"})
	if _, err := d.Client.Delete(t.Context(), d.Prefix+"homes/p"); err != nil {
		t.Fatal(err)
	}
	h.until(map[string]string{odd: "us"})
}

// There may be one for each product: more than one answer of etcd should carry.
func TestHomesOfAllProductsAreRead(t *testing.T) {
	d := directory(t)
	want := map[string]string{}
	var ops []clientv3.Op
	for i := range 4001 { // two pages, and one
		product := fmt.Sprint("p", i)
		want[product] = "eu"
		ops = append(ops, clientv3.OpPut(d.Prefix+"homes/"+product, "eu"))
		if len(ops) == 100 || i == 4000 {
			if _, err := d.Client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
				t.Fatal(err)
			}
			ops = nil
		}
	}
	watchHomes(t, d).until(want)
}

// What a watch has passed is read again when etcd begins its revisions anew.
func TestHomesOfAnEtcdThatWasWipedAreForgotten(t *testing.T) {
	t.Parallel()
	e := startEtcd(t)
	d := cluster.Directory{Client: e.client, Prefix: "/holdfast/"}
	for _, region := range strings.Fields("us eu us eu us") {
		setHome(t, d, "p", region)
	}
	h := watchHomes(t, d)
	h.until(map[string]string{"p": "us"})
	e.Stop()
	e.start(t.TempDir())
	setHome(t, d, "other", "eu")
	h.until(map[string]string{"other": "eu"})
}

func TestHomesOfOtherClustersAreTheirs(t *testing.T) {
	d := directory(t)
	setHome(t, cluster.Directory{Client: d.Client, Prefix: strings.TrimSuffix(d.Prefix, "/") + "b/"}, "p", "eu")
	watchHomes(t, d).until(map[string]string{})
}

func TestRegionIsNamedLikeAShard(t *testing.T) {
	for name, valid := range map[string]bool{
		"": true, "eu": true, "eu-west-1": true, "EU": false, "e u": false, "é": false, strings.Repeat("x", 33): false,
	} {
		if err := cluster.ValidateRegion(name); (err == nil) != valid {
			t.Errorf("%q: %v", name, err)
		}
	}
}
