package main

import (
	"context"
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
		etcd, err := local.StartEtcd(ctx, local.EtcdConfig{
			Dir: *dir, ClientPort: *clientPort,
			Member: &local.EtcdMember{Name: *name, PeerPort: *peerPort, Cluster: *members},
		})
		if err != nil {
			return err
		}
		defer etcd.Stop()
		<-cmd.Context().Done()
		return nil
	}
	return cmd
}
