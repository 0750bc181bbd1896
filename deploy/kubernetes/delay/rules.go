//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	table = "holdfast-delay" // of nftables
	route = "140"            // the routing table, and the place of its rule
	mark  = "0x800000/0x800000"
	// address is of nobody (RFC 7600): a device without one gets no packets from sources behind others.
	address = "192.0.0.8/32"
)

// noTables removes them, whether or not they are there.
const noTables = "table ip " + table + "\ndelete table ip " + table +
	"\ntable bridge " + table + "\ndelete table bridge " + table + "\n"

// routedTable marks what goes to another region, after DNAT (priority dstnat).
const routedTable = `table ip ` + table + ` {
	set apart { type ipv4_addr . ipv4_addr; }
	chain back { type filter hook prerouting priority raw; iifname "` + device + `" notrack; }
	chain away {
		type filter hook prerouting priority dstnat + 10
		iifname != "` + device + `" ip saddr . ip daddr @apart meta mark set meta mark or 0x800000
	}
}
`

// bridgedTable has the bridge, whose address is %s, take frames to another region for its own.
const bridgedTable = `table bridge ` + table + ` {
	set apart { type ipv4_addr . ipv4_addr; }
	chain away {
		type filter hook prerouting priority dstnat
		ether type ip ip saddr . ip daddr @apart ether daddr set %s meta pkttype set host
	}
}
`

// rules are what leads packets to the device. One goroutine uses them at a time.
type rules struct {
	file, node string
	bridged    bool
	pairs      int
	last       []byte // what the file said, whether or not it could be used
}

// install leads no packet to the device yet.
func (r *rules) install(bridge string) error {
	if err := r.remove(); err != nil {
		return err
	}
	tables := routedTable
	if it, err := net.InterfaceByName(bridge); err == nil {
		r.bridged = true
		tables += fmt.Sprintf(bridgedTable, it.HardwareAddr)
	}
	return errors.Join(
		command("", "ip", "address", "add", address, "scope", "link", "dev", device),
		command("", "ip", "link", "set", device, "mtu", "65535", "txqueuelen", "10000", "up"),
		command("", "ip", "route", "add", "default", "dev", device, "table", route),
		command("", "ip", "rule", "add", "priority", route, "fwmark", mark, "lookup", route),
		command(tables, "nft", "-f", "-"))
}

// remove takes everything back that does not go with the device.
func (r *rules) remove() error {
	_ = command("", "ip", "rule", "del", "priority", route, "fwmark", mark) // which may not be there
	return command(noTables, "nft", "-f", "-")
}

// follow refreshes the rules every second, until ctx ends.
func (r *rules) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		switch changed, err := r.refresh(); {
		case err != nil:
			slog.Error("the pods stay as they were", "error", err)
		case changed:
			slog.Info("the pods are others", "pairs", r.pairs)
		}
	}
}

// refresh makes the pairs those of the file, all at once. On an error they are as they were.
func (r *rules) refresh() (changed bool, err error) {
	text, err := os.ReadFile(r.file)
	if err != nil {
		return false, err
	}
	if r.last != nil && bytes.Equal(text, r.last) {
		return false, nil
	}
	r.last = text
	pods, err := parsePods(string(text))
	if err != nil {
		return false, err
	}
	pairs := apart(pods, r.node)
	change := elements("ip", pairs)
	if r.bridged {
		change += elements("bridge", pairs)
	}
	if err := command(change, "nft", "-f", "-"); err != nil {
		return false, err
	}
	r.pairs = len(pairs)
	return true, nil
}

type pod struct {
	region, node string
	address      netip.Addr
}

// parsePods reads lines of "region address node namespace/name".
func parsePods(text string) ([]pod, error) {
	var pods []pod
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) != 4 {
			return nil, fmt.Errorf("not a region, an address, a node and a pod: %q", line)
		}
		address, err := netip.ParseAddr(words[1])
		if err != nil || !address.Is4() {
			return nil, fmt.Errorf("not an IPv4 address: %q", line)
		}
		pods = append(pods, pod{region: words[0], address: address, node: words[2]})
	}
	return pods, nil
}

// apart are the pairs of sender and receiver in different regions whose sender is on the node.
func apart(pods []pod, node string) []string {
	var pairs []string
	for _, from := range pods {
		for _, to := range pods {
			if from.node == node && from.region != to.region {
				pairs = append(pairs, from.address.String()+" . "+to.address.String())
			}
		}
	}
	return pairs
}

// elements is the change of a family's set to just these pairs.
func elements(family string, pairs []string) string {
	set := family + " " + table + " apart"
	change := "flush set " + set + "\n"
	if len(pairs) > 0 {
		change += "add element " + set + " { " + strings.Join(pairs, ", ") + " }\n"
	}
	return change
}

// command runs one that ends by itself, even when the process is to end.
func command(input, name string, args ...string) error {
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.Stdin = strings.NewReader(input)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(said))
	}
	return nil
}
