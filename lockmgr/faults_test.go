package lockmgr_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// connect returns a client of its own, closed at the end of the test.
func connect(t testing.TB, endpoint string, opts ...grpc.DialOption) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{endpoint},
		DialOptions: opts,
		Logger:      zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// errLostMessage is not of a kind that the client repeats by itself.
var errLostMessage = status.Error(codes.Internal, "message lost")

// direction says which message of a call is lost.
type direction string

const (
	request direction = "request lost" // nothing happened
	reply   direction = "reply lost"   // it happened, and nobody knows
)

// wire is what a client is connected with. It loses one message.
type wire struct {
	mu     sync.Mutex
	match  func(req any) bool // nil once the message was lost
	lost   direction
	before func() // is called right before the message is lost
	counts []*count
}

type count struct {
	match func(req any) bool
	n     int
}

// count returns how many requests that match have been sent since.
func (w *wire) count(match func(req any) bool) func() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &count{match: match}
	w.counts = append(w.counts, c)
	return func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return c.n
	}
}

func (w *wire) tally(req any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.counts {
		if c.match(req) {
			c.n++
		}
	}
}

// lose makes the wire lose the next message that matches.
func (w *wire) lose(lost direction, match func(req any) bool, before func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost, w.match, w.before = lost, match, before
}

func (w *wire) option() grpc.DialOption { return grpc.WithChainUnaryInterceptor(w.intercept) }

func (w *wire) intercept(ctx context.Context, method string, req, answer any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	w.tally(req)
	if w.loses(request, req) {
		return errLostMessage
	}
	err := invoker(ctx, method, req, answer, cc, opts...)
	if err == nil && w.loses(reply, req) {
		return errLostMessage
	}
	return err
}

func (w *wire) loses(d direction, req any) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.match == nil || w.lost != d || !w.match(req) {
		return false
	}
	w.match = nil
	if w.before != nil {
		w.before()
	}
	return true
}

// proxy is a connection to etcd that can be cut and frozen.
type proxy struct {
	listener net.Listener
	target   string
	gate     sync.RWMutex // held for writing while frozen
	wg       sync.WaitGroup

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

func newProxy(t testing.TB, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target, conns: make(map[net.Conn]bool)}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		p.Cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) Endpoint() string { return p.listener.Addr().String() }

// Cut ends all connections and refuses new ones until Restore.
func (p *proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	for conn := range p.conns {
		_ = conn.Close()
	}
}

func (p *proxy) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

// Freeze holds back all bytes until Thaw, and tells nobody.
func (p *proxy) Freeze() { p.gate.Lock() }
func (p *proxy) Thaw()   { p.gate.Unlock() }

func (p *proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = conn.Close()
			continue
		}
		if p.keep(conn, server) {
			p.wg.Go(func() { p.copy(server, conn) })
			p.wg.Go(func() { p.copy(conn, server) })
		}
	}
}

// keep remembers connections to be cut, or refuses them.
func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		if p.cut {
			_ = conn.Close()
		} else {
			p.conns[conn] = true
		}
	}
	return !p.cut
}

func (p *proxy) copy(dst, src net.Conn) {
	defer func() { _ = dst.Close() }()
	defer func() { _ = src.Close() }()
	_, _ = io.Copy(gated{dst, &p.gate}, src)
}

type gated struct {
	io.Writer
	gate *sync.RWMutex
}

func (g gated) Write(b []byte) (int, error) {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.Writer.Write(b)
}
