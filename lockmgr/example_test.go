package lockmgr_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/holdfast-io/holdfast/deploy/local"
	"github.com/holdfast-io/holdfast/lockmgr"
)

func Example() {
	client, stop := connectToEtcd()

	locks, err := lockmgr.New(lockmgr.Config{Client: client, Prefix: "/locks", Owner: "host-1:7000"})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error)
	go func() { stopped <- locks.Run(ctx) }()

	lock, err := locks.Acquire(ctx, "ledger/1")
	if err != nil {
		log.Fatal(err)
	}
	// Store lock.Token() with the work. The storage must refuse smaller tokens: the
	// lock cannot stop a process that is paused, and then goes on.
	fmt.Printf("own %s, sure of it: %v\n", lock.Name(), lock.Context().Err() == nil)

	_, err = locks.TryAcquire(ctx, "ledger/1")
	if held := new(lockmgr.HeldError); errors.As(err, &held) {
		fmt.Println("held by", held.Holder.Owner)
	}

	if err := lock.Release(ctx); err != nil {
		log.Print(err) // the work is done all the same
	}
	fmt.Println(context.Cause(lock.Context()))

	cancel()
	fmt.Println("stopped:", <-stopped)
	stop()
	// Output:
	// own ledger/1, sure of it: true
	// held by host-1:7000
	// lock was released
	// stopped: <nil>
}

func connectToEtcd() (client *clientv3.Client, stop func()) {
	dir, err := os.MkdirTemp("", "lockmgr-example-*")
	if err != nil {
		log.Fatal(err)
	}
	etcd, err := local.StartEtcd(context.Background(), local.EtcdConfig{Dir: dir})
	if err != nil {
		log.Fatal(err)
	}
	client, err = clientv3.New(clientv3.Config{Endpoints: []string{etcd.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		log.Fatal(err)
	}
	return client, func() {
		_ = client.Close()
		etcd.Stop()
		_ = os.RemoveAll(dir)
	}
}
