package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/holdfast-io/holdfast/api/client"
	"github.com/holdfast-io/holdfast/api/cluster"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// Flags that several commands share; each function adds them and returns how to
// read them.

func etcdFlags(flags *pflag.FlagSet) *etcdSettings {
	s := &etcdSettings{security: etcdSecurityFlags(flags)}
	flags.StringSliceVar(&s.endpoints, "etcd", []string{"127.0.0.1:2379"}, "etcd endpoints")
	flags.StringVar(&s.prefix, "prefix", "/holdfast/", "prefix of the cluster's keys in etcd")
	return s
}

// etcdSettings say how etcd is reached.
type etcdSettings struct {
	endpoints []string
	prefix    string
	security  *etcdSecurity
}

func (s *etcdSettings) directory() (cluster.Directory, error) {
	creds, password, err := s.security.open(s.endpoints)
	if err != nil {
		return cluster.Directory{}, err
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: s.endpoints, Logger: zap.NewNop(), DialTimeout: 5 * time.Second,
		Username: s.security.user, Password: password,
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(creds)}, // which can be replaced, unlike Config.TLS
		// A connection that died without a word is noticed within the default
		// TTL of a lock, and renewals go to another member. gRPC takes no less.
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
	})
	if err != nil {
		return cluster.Directory{}, usageError("--etcd: %w", err)
	}
	return cluster.Directory{Client: client, Prefix: strings.TrimSuffix(s.prefix, "/") + "/"}, nil
}

// etcdError says which etcd did not answer, and what to do about it.
func etcdError(d cluster.Directory, err error) error {
	return &exitError{exitUnavailable, fmt.Errorf(
		"etcd at %s: %w\nIs it running? `holdfast dev` starts one; --etcd or HOLDFAST_ETCD names another",
		strings.Join(d.Client.Endpoints(), ","), err)}
}

func shardFlags(flags *pflag.FlagSet) func() (map[string]string, error) {
	shards := flags.StringArray("shard", nil, "name=DSN of a shard; repeat for each (HOLDFAST_SHARD_<NAME>=DSN keeps a password out of ps)")
	insecureFlag(flags)
	return func() (map[string]string, error) {
		dsns := map[string]string{}
		for _, s := range *shards {
			name, dsn, ok := strings.Cut(s, "=")
			if !ok || name == "" || dsn == "" || strings.ContainsAny(name, ":@/ ") {
				return nil, usageError("--shard: want name=DSN") // what was given may hold a password
			}
			dsns[name] = dsn
		}
		return dsns, nil
	}
}

// openShards opens the shards by name. Close them with the function returned.
func openShards(dsns map[string]string, clusterID uuid.UUID, insecure bool) (shards []*ledger.Shard, closeAll func(), err error) {
	if len(dsns) == 0 {
		return nil, nil, usageError("no shards: give --shard name=DSN for each, or set HOLDFAST_SHARD_<NAME>; `holdfast dev` does it for you")
	}
	closeAll = func() {
		for _, s := range shards {
			s.Close()
		}
	}
	for _, name := range slices.Sorted(maps.Keys(dsns)) {
		s, err := ledger.Open(ledger.Config{Name: name, DSN: dsns[name], ClusterID: clusterID, VerifyTLS: !insecure})
		if err != nil {
			closeAll()
			return nil, nil, usageError("%w", err)
		}
		shards = append(shards, s)
	}
	return shards, closeAll, nil
}

// coordinatorFlags returns how to call a coordinator: with a client that is closed when the
// call returns.
func coordinatorFlags(flags *pflag.FlagSet) (connected func(call func(*client.Client) error) error) {
	addresses := flags.StringSlice("coordinator", []string{"127.0.0.1:7070"}, "gRPC addresses of coordinators; the next is asked when one does not answer")
	timeout := flags.Duration("timeout", 10*time.Second, "repeat each call for this long while nobody answers")
	security := clientSecurityFlags(flags)
	return func(call func(*client.Client) error) error {
		if *timeout <= 0 {
			return usageError("--timeout: want more than 0, got %v", *timeout)
		}
		creds, token, err := security()
		if err != nil {
			return err
		}
		c, err := client.New(*addresses, client.Config{Credentials: creds, Token: token, Timeout: *timeout})
		if err != nil {
			return usageError("--coordinator: %w", err)
		}
		defer func() { _ = c.Close() }()
		return callError(call(c))
	}
}

func logFlags(flags *pflag.FlagSet) func() hclog.Logger {
	level := flags.String("log-level", "info", "trace, debug, info, warn or error")
	asJSON := flags.Bool("log-json", false, "log JSON lines")
	return func() hclog.Logger {
		return hclog.New(&hclog.LoggerOptions{
			Name: "holdfast", Level: hclog.LevelFromString(*level), JSONFormat: *asJSON, Output: os.Stderr,
		})
	}
}

func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, usageError("--%s: %w", flag, err)
	}
	return l, nil
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError("%s takes no arguments, got %q", cmd.CommandPath(), args)
	}
	return nil
}

func arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usageError("%s takes %s; see --help", cmd.CommandPath(), strings.Join(names, " and "))
		}
		return nil
	}
}
