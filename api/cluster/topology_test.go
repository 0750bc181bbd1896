package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-io/holdfast/api/cluster"
)

// A shard's name is in purchase ids, metric labels and database rows for ever.
func TestTopologyWithABadNameIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		shards []string
		want   string // in the error; empty is none
	}{
		{"one", []string{"eu"}, ""},
		{"one letter", []string{"a"}, ""},
		{"digits and dashes", []string{"eu-west-1", "us-2"}, ""},
		{"32 characters", []string{strings.Repeat("a", 32)}, ""},
		{"none", nil, "at least one shard"},
		{"empty", []string{"eu", ""}, `shard name ""`},
		{"33 characters", []string{strings.Repeat("a", 33)}, "want 1 to 32"},
		{"upper case", []string{"EU"}, `shard name "EU"`},
		{"digit first", []string{"1eu"}, "beginning with a letter"},
		{"dash first", []string{"-eu"}, `shard name "-eu"`},
		{"dash last", []string{"eu-"}, `shard name "eu-"`},
		{"line break", []string{"eu\n"}, `shard name "eu\n"`},
		{"slash", []string{"eu/us"}, `shard name "eu/us"`},
		{"not ASCII", []string{"eü"}, `shard name "eü"`},
		{"twice", []string{"eu", "us", "eu"}, `shard name "eu": given twice`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := cluster.Topology{Number: 1, Shards: tt.shards}.Validate()
			if got := fmt.Sprint(err); (err == nil) != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// homes must never change: a customer's purchases are where they were stored,
// and the scope of a request_id is its region.
var homes = map[string]string{
	"customer-1":       "us",
	"customer-2":       "eu",
	"customer-3":       "eu",
	"customer-4":       "eu",
	"customer-5":       "eu",
	"customer-6":       "eu",
	"customer-7":       "eu",
	"customer-8":       "eu",
	"alice":            "eu",
	"bob":              "us",
	"carol":            "eu",
	"dave":             "eu",
	"17850":            "us",
	"13047":            "us",
	"12583":            "eu",
	"14688":            "eu",
	"a":                "us",
	"Zoë":              "eu",
	"客户":               "eu",
	"user@example.com": "eu",
}

func TestHomeOfACustomerNeverChanges(t *testing.T) {
	for customer, home := range homes {
		for _, topology := range []cluster.Topology{
			{Number: 1, Shards: []string{"eu", "us"}},
			{Number: 7, Shards: []string{"us", "eu"}},
		} {
			if got := topology.Home(customer); got != home {
				t.Errorf("topology %v: home of %q is %s, was %s", topology, customer, got, home)
			}
		}
	}
}

// A shard that gets more than its part fills up and slows down first.
func TestCustomersAreSpreadEvenly(t *testing.T) {
	const customers = 20_000
	for n := 2; n <= 8; n++ {
		topology := cluster.Topology{Number: 1}
		for i := range n {
			topology.Shards = append(topology.Shards, fmt.Sprintf("shard-%d", i))
		}
		count := map[string]int{}
		for i := range customers {
			count[topology.Home(fmt.Sprintf("customer-%d", i))]++
		}
		for _, shard := range topology.Shards {
			if even := customers / n; count[shard] < even*93/100 || count[shard] > even*107/100 {
				t.Errorf("%d shards: %s has %d customers, even would be %d", n, shard, count[shard], even)
			}
		}
	}
}

// rank orders names for a key, the best first.
func rank(key string, names []string) (ranked []string) {
	for {
		first, ok := cluster.First(key, names, func(name string) bool { return !slices.Contains(ranked, name) })
		if !ok {
			return ranked
		}
		ranked = append(ranked, first)
	}
}

// When a worker goes, each of its products starts a new tenure; those of the
// others must not notice.
func TestRankingMovesOnlyWhatItMust(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z0-9.-]{1,12}`), 2, 12, rapid.ID).Draw(t, "names")
		gone := rapid.IntRange(0, len(names)-1).Draw(t, "gone")
		key := rapid.String().Draw(t, "key")

		ranked := rank(key, names)
		if sorted := slices.Sorted(slices.Values(ranked)); !slices.Equal(sorted, slices.Sorted(slices.Values(names))) {
			t.Fatalf("%q of %q: ranked %q", key, names, ranked)
		}
		if again := rank(key, rapid.Permutation(names).Draw(t, "permuted")); !slices.Equal(again, ranked) {
			t.Fatalf("the order of the names counts: %q, %q", ranked, again)
		}
		rest := slices.Delete(slices.Clone(names), gone, gone+1)
		want := slices.DeleteFunc(slices.Clone(ranked), func(name string) bool { return name == names[gone] })
		if got := rank(key, rest); !slices.Equal(got, want) {
			t.Fatalf("without %q the order is %q, want %q", names[gone], got, want)
		}
	})
}

// It is asked for every purchase.
func TestRankingAllocatesNothing(t *testing.T) {
	names, key := []string{"worker-1", "worker-2", "worker-3"}, strings.Repeat("k", 128)
	topology := cluster.Topology{Shards: []string{"eu", "us"}}
	allocated := testing.AllocsPerRun(100, func() {
		if _, ok := cluster.First(key, names, func(string) bool { return true }); !ok || topology.Home(key) == "" {
			t.Error("nothing was found")
		}
	})
	if allocated != 0 {
		t.Errorf("%v allocations", allocated)
	}
}

// A request id is unique within a region: a customer whose region changed under
// him could buy twice by repeating a call.
func TestCustomersStayWhereTheyAreWhenAShardIsAdded(t *testing.T) {
	before := cluster.Topology{Number: 1, Shards: []string{"eu", "us"}}
	after, err := before.Added("asia")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := after.Added("africa"); err != nil {
		t.Fatal(err)
	} else {
		after = again
	}
	if after.Number != 3 || !after.Sells("asia") || !after.Sells("africa") {
		t.Fatalf("added: %+v", after)
	}
	for i := range 1000 {
		customer := fmt.Sprint("customer-", i)
		if before.Home(customer) != after.Home(customer) {
			t.Fatalf("%s moves from %s to %s", customer, before.Home(customer), after.Home(customer))
		}
	}
	if _, err := after.Added("eu"); err == nil {
		t.Error("a shard was added twice")
	}
	if len(before.Shards) != 2 {
		t.Error("the old topology was changed")
	}
}

// Closing a region moves its customers and nobody else.
func TestOnlyCustomersOfADrainedShardMove(t *testing.T) {
	before := cluster.Topology{Number: 1, Shards: []string{"eu", "us", "asia"}}
	after, err := before.Drained("us")
	if err != nil {
		t.Fatal(err)
	}
	if !after.Has("us") || after.Sells("us") || after.Number != 2 {
		t.Fatalf("drained: %+v", after)
	}
	for i := range 1000 {
		customer := fmt.Sprint("customer-", i)
		was, is := before.Home(customer), after.Home(customer)
		if is == "us" || was != "us" && was != is {
			t.Fatalf("%s moves from %s to %s", customer, was, is)
		}
	}
	for _, shard := range []string{"us", "mars"} {
		if _, err := after.Drained(shard); err == nil {
			t.Errorf("%s was drained", shard)
		}
	}
	last, err := after.Drained("eu")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := last.Drained("asia"); err == nil {
		t.Error("the last shard was drained")
	}
}
