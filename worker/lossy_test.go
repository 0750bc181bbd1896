package worker

import (
	"bytes"
	"net"
	"net/url"
	"sync"
	"testing"
)

// lossy stands between a worker and a shard, and loses what the test wants lost.
type lossy struct {
	listener net.Listener
	target   string
	lost     chan struct{} // has an item when a batch was lost to its end

	mu    sync.Mutex
	lose  direction
	conns []net.Conn
	wg    sync.WaitGroup
}

type direction int

const (
	nothing direction = iota
	requests
	replies
)

// newLossy returns it, and the DSN to reach the shard through it.
func newLossy(t *testing.T, dsn string) (*lossy, string) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	p := &lossy{listener: listen(t), target: u.Host, lost: make(chan struct{}, 1)}
	u.Host = p.listener.Addr().String()
	p.wg.Go(p.accept)
	t.Cleanup(func() { _ = p.listener.Close(); p.cut(); p.wg.Wait() })
	return p, u.String()
}

func (p *lossy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			return
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		p.wg.Go(func() { p.carry(server, client, requests) })
		p.wg.Go(func() { p.carry(client, server, replies) })
	}
}

// copyDone is the last message of a batch: without it nothing of the batch is done, and
// the worker knows that.
var copyDone = []byte("c\x00\x00\x00\x04")

func (p *lossy) carry(to, from net.Conn, way direction) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 && p.loses(way) {
			if bytes.HasSuffix(buffer[:n], copyDone) {
				poke(p.lost)
			}
			continue
		}
		if _, werr := to.Write(buffer[:n]); err != nil || werr != nil {
			return
		}
	}
}

func (p *lossy) loses(way direction) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lose == way
}

// start loses everything that goes one way, from now on.
func (p *lossy) start(way direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = way
}

// cut ends all connections, and loses nothing from then on.
func (p *lossy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lose = nothing
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}
