package stripe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	stripego "github.com/stripe/stripe-go/v85"

	"github.com/holdfast-io/holdfast/worker/payment"
)

// KeyLife is how long after Payment.Begun a payment may be authorized, and is found by its
// idempotency key: an hour less than Stripe promises, for clocks that differ.
const KeyLife = 23 * time.Hour

// searchable is when a search surely finds an intent: Stripe says a minute, and at times more.
const searchable = time.Hour

// Config says with whose account to pay. Printing it does not show the key.
type Config struct {
	// SecretKey is an API key, sk_… or rk_…. Required.
	SecretKey string
	// URL is Stripe's by default. Without TLS, only this machine can be named.
	URL string
	// HTTP sends the calls; by default one with a limit of 80 s, which Stripe recommends, for
	// callers without one.
	HTTP *http.Client
}

// String leaves the key out.
func (c Config) String() string { return fmt.Sprintf("stripe at %s", cmp.Or(c.URL, stripego.APIURL)) }

// GoString leaves the key out.
func (c Config) GoString() string { return c.String() }

// Provider is a payment.Provider. It keeps no state between calls.
type Provider struct {
	client *stripego.Client
}

var _ payment.Provider = (*Provider)(nil)

// New does not connect yet.
func New(config Config) (*Provider, error) {
	if !strings.HasPrefix(config.SecretKey, "sk_") && !strings.HasPrefix(config.SecretKey, "rk_") {
		return nil, errors.New("make stripe provider: secret key does not begin with sk_ or rk_")
	}
	base := cmp.Or(config.URL, stripego.APIURL)
	if err := checkURL(base); err != nil {
		return nil, fmt.Errorf("make stripe provider: %w", err)
	}
	backends := stripego.NewBackendsWithConfig(&stripego.BackendConfig{
		URL:        &base,
		HTTPClient: cmp.Or(config.HTTP, &http.Client{Timeout: 80 * time.Second}),
		// Its pauses do not end with the context; see insist.
		MaxNetworkRetries: stripego.Int64(0),
		// It logs whole answers.
		LeveledLogger:   &stripego.LeveledLogger{Level: stripego.LevelNull},
		EnableTelemetry: stripego.Bool(false),
	})
	return &Provider{client: stripego.NewClient(config.SecretKey, stripego.WithBackends(backends))}, nil
}

// checkURL keeps the key from being sent where anybody can read it.
func checkURL(base string) error {
	parsed, err := url.Parse(base)
	if err != nil || parsed.Host == "" || parsed.Scheme != "https" && parsed.Scheme != "http" {
		return fmt.Errorf("%q is not an URL of Stripe", base)
	}
	ip := net.ParseIP(parsed.Hostname())
	if parsed.Scheme == "http" && parsed.Hostname() != "localhost" && !ip.IsLoopback() {
		return fmt.Errorf("%q has no TLS", base)
	}
	return nil
}

// Authorize is of payment.Provider.
func (s *Provider) Authorize(ctx context.Context, p payment.Payment) (string, error) {
	reference, err := s.authorize(ctx, p)
	return reference, failed("authorize", p, err)
}

// Capture is of payment.Provider.
func (s *Provider) Capture(ctx context.Context, p payment.Payment, minorUnits int64) error {
	return failed("capture", p, s.capture(ctx, p, minorUnits))
}

// Void is of payment.Provider.
func (s *Provider) Void(ctx context.Context, p payment.Payment) error {
	return failed("void", p, s.void(ctx, p))
}

// Refund is of payment.Provider.
func (s *Provider) Refund(ctx context.Context, p payment.Payment, refundKey string, minorUnits int64) error {
	return failed("refund", p, s.refund(ctx, p, refundKey, minorUnits))
}

// LookUp is of payment.Provider. Of a payment that Stripe has not seen, an intent is made; it
// does not touch the customer's card.
func (s *Provider) LookUp(ctx context.Context, p payment.Payment) (payment.Status, error) {
	status, err := s.lookUp(ctx, p)
	return status, failed("look up", p, err)
}

func failed(verb string, p payment.Payment, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s payment %s: %w", verb, p.Key, err)
}
