//go:build linux

package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const threePods = `eu 10.244.1.2 node1 eu/worker-0
eu 10.244.2.2 node2 eu/worker-1
us 10.244.1.3 node1 us/worker-0
`

// A packet that waited at both ends would make regions twice as far from each other.
func TestEachPairOfRegionsWaitsOnTheNodeOfItsSender(t *testing.T) {
	pods, err := parsePods(threePods)
	if err != nil {
		t.Fatal(err)
	}
	for node, want := range map[string][]string{
		"node1": {"10.244.1.2 . 10.244.1.3", "10.244.1.3 . 10.244.1.2", "10.244.1.3 . 10.244.2.2"},
		"node2": {"10.244.2.2 . 10.244.1.3"},
		"node3": nil,
	} {
		if got := apart(pods, node); !slices.Equal(got, want) {
			t.Errorf("on %s %q wait, not %q", node, got, want)
		}
	}
}

// A pod that has no address yet must not make a rule of something else.
func TestAFileWithAnythingElseIsRefused(t *testing.T) {
	for _, line := range []string{
		"eu <no value> node1 eu/worker-0\n", "eu  node1 eu/worker-0\n",
		"eu fd00::1 node1 eu/worker-0\n", "eu 10.0.0.1,10.0.0.2 node1 eu/worker-0\n",
	} {
		if pods, err := parsePods(threePods + line); err == nil {
			t.Errorf("%q was taken for %v", line, pods)
		}
	}
}

// When the last pair is gone nothing may remain, and nft knows no empty list.
func TestNoPairsAreAnEmptySet(t *testing.T) {
	if got := elements("ip", nil); strings.Contains(got, "add") || !strings.HasPrefix(got, "flush set ip ") {
		t.Errorf("the change is %q", got)
	}
	if got := elements("bridge", []string{"10.0.0.1 . 10.0.0.2", "10.0.0.2 . 10.0.0.1"}); !strings.HasSuffix(got, "{ 10.0.0.1 . 10.0.0.2, 10.0.0.2 . 10.0.0.1 }\n") {
		t.Errorf("the change is %q", got)
	}
}

// TCP takes packets that overtake each other for lost ones.
func TestPacketsLeaveInOrderAndNoSoonerThanTheyAreDue(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	l := &line{wait: 20 * time.Millisecond}
	if l.next(now) < time.Hour {
		t.Error("an empty line has something due")
	}
	l.put(now, []byte("a"))
	l.put(now, []byte("b"))
	l.put(now.Add(5*time.Millisecond), []byte("c"))
	if early := l.take(now.Add(20*time.Millisecond - 1)); early != nil {
		t.Errorf("%s left too soon", early)
	}
	if next := l.next(now.Add(15 * time.Millisecond)); next != 5*time.Millisecond {
		t.Errorf("the next one is due after %s", next)
	}
	var left []byte
	for at := now; at.Before(now.Add(time.Second)); at = at.Add(20 * time.Millisecond) {
		for packet := l.take(at); packet != nil; packet = l.take(at) {
			left = append(left, packet...)
		}
		left = append(left, '.')
		if len(l.held) == 0 {
			break
		}
	}
	if string(left) != ".ab.c." {
		t.Errorf("they left as %q", left)
	}
	if l.next(now.Add(time.Minute)) < time.Hour {
		t.Error("an empty line has something due")
	}
}

// A flood may cost packets, as it does everywhere, but not the node's memory.
func TestAFullLineTakesNoMore(t *testing.T) {
	now := time.Now()
	l := &line{wait: time.Second}
	for range room {
		if !l.put(now, []byte{1}) {
			t.Fatal("it was full too soon")
		}
	}
	if l.put(now, []byte{1}) {
		t.Error("it took more than it has room for")
	}
	if l.take(now.Add(time.Second)) == nil || !l.put(now, []byte{1}) {
		t.Error("it takes none, though there is room")
	}
}
