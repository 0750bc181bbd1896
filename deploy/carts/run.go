package carts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/deploy/books"
	"github.com/holdfast-io/holdfast/deploy/local"
	"github.com/holdfast-io/holdfast/deploy/replay"
	"github.com/holdfast-io/holdfast/worker/ledger"
	"github.com/holdfast-io/holdfast/worker/payment/simulated"
)

const (
	startTimeout  = time.Minute
	settleTimeout = 3 * time.Minute

	// hold is how long lines wait for their money. It is what a killed worker can leave
	// behind, so the end of a run waits for it.
	hold = time.Minute
	// providerTimeout is when a worker gives up on an answer of the provider. Late answers
	// come later still.
	providerTimeout = time.Second
)

// Faults is what goes wrong at the provider unless said otherwise: of a hundred payments
// five are declined; of a hundred calls two are answered too late, one of them done, and
// two answers are lost.
func Faults(seed uint64) simulated.Faults {
	return simulated.Faults{
		Seed: seed, Decline: 0.05, TimeoutDone: 0.01, TimeoutUndone: 0.01, LostReply: 0.02, Timeout: 2 * providerTimeout,
	}
}

// Config says what a run is. Fields without a default are required.
type Config struct {
	Stack     local.StackConfig // Binary, Dir and Workers, 2 at least
	Carts     *replay.Carts
	Faults    simulated.Faults
	Customers int           // at once; 32 when zero
	KillEvery time.Duration // 3 s when zero

	// Scarce is of how many products one has four fifths of its demand in storage, as all
	// have in a replay of single lines, and the others all of it; 20 when zero. An order
	// wants all of its lines, so with 1 hardly a large one is ever paid.
	Scarce int

	// Say prints a line, Progress how many carts are done. Calls do not overlap.
	Say      func(format string, args ...any)
	Progress func(done, total int)
}

// Run sells the carts. The error says that the run could not be done to its end, or that
// something was found wrong; the figures are valid in the second case too.
func Run(ctx context.Context, cfg Config) (*Figures, error) {
	cfg.Customers, cfg.KillEvery = cmp.Or(cfg.Customers, 32), cmp.Or(cfg.KillEvery, 3*time.Second)
	cfg.Scarce = cmp.Or(cfg.Scarce, 20)
	till, stopTill, err := openTill(ctx, cfg.Faults)
	if err != nil {
		return nil, err
	}
	defer stopTill()
	cfg.Stack.Shards = []string{"uk", "world"}
	cfg.Stack.WorkerArgs = append(cfg.Stack.WorkerArgs,
		"--payment-simulator", till.url, "--payment-timeout", providerTimeout.String())
	cfg.Stack.CoordinatorArgs = append(cfg.Stack.CoordinatorArgs, "--default-hold", hold.String())
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	stack, err := local.StartStack(starting, cfg.Stack)
	if err != nil {
		return nil, err
	}
	defer stack.Stop()
	s, err := cfg.sell(ctx, stack)
	if err != nil {
		return nil, err
	}
	return cfg.judge(ctx, stack, till, s)
}

// sell lets the customers shop while workers are killed.
func (cfg *Config) sell(ctx context.Context, stack *local.Stack) (*sale, error) {
	conn, err := grpc.NewClient(stack.GRPCAddress, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	s := newSale(cfg, conn, stack.Shards())
	if err := s.stockUp(ctx); err != nil {
		return nil, err
	}
	var killer errgroup.Group
	killing, stop := context.WithCancel(ctx)
	killer.Go(func() error { return cfg.kill(killing, stack, s) })
	began := time.Now()
	s.shop(ctx)
	s.figures.Seconds = time.Since(began).Seconds()
	stop()
	return s, errors.Join(killer.Wait(), context.Cause(ctx))
}

// kill kills one worker after the other, and starts it again a moment later.
func (cfg *Config) kill(ctx context.Context, stack *local.Stack, s *sale) error {
	for i := 0; sleep(ctx, cfg.KillEvery); i++ {
		name := fmt.Sprintf("worker-%d", i%cfg.Stack.Workers+1)
		if err := stack.Workers[name].Kill(); err != nil {
			return err
		}
		s.figures.Kills++
		sleep(ctx, cfg.KillEvery/3)
		if err := stack.StartWorker(name); err != nil {
			return fmt.Errorf("start %s again: %w", name, err)
		}
	}
	return nil
}

// judge waits until nothing is under way, and compares.
func (cfg *Config) judge(ctx context.Context, stack *local.Stack, till *till, s *sale) (*Figures, error) {
	cfg.Say("   everybody has an answer; waiting until nothing is held and no provider has to be asked")
	shards, err := books.Open(ctx, stack.DSNs())
	if err != nil {
		return nil, err
	}
	defer shards.Close()
	settling, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	began := time.Now()
	unsettled := shards.AwaitSettled(settling)
	f := &s.figures
	f.SettledSeconds = time.Since(began).Seconds()
	orders, err := shards.Orders(ctx)
	if err != nil {
		return nil, err
	}
	report, err := books.Compare(orders, till.client.Ledger(ctx))
	if err != nil {
		return nil, err
	}
	f.Books = report
	s.compare(orders)
	audit, err := auditOf(ctx, stack)
	if err != nil {
		return nil, err
	}
	f.AuditFindings = len(audit.Findings)
	for _, found := range audit.Findings {
		cfg.Say("   audit: product %s, shard %q: %s", found.ProductID, found.Shard, found.Problem)
	}
	f.Differences = len(report.Differences)
	return f, errors.Join(unsettled, f.err())
}

func auditOf(ctx context.Context, stack *local.Stack) (*ledger.AuditReport, error) {
	var shards []*ledger.Shard
	for name, dsn := range stack.DSNs() {
		s, err := ledger.Open(ledger.Config{Name: name, DSN: dsn})
		if err != nil {
			return nil, err
		}
		defer s.Close()
		shards = append(shards, s)
	}
	return ledger.Audit(ctx, shards)
}

// till is the provider of payments, in this process: its ledger survives every worker.
type till struct {
	url    string
	client *simulated.Client
}

func openTill(ctx context.Context, faults simulated.Faults) (*till, func(), error) {
	server, err := simulated.NewServer(faults)
	if err != nil {
		return nil, nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	t := &till{url: "http://" + listener.Addr().String()}
	if t.client, err = simulated.NewClient(simulated.Config{URL: t.url}); err != nil {
		return nil, nil, errors.Join(err, listener.Close())
	}
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var served sync.WaitGroup
	served.Go(func() { _ = server.Run(serving, listener) }) // ends with its context
	return t, func() { cancel(); served.Wait() }, nil
}

func sleep(ctx context.Context, d time.Duration) (slept bool) {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// stockUp creates the products.
func (s *sale) stockUp(ctx context.Context) error {
	share := replay.Share{Numerator: 4, Denominator: 5}
	demands := s.cfg.Carts.Demand()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(s.cfg.Customers)
	for i, product := range slices.Sorted(maps.Keys(demands)) {
		stock := demands[product]
		if i%s.cfg.Scarce == 0 {
			stock = share.Of(stock)
			s.figures.ScarceProducts++
		}
		g.Go(func() error {
			return insist(ctx, func(ctx context.Context) error {
				_, err := s.products.CreateProduct(ctx, &holdfastv1.CreateProductRequest{
					ProductId: product, AmountInStorage: stock,
				})
				return err
			})
		})
	}
	s.figures.Products = len(demands)
	return g.Wait()
}
