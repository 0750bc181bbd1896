package lockmgr

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	defaultTTL = 15 * time.Second
	// stopGrace is how long Run tries to give back locks after its context ended.
	stopGrace = 3 * time.Second
)

// Config says where the locks are and who acquires them.
type Config struct {
	// Client talks to etcd. The manager does not close it. Required.
	Client *clientv3.Client
	// Prefix is where the keys of the locks live; they must have it to themselves.
	// Required.
	Prefix string
	// Owner is stored with each lock for rivals to read, such as a name and an
	// address. Required.
	Owner string
	// TTL is how long a lock outlives a dead owner. Whole seconds;
	// etcd may grant more. The default is 15 s.
	TTL time.Duration
	// Alive is asked before each renewal of an owned lock whether the work it
	// guards makes progress, where an idle owner is one that does. While it says
	// no, the lock is not renewed, and it expires unless that changes in time. It
	// must not block. The default is always yes.
	Alive func(name string) bool
	// Logger is told what an operator may want to know. The default is none.
	Logger hclog.Logger
}

func (c Config) check() error {
	switch {
	case c.Client == nil:
		return errors.New("lockmgr: Config.Client is missing")
	case c.Prefix == "":
		return errors.New("lockmgr: Config.Prefix is missing")
	case c.Owner == "":
		return errors.New("lockmgr: Config.Owner is missing")
	case c.TTL != 0 && (c.TTL < time.Second || c.TTL%time.Second != 0):
		return fmt.Errorf("lockmgr: Config.TTL is %v, want whole seconds", c.TTL)
	}
	return nil
}

// Manager acquires locks and keeps them. Run must be running while it is used.
type Manager struct {
	client *clientv3.Client
	keys   keyspace
	owner  string
	ttl    time.Duration
	alive  func(name string) bool
	log    hclog.Logger

	renewer *renewer
	reaper  *reaper
	freer   *freer
	running chan struct{} // closed when Run has begun

	base       context.Context // ends when nothing is done in the background any more
	stop       context.CancelFunc
	background sync.WaitGroup

	mu       sync.Mutex
	begun    bool // Run was called
	draining bool
	leases   map[clientv3.LeaseID]*lease // from the grant until they are revoked
	granting *granting                   // nil when no lease is being granted
	numbered uint64                      // the claims so far
	byName   map[string][]*claim         // those that wait or own
	onEmpty  []chan struct{}             // closed when leases becomes empty
}

// New returns a manager that does nothing until Run is called.
func New(cfg Config) (*Manager, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	m := &Manager{
		client:  cfg.Client,
		keys:    newKeyspace(cfg.Prefix),
		owner:   cfg.Owner,
		ttl:     cmp.Or(cfg.TTL, defaultTTL),
		alive:   cfg.Alive,
		log:     cfg.Logger,
		running: make(chan struct{}),
		leases:  make(map[clientv3.LeaseID]*lease),
		byName:  make(map[string][]*claim),
	}
	if m.alive == nil {
		m.alive = func(string) bool { return true }
	}
	if m.log == nil {
		m.log = hclog.NewNullLogger()
	}
	m.log = m.log.Named("lockmgr")
	m.renewer = newRenewer(pb.NewLeaseClient(m.client.ActiveConnection()), m.checkAlive, m.leaseOver, m.log)
	m.reaper = newReaper(m.client, m.forget, m.log)
	m.freer = newFreer(m.deleteKeys, m.lives)
	m.base, m.stop = context.WithCancel(context.Background())
	return m, nil
}

// Run renews the locks of this manager, and looks out for contention and evictions,
// until ctx ends. Locks that are still held then end with [ErrReleased], and Run tries for a
// few seconds to tell etcd; call Drain before if that must not fail. All goroutines
// of the manager have ended when Run returns. It can be called once.
func (m *Manager) Run(ctx context.Context) error {
	if !m.begin() {
		return errors.New("lockmgr: Run was called twice")
	}
	var wg sync.WaitGroup
	wg.Go(func() { m.renewer.run(ctx) })
	wg.Go(func() { m.watchKeys(ctx) })
	<-ctx.Done()
	wg.Wait()

	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	if err := m.Drain(grace); err != nil {
		m.log.Warn("stopped with locks that etcd still keeps, they expire by themselves", "error", err)
	}
	m.stop()
	m.background.Wait()
	m.freer.close()
	m.reaper.close()
	return nil
}

func (m *Manager) begin() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.begun {
		return false
	}
	m.begun = true
	close(m.running)
	return true
}
