package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/holdfast-io/holdfast/deploy/local"
)

// network is the proxies between the processes: one for each pair of a caller
// and what it calls, so that each can be cut alone.
type network struct {
	server *toxiproxy.ApiServer // only a parent of proxies: its API is never served

	mu      sync.Mutex
	proxies map[link]*toxiproxy.Proxy
	toxics  int // numbers their names
}

// link is the way from a caller to what it calls, by name.
type link struct{ from, to string }

func (l link) String() string { return l.from + " → " + l.to }

// others is the caller of the address that a worker advertises: coordinators
// and other workers.
const others = "others"

func newNetwork() *network {
	metrics := toxiproxy.NewMetricsContainer(prometheus.NewRegistry())
	return &network{server: toxiproxy.NewServer(metrics, zerolog.Nop()), proxies: map[link]*toxiproxy.Proxy{}}
}

// route is the Network of a stack: a proxy of its own for each link of a worker.
// Coordinators reach etcd without one.
func (n *network) route(from, to, address string) (string, error) {
	if !strings.HasPrefix(from, "worker-") && from != others {
		return address, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.proxies[link{from, to}]; p != nil {
		return p.Listen, p.Update(&toxiproxy.Proxy{Listen: p.Listen, Upstream: address, Enabled: true})
	}
	port, err := local.FreePort()
	if err != nil {
		return "", err
	}
	p := toxiproxy.NewProxy(n.server, link{from, to}.String(), net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), address)
	if err := p.Start(); err != nil {
		return "", fmt.Errorf("proxy %v: %w", link{from, to}, err)
	}
	n.proxies[link{from, to}] = p
	return p.Listen, nil
}

// hangUp closes a link's port and its connections: nobody listens there until
// route opens it again.
func (n *network) hangUp(l link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.proxies[l]; p != nil {
		p.Stop()
	}
}

// Toxics, as toxiproxy wants them described. What they do is done in one
// direction only, which is upstream for requests and downstream for replies.
const (
	swallow = `"type": "timeout", "attributes": {"timeout": 0}`       // bytes vanish and connections stay open; healing closes them
	reset   = `"type": "reset_peer", "attributes": {"timeout": 0}`    // the next bytes vanish and their connection is cut
	hold    = `"type": "latency", "attributes": {"latency": 3600000}` // bytes wait, and arrive when it is healed

	upstream   = "upstream"
	downstream = "downstream"
)

// poison adds a toxic to links and returns how to take it off.
func (n *network) poison(toxic string, directions []string, links ...link) (heal func() error, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var healing []func() error
	heal = func() error {
		for _, h := range healing {
			if err := h(); err != nil {
				return err
			}
		}
		return nil
	}
	for _, l := range links {
		for _, direction := range directions {
			h, err := n.addToxic(toxic, direction, l)
			if err != nil {
				return heal, fmt.Errorf("proxy %v: %w", l, err)
			}
			healing = append(healing, h)
		}
	}
	return heal, nil
}

func (n *network) addToxic(toxic, direction string, l link) (heal func() error, err error) {
	p := n.proxies[l]
	if p == nil {
		return nil, errors.New("there is none")
	}
	n.toxics++
	name := fmt.Sprint("toxic-", n.toxics)
	config := fmt.Sprintf(`{"name": %q, "stream": %q, %s}`, name, direction, toxic)
	_, err = p.Toxics.AddToxicJson(strings.NewReader(config))
	return func() error { return p.Toxics.RemoveToxic(context.Background(), name) }, err
}

func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.proxies {
		p.Toxics.ResetToxics(context.Background())
		p.Stop()
	}
}
