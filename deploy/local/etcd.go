package local

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
)

const (
	// A member alone needs no time for others to answer: with this tick it has
	// elected itself within 0.1 s. It also makes 1 s the shortest lease that
	// etcd grants (one and a half elections, rounded up to a second).
	etcdTickMs     = 10
	etcdElectionMs = 100

	// etcdQuota in bytes: etcd refuses writes when its file has grown to this.
	etcdQuota = 1 << 30

	// etcdRetention is the age after which old revisions are compacted away, so
	// that a run of many hours does not reach the quota.
	etcdRetention = "5m"

	etcdName = "local" // of a member that is alone

	// Members that share a machine under load need more time than that to hear
	// of each other.
	etcdClusterTickMs     = 50
	etcdClusterElectionMs = 500
)

// EtcdConfig says where StartEtcd keeps its data and listens.
type EtcdConfig struct {
	Dir        string       // required; made when missing, reused when it holds data
	ClientPort int          // 0 is a free port
	Member     *EtcdMember  // nil: a cluster of its own
	Logger     hclog.Logger // what this package does with the server; nil drops it
}

// EtcdMember says which member of a cluster of several a server is.
type EtcdMember struct {
	Name     string
	PeerPort int
	Cluster  string // all members, as in etcd's --initial-cluster
}

// Etcd is one etcd server in this process. Its own log is etcd.log in Dir.
type Etcd struct {
	port   int
	logger hclog.Logger
	server *embed.Etcd
	log    *os.File
	stop   sync.Once

	mu   sync.Mutex
	grpc []*grpc.Server // of the server, to close its connections
}

// StartEtcd starts an etcd server on 127.0.0.1 and returns when it has elected
// itself and serves, or with the cause of ctx. The context bounds only the
// start. The caller must Stop the server.
func StartEtcd(ctx context.Context, cfg EtcdConfig) (*Etcd, error) {
	if cfg.Dir == "" {
		return nil, errors.New("start etcd: no folder")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	wantedPeer := 0
	if cfg.Member != nil {
		wantedPeer = cfg.Member.PeerPort
	}
	etcd, err := onPort(cfg.ClientPort, func(clientPort int) (*Etcd, error) {
		return onPort(wantedPeer, func(peerPort int) (*Etcd, error) {
			return startEtcd(ctx, cfg, clientPort, peerPort)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("start etcd in %s: %w", cfg.Dir, err)
	}
	etcd.logger.Debug("etcd started", "endpoint", etcd.Endpoint(), "dir", cfg.Dir)
	return etcd, nil
}

func startEtcd(ctx context.Context, cfg EtcdConfig, clientPort, peerPort int) (*Etcd, error) {
	log, err := os.OpenFile(filepath.Join(cfg.Dir, "etcd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	e := &Etcd{port: clientPort, logger: orNull(cfg.Logger), log: log}
	if e.server, err = embed.StartEtcd(e.embedConfig(cfg, peerPort)); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	select {
	case <-e.server.Server.ReadyNotify():
		return e, nil
	case err = <-e.server.Err():
	case <-e.server.Server.StopNotify():
		err = errors.New("server stopped, see etcd.log")
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	e.Stop()
	return nil, err
}

func (e *Etcd) embedConfig(config EtcdConfig, peerPort int) *embed.Config {
	client, peer := []url.URL{loopbackURL(e.port)}, []url.URL{loopbackURL(peerPort)}
	cfg := embed.NewConfig()
	cfg.Name = etcdName
	cfg.Dir = filepath.Join(config.Dir, "data")
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = client, client
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = peer, peer
	cfg.InitialCluster = cfg.InitialClusterFromName(etcdName)
	cfg.TickMs, cfg.ElectionMs = etcdTickMs, etcdElectionMs
	if member := config.Member; member != nil {
		cfg.Name, cfg.InitialCluster = member.Name, member.Cluster
		cfg.TickMs, cfg.ElectionMs = etcdClusterTickMs, etcdClusterElectionMs
	}
	cfg.QuotaBackendBytes = etcdQuota
	cfg.AutoCompactionMode, cfg.AutoCompactionRetention = embed.CompactorModePeriodic, etcdRetention
	cfg.EnableGRPCGateway = false
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(fileLogger(e.log))
	cfg.ServiceRegister = func(server *grpc.Server) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.grpc = append(e.grpc, server)
	}
	return cfg
}

// fileLogger must never write to stderr, which belongs to the caller's program.
func fileLogger(file *os.File) *zap.Logger {
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	core := zapcore.NewCore(encoder, zapcore.Lock(file), zapcore.InfoLevel)
	return zap.New(core, zap.ErrorOutput(zapcore.AddSync(file)))
}

// Endpoint is the client address, "127.0.0.1:port".
func (e *Etcd) Endpoint() string { return hostPort(e.port) }

// Stop ends the server and returns when it is gone. Clients that are connected
// lose their connection at once. A second Stop does nothing.
func (e *Etcd) Stop() {
	e.stop.Do(func() {
		e.dropConnections()
		e.server.Close()
		_ = e.log.Close() // it is only a log
		e.logger.Debug("etcd stopped", "endpoint", e.Endpoint())
	})
}

// StallDisk lets the server write nothing more to its data, as on a disk that
// does not answer, until ResumeDisk. Its log, its heartbeats and its part in
// elections go on: it looks alive, and applies nothing. Stop would wait for it.
func (e *Etcd) StallDisk() { e.server.Server.Backend().BatchTx().LockOutsideApply() }

// ResumeDisk ends what StallDisk began.
func (e *Etcd) ResumeDisk() { e.server.Server.Backend().BatchTx().Unlock() }

// dropConnections saves the five seconds for which etcd would wait for its
// clients to close their watches and lease streams.
func (e *Etcd) dropConnections() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, server := range e.grpc {
		server.Stop()
	}
}

func loopbackURL(port int) url.URL { return url.URL{Scheme: "http", Host: hostPort(port)} }

func orNull(logger hclog.Logger) hclog.Logger {
	if logger == nil {
		return hclog.NewNullLogger()
	}
	return logger
}
