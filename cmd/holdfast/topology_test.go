package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// An operator opens a region, closes one, and repairs an etcd that lost its data:
// another prefix is an etcd that knows nothing.
func TestTopologyCommands(t *testing.T) {
	_, prefix := localtest.Etcd(t)
	dsns := localtest.Databases(t, "eu", "us", "asia")
	connection := func(prefix string, shards ...string) (args []string) {
		args = []string{"--insecure", "--etcd", localtest.EtcdEndpoint(t), "--prefix", prefix}
		for _, s := range shards {
			args = append(args, "--shard", s+"="+dsns[s])
		}
		return args
	}
	two, three := connection(prefix, "eu", "us"), connection(prefix, "eu", "us", "asia")
	wiped := connection("/wiped"+prefix, "eu", "us", "asia")
	for _, step := range []struct {
		args []string
		with []string
		code int
		want string
	}{
		{[]string{"topology", "show"}, two, exitFailed, "holdfast migrate"},
		{[]string{"migrate"}, two, 0, "topology 1: [eu us]"},
		{[]string{"topology", "show"}, two, 0, "topology 1"},
		{[]string{"topology", "show"}, connection(prefix, "eu"), exitUsage, "--shard us=DSN"},
		{[]string{"topology", "add", "asia"}, two, exitUsage, "--shard asia=DSN"},
		{[]string{"topology", "add", "Asia!"}, three, exitUsage, "shard name"},
		{[]string{"topology", "add", "asia"}, three, 0, "topology 2"},
		{[]string{"topology", "add", "asia"}, three, exitUsage, "given twice"},
		{[]string{"migrate"}, three, 0, "topology 2: [eu us asia]"},
		{[]string{"topology", "drain", "us"}, three, 0, "drains"},
		{[]string{"topology", "drain", "us"}, three, exitUsage, "drains already"},
		{[]string{"topology", "drain", "mars"}, three, exitUsage, `no shard "mars"`},
		{[]string{"migrate"}, wiped, exitFailed, "holdfast topology repair"},
		{[]string{"topology", "repair"}, wiped, 0, "topology 4"},
		{[]string{"topology", "repair"}, wiped, 0, "topology 5"},
	} {
		stdout, stderr, code := holdfast(t, nil, append(step.args, step.with...)...)
		if code != step.code || !strings.Contains(stdout+stderr, step.want) {
			t.Fatalf("holdfast %s: exit %d, want %d with %q in:\n%s%s",
				strings.Join(step.args, " "), code, step.code, step.want, stdout, stderr)
		}
	}
	stdout, _, _ := holdfast(t, nil, append([]string{"topology", "show", "--json"}, wiped...)...)
	var repaired struct {
		Number                  int64
		Shards, Homes, Draining []string
	}
	if err := json.Unmarshal([]byte(stdout), &repaired); err != nil {
		t.Fatal(err)
	}
	if repaired.Number != 5 || strings.Join(repaired.Shards, " ") != "eu us asia" ||
		strings.Join(repaired.Homes, " ") != "eu us" || strings.Join(repaired.Draining, " ") != "us" {
		t.Errorf("repaired: %+v", repaired)
	}
}
