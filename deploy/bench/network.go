package bench

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/holdfast-io/holdfast/deploy/local"
)

// network puts distance between the databases and whoever uses them: a proxy on
// the way of each worker, and of the usual strategies, to each shard.
type network struct {
	server *toxiproxy.ApiServer // only a parent of proxies: its API is never served

	mu      sync.Mutex
	proxies []*toxiproxy.Proxy
}

func newNetwork() *network {
	metrics := toxiproxy.NewMetricsContainer(prometheus.NewRegistry())
	return &network{server: toxiproxy.NewServer(metrics, zerolog.Nop())}
}

// route is the Network of a stack. Only the ways to databases have a proxy: etcd
// and the processes of holdfast stand together.
func (n *network) route(from, to, address string) (string, error) {
	databases := !strings.HasPrefix(to, "etcd") && !strings.HasPrefix(to, "worker-")
	if !strings.HasPrefix(from, "worker-") && from != "buyers" || !databases {
		return address, nil
	}
	port, err := local.FreePort()
	if err != nil {
		return "", err
	}
	name := from + " → " + to
	p := toxiproxy.NewProxy(n.server, name, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), address)
	if err := p.Start(); err != nil {
		return "", fmt.Errorf("proxy %s: %w", name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.proxies = append(n.proxies, p)
	return p.Listen, nil
}

// farDSNs are the DSNs of a stack for strategies that are as far from it as its
// workers, and sets how far that is: the time of a round trip.
func (n *network) farDSNs(stack *local.Stack, roundTrip time.Duration) (map[string]string, error) {
	dsns := map[string]string{}
	for shard, dsn := range stack.DSNs() {
		u, err := url.Parse(dsn)
		if err != nil {
			return nil, err
		}
		if u.Host, err = n.route("buyers", shard, u.Host); err != nil {
			return nil, err
		}
		dsns[shard] = u.String()
	}
	return dsns, n.delay(roundTrip)
}

// delay holds up every reply: toxiproxy delays whole buffers, so that one
// direction is enough, and costs least.
func (n *network) delay(roundTrip time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	config := fmt.Sprintf(`{"type": "latency", "stream": "downstream", "attributes": {"latency": %d}}`, roundTrip.Milliseconds())
	for _, p := range n.proxies {
		if _, err := p.Toxics.AddToxicJson(strings.NewReader(config)); err != nil {
			return fmt.Errorf("proxy %s: %w", p.Name, err)
		}
	}
	return nil
}

func (n *network) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range slices.Backward(n.proxies) {
		p.Stop()
	}
}
