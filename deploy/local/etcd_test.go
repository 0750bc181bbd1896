package local

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// A stack that is stopped overnight must find its locks and revisions again:
// fencing tokens are revisions, and one that is given out twice oversells.
func TestEtcdKeepsDataAndRevision(t *testing.T) {
	dir := t.TempDir()
	first := startTestEtcd(t, EtcdConfig{Dir: dir})
	put, err := etcdClient(t, first).Put(deadline(t), "key", "value")
	if err != nil {
		t.Fatal(err)
	}
	first.Stop()

	second := startTestEtcd(t, EtcdConfig{Dir: dir, ClientPort: first.port})
	if second.Endpoint() != first.Endpoint() {
		t.Errorf("started again on %s, want %s", second.Endpoint(), first.Endpoint())
	}
	got, err := etcdClient(t, second).Get(deadline(t), "key")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "value" {
		t.Errorf("after the restart: %v", got.Kvs)
	}
	if got.Header.Revision < put.Header.Revision {
		t.Errorf("revision went back from %d to %d", put.Header.Revision, got.Header.Revision)
	}
}

// Every worker keeps a watch and a lease stream open; etcd by itself would wait
// five seconds for each server that stops under them.
func TestEtcdStopsUnderOpenStreams(t *testing.T) {
	etcd := startTestEtcd(t, EtcdConfig{Dir: t.TempDir()})
	client := etcdClient(t, etcd)
	watch := client.Watch(deadline(t), "key", clientv3.WithCreatedNotify())
	<-watch
	lease, err := client.Grant(deadline(t), 60)
	if err != nil {
		t.Fatal(err)
	}
	alive, err := client.KeepAlive(deadline(t), lease.ID)
	if err != nil {
		t.Fatal(err)
	}
	<-alive

	begin := time.Now()
	etcd.Stop()
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("stop took %v", took)
	}
	etcd.Stop() // does nothing
}

func TestEtcdSaysThatItsPortIsTaken(t *testing.T) {
	port := takenPort(t)
	_, err := StartEtcd(deadline(t), EtcdConfig{Dir: t.TempDir(), ClientPort: port})
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("started on a taken port: %v", err)
	}
}

func TestEtcdStartEndsWithItsContext(t *testing.T) {
	cause := errors.New("no time left")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := StartEtcd(ctx, EtcdConfig{Dir: t.TempDir()}); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
}

func TestEtcdWantsAFolder(t *testing.T) {
	if _, err := StartEtcd(deadline(t), EtcdConfig{}); err == nil {
		t.Error("started without a folder")
	}
}

func startTestEtcd(t *testing.T, cfg EtcdConfig) *Etcd {
	t.Helper()
	begin := time.Now()
	etcd, err := StartEtcd(deadline(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Stop)
	t.Logf("etcd started in %v", time.Since(begin))
	return etcd
}

func etcdClient(t *testing.T, etcd *Etcd) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// takenPort takes a port and, like something that is not a server we know, accepts
// connections without ever answering.
func takenPort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().(*net.TCPAddr).Port
}
