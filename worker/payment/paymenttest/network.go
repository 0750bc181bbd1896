package paymenttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
)

// ErrLost is what a client gets for a request that the network broke.
var ErrLost = errors.New("connection is lost")

// Fault is what a network does to one request.
type Fault int

// The faults. Each one looks the same to whoever sent the request.
const (
	NoFault Fault = iota
	// RequestLost: the server never gets it.
	RequestLost
	// ReplyLost: the server has done it.
	ReplyLost
	// RequestLate: the server gets it when the test calls Deliver.
	RequestLate
)

func (f Fault) String() string {
	return [...]string{"no fault", "request lost", "reply lost", "request late"}[f]
}

// Faults are those that break something.
var Faults = []Fault{RequestLost, ReplyLost, RequestLate}

// Network is an http.RoundTripper that breaks the request that it is told to.
type Network struct {
	transport *http.Transport

	mu    sync.Mutex
	fault Fault
	left  int // how many requests pass before the one that breaks
	late  []*http.Request
}

// NewNetwork is a network in order. It ends with the test.
func NewNetwork(t *testing.T) *Network {
	n := &Network{transport: http.DefaultTransport.(*http.Transport).Clone()}
	t.Cleanup(n.transport.CloseIdleConnections)
	return n
}

// Break breaks the nth request from now, from 1, and no other one.
func (n *Network) Break(fault Fault, nth int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault, n.left = fault, nth-1
}

// Mend breaks nothing from now on, and tells whether anything was broken since Break.
func (n *Network) Mend() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	broke := n.fault == NoFault
	n.fault = NoFault
	return broke
}

// RoundTrip sends a request, or breaks it.
func (n *Network) RoundTrip(r *http.Request) (*http.Response, error) {
	switch n.next() {
	case RequestLost:
		return nil, ErrLost
	case ReplyLost:
		if err := n.deliver(r); err != nil {
			return nil, err
		}
		return nil, ErrLost
	case RequestLate:
		if err := n.keep(r); err != nil {
			return nil, err
		}
		return nil, ErrLost
	default:
		return n.transport.RoundTrip(r)
	}
}

// Deliver lets the late requests arrive, in order. Nobody reads the replies.
func (n *Network) Deliver(t interface {
	Helper()
	Fatal(...any)
}) {
	t.Helper()
	n.mu.Lock()
	late := n.late
	n.late = nil
	n.mu.Unlock()
	for _, r := range late {
		if err := n.deliver(r); err != nil {
			t.Fatal(err)
		}
	}
}

func (n *Network) next() Fault {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fault == NoFault {
		return NoFault
	}
	if n.left > 0 {
		n.left--
		return NoFault
	}
	fault := n.fault
	n.fault = NoFault
	return fault
}

func (n *Network) deliver(r *http.Request) error {
	response, err := n.transport.RoundTrip(r)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, response.Body)
	return response.Body.Close()
}

// keep copies a request, which must not be used after RoundTrip has returned.
func (n *Network) keep(r *http.Request) error {
	late := r.Clone(context.WithoutCancel(r.Context()))
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		_ = r.Body.Close()
		late.Body = io.NopCloser(bytes.NewReader(body))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.late = append(n.late, late)
	return nil
}
