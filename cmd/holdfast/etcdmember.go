package main

import (
	"context"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/deploy/local"
)

// newEtcdMember runs one member of the local stack's etcd as a process of its
// own, so that it can be killed.
func newEtcdMember() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "etcd-member",
		Short:  "Run one member of a local etcd cluster",
		Hidden: true,
		Args:   noArguments,
	}
	flags := cmd.Flags()
	name := flags.String("name", "", "name of the member")
	dir := flags.String("dir", "", "data folder")
	clientPort := flags.Int("client-port", 0, "port for clients")
	peerPort := flags.Int("peer-port", 0, "port for members")
	members := flags.String("cluster", "", "all members, as name=url,…")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
		defer cancel()
		signals := make(chan os.Signal, 2) // from the start: without this they would kill
		signal.Notify(signals, local.StallDisk, local.ResumeDisk)
		defer signal.Stop(signals)
		etcd, err := local.StartEtcd(ctx, local.EtcdConfig{
			Dir: *dir, ClientPort: *clientPort,
			Member: &local.EtcdMember{Name: *name, PeerPort: *peerPort, Cluster: *members},
		})
		if err != nil {
			return err
		}
		defer etcd.Stop()
		stallOnSignal(cmd.Context(), etcd, signals)
		return nil
	}
	return cmd
}

// stallOnSignal lets the disk of a member stall and go on, until ctx ends.
func stallOnSignal(ctx context.Context, etcd *local.Etcd, signals <-chan os.Signal) {
	stalled := false
	for ctx.Err() == nil {
		stall := false
		select {
		case <-ctx.Done():
		case s := <-signals:
			stall = s == local.StallDisk
		}
		switch {
		case stall && !stalled:
			etcd.StallDisk()
		case !stall && stalled:
			etcd.ResumeDisk() // also at the end: a stalled server cannot stop
		}
		stalled = stall
	}
}
