package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// Config says how coordinators are called. Fields without a default are required.
type Config struct {
	// Credentials say how connections are made: credentials.NewTLS, or
	// insecure.NewCredentials where everybody on the network is trusted. There is no
	// default, so that nobody sends purchases in the clear by oversight.
	Credentials credentials.TransportCredentials

	// Token, when set, is asked before each attempt for the token that says who calls: one of
	// an OIDC issuer, or a static one. It needs Credentials with which it stays secret.
	Token func(context.Context) (string, error)

	// Timeout, 10 s, is for calls whose context has no deadline. It bounds the whole call,
	// with all its attempts.
	Timeout time.Duration
	// AttemptTimeout, 3 s, is until a coordinator that does not answer is passed over.
	// After each turn through all of them it doubles: the call may need longer. With one
	// target there is nobody else to ask, and an attempt has all the time that is left.
	AttemptTimeout time.Duration
}

// Client calls coordinators. It has the methods of both services, and is safe for use by
// many goroutines at once. It never changes the messages that it is given.
type Client struct {
	holdfastv1.ProductServiceClient
	holdfastv1.PurchaseServiceClient
	holdfastv1.OrderServiceClient
	holdfastv1.EventServiceClient
	holdfastv1.WebhookServiceClient

	wire *wire
}

// New makes a client of the coordinators at these addresses, "host:port" or any other
// target of gRPC. It begins with one of them by chance, and stays there for as long as it
// answers. It does not connect before the first call.
func New(targets []string, cfg Config) (*Client, error) {
	switch {
	case len(targets) == 0:
		return nil, errors.New("client: the address of a coordinator is required")
	case cfg.Credentials == nil:
		return nil, errors.New("client: credentials are required")
	case cfg.Timeout < 0 || cfg.AttemptTimeout < 0:
		return nil, errors.New("client: timeouts must be above 0")
	}
	w := &wire{timeout: cmp.Or(cfg.Timeout, 10*time.Second), attemptTimeout: cmp.Or(cfg.AttemptTimeout, 3*time.Second)}
	for _, target := range targets {
		conn, err := grpc.NewClient(target, append(cfg.dial(), grpc.WithTransportCredentials(cfg.Credentials),
			// A coordinator that comes back is found within a second.
			grpc.WithConnectParams(grpc.ConnectParams{
				MinConnectTimeout: w.attemptTimeout,
				Backoff:           backoff.Config{BaseDelay: firstPause, Multiplier: 2, Jitter: 0.2, MaxDelay: maxPause},
			}),
			// One that vanished without a word is noticed by it.
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTimeout}),
			// Otherwise the name is looked up for its settings too, which takes seconds where
			// nobody answers for such names.
			grpc.WithDisableServiceConfig(),
		)...)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("client: %q: %w", target, err), w.close())
		}
		w.conns = append(w.conns, conn)
	}
	w.preferred.Store(rand.Uint64N(uint64(len(targets))))
	return &Client{
		ProductServiceClient: holdfastv1.NewProductServiceClient(w), PurchaseServiceClient: holdfastv1.NewPurchaseServiceClient(w),
		OrderServiceClient: holdfastv1.NewOrderServiceClient(w), EventServiceClient: holdfastv1.NewEventServiceClient(w),
		WebhookServiceClient: holdfastv1.NewWebhookServiceClient(w),
		wire:                 w,
	}, nil
}

// A connection with calls under way on which nothing comes is asked this often whether it
// lives, which coordinators allow, and given up when it does not answer.
const (
	pingEvery   = 10 * time.Second
	pingTimeout = 3 * time.Second
)

func (c *Config) dial() []grpc.DialOption {
	if c.Token == nil {
		return nil
	}
	return []grpc.DialOption{grpc.WithPerRPCCredentials(bearer(c.Token))}
}

// bearer shows a token with each call, never in the clear.
type bearer func(context.Context) (string, error)

func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b(ctx)
	if err != nil {
		return nil, fmt.Errorf("token: %w", err)
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

func (b bearer) RequireTransportSecurity() bool { return true }

// Close ends all connections, and with them the calls that are under way.
func (c *Client) Close() error { return c.wire.close() }
