//go:build linux

// Command delay puts a distance between pods of different regions, on nodes whose kernel has no netem.
// It runs on each node, as root in the node's network namespace, until SIGTERM or SIGINT:
//
//	delay --pods FILE --node NAME --round-trip 40ms
//
// FILE has a line for each pod of the cluster, "region address node namespace/name", and is read again
// every second: whoever makes a pod writes the file anew, by a rename.
//
// A packet that a pod of this node sends to a pod of another region is routed to a TUN device, waits
// here for half of the round trip, in order, and is given back to the kernel, which forwards it as it
// would have done. So a packet waits once, on the node of its sender, and its answer on the other one.
// What is to be routed there:
//
//   - Packets are marked when the addresses of Services have become those of pods, and a routing table
//     of its own is for that mark. No conntrack for packets that come back: they have an entry.
//   - Pods of one bridge reach each other by its ports, not by routes. So the bridge takes the frames
//     between two regions for its own (--bridge); networks that route between all pods need nothing.
//
// It needs ip (iproute2) and nft, and takes back all that it sets, even what one before it left that was
// killed. Packets that wait when it ends are lost. Not delayed: IPv6, pods in the network of their
// node, what goes through an address outside of the cluster, and packets from nodes to pods, as those
// of the kubelet's probes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// longest is how long a signal may wait until the loop of packets has seen it.
const longest = 100 * time.Millisecond

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "delay:", err)
		os.Exit(1) //nolint:gocritic // the signals need not be let go of by a process that ends
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("delay", flag.ContinueOnError)
	pods := flags.String("pods", os.Getenv("PODS_OF_REGIONS"), "the file of the pods (PODS_OF_REGIONS)")
	node := flags.String("node", "", "this node's name")
	trip := flags.Duration("round-trip", 40*time.Millisecond, "there and back again between two regions")
	bridge := flags.String("bridge", "cni0", "the bridge of this node's pods, if it has one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *pods == "" || *node == "" {
		return errors.New("--pods and --node are needed")
	}
	tun, err := openTUN()
	if err != nil {
		return err
	}
	defer tun.close()
	rules := &rules{file: *pods, node: *node}
	defer func() { err = errors.Join(err, rules.remove()) }()
	if err := rules.install(*bridge); err != nil {
		return err
	}
	if _, err := rules.refresh(); err != nil {
		return err
	}

	ctx, stop := context.WithCancel(ctx)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		rules.follow(ctx)
	}()
	defer func() { stop(); <-followed }()
	slog.Info("packets between regions wait", "each", *trip/2, "node", *node, "pairs", rules.pairs)
	return forward(ctx, tun, &line{wait: *trip / 2})
}

// forward takes packets off the device and gives them back when they are due, until ctx ends. It is one
// loop, without a lock or a channel: two calls into the kernel for a packet, and one for a batch.
func forward(ctx context.Context, tun *tun, line *line) error {
	runtime.LockOSThread()
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, -20); err != nil { // of this thread: a busy node is no distance
		return fmt.Errorf("raise the priority: %w", err)
	}
	var passed, lost int
	for ctx.Err() == nil {
		if err := tun.await(min(line.next(time.Now()), longest)); err != nil {
			return err
		}
		now := time.Now()
		for range batch {
			packet, err := tun.read()
			if err != nil {
				return err
			}
			if packet == nil {
				break
			}
			if !line.put(now, packet) {
				lost++
			}
		}
		for packet := line.take(now); packet != nil; packet = line.take(now) {
			passed++
			if !tun.write(packet) {
				lost++ // as networks do
			}
		}
	}
	slog.Info("ended", "packets", passed, "lost", lost, "waiting", len(line.held))
	return nil
}
