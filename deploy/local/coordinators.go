package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// CoordinatorProcess is one coordinator. After its end it can be started again,
// at the same addresses.
type CoordinatorProcess struct {
	*Process
	Name        string
	HTTPAddress string
	GRPCAddress string
	health      string // address of nothing but the health
	stack       *Stack
}

// startCoordinators starts all coordinators. The first one is named as if it
// were alone.
func (s *Stack) startCoordinators() error {
	for i := range max(s.cfg.Coordinators, 1) {
		c := &CoordinatorProcess{Name: "coordinator", stack: s}
		var wantedHTTP, wantedGRPC string
		if i == 0 {
			s.Coordinator, wantedHTTP, wantedGRPC = c, s.cfg.HTTPListen, s.cfg.GRPCListen
		} else {
			c.Name = fmt.Sprintf("coordinator-%d", i+1)
		}
		var errs [3]error
		c.HTTPAddress, errs[0] = addressOr(wantedHTTP)
		c.GRPCAddress, errs[1] = addressOr(wantedGRPC)
		c.health, errs[2] = addressOr("")
		if err := errors.Join(errs[:]...); err != nil {
			return err
		}
		s.Coordinators = append(s.Coordinators, c)
	}
	s.HTTPAddress, s.GRPCAddress = s.Coordinator.HTTPAddress, s.Coordinator.GRPCAddress
	for _, c := range s.Coordinators {
		if err := c.Start(); err != nil {
			return err
		}
	}
	return nil
}

func addressOr(wanted string) (string, error) {
	if wanted != "" {
		return wanted, nil
	}
	port, err := FreePort()
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(port)), err
}

// Start starts the coordinator, for the first time or after its end.
func (c *CoordinatorProcess) Start() error {
	args := append([]string{"coordinator", "--http-listen", c.HTTPAddress, "--grpc-listen", c.GRPCAddress,
		"--health-listen", c.health},
		c.stack.cfg.CoordinatorArgs...)
	metrics, err := c.stack.targets.args(c.Name)
	if err != nil {
		return err
	}
	p, err := c.stack.run(c.Name, append(args, metrics...)...)
	if err == nil {
		c.Process = p
	}
	return err
}

// awaitCoordinators returns when all coordinators answer, or when one of the
// children that must run has ended.
func (s *Stack) awaitCoordinators(ctx context.Context) error {
	gone := make(chan error, len(s.Coordinators)+len(s.Workers))
	stop := make(chan struct{})
	defer close(stop)
	watch := func(name string, p *Process) {
		select {
		case <-p.Done():
			gone <- s.failed(name, cmp.Or(p.Wait(), errors.New("ended")))
		case <-stop:
		}
	}
	for _, c := range s.Coordinators {
		go watch(c.Name, c.Process)
	}
	for name, p := range s.Workers {
		go watch(name, p)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for _, c := range s.Coordinators {
		conn, err := grpc.NewClient(c.health, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second, Backoff: backoff.Config{
				BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond,
			}}))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		for !healthy(ctx, conn) {
			select {
			case err := <-gone:
				return err
			case <-ctx.Done():
				return s.failed(c.Name, context.Cause(ctx))
			case <-tick.C:
			}
		}
	}
	return nil
}

// healthy asks the coordinator whether it can reach a worker.
func healthy(ctx context.Context, conn grpc.ClientConnInterface) bool {
	resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: "ready"})
	return err == nil && resp.GetStatus() == healthpb.HealthCheckResponse_SERVING
}
