package stripe

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	stripego "github.com/stripe/stripe-go/v85"

	"github.com/holdfast-io/holdfast/worker/payment"
	"github.com/holdfast-io/holdfast/worker/payment/paymenttest"
)

// mockModule is Stripe's own server for tests: it checks every request against Stripe's
// published description of the API, and has no state.
const mockModule = "github.com/stripe/stripe-mock@v0.203.0"

// The fake of the other tests says what we believe of Stripe; this says that Stripe's own
// description agrees about paths, parameters and types.
func TestRequestsAreAsStripeDescribesThem(t *testing.T) {
	if testing.Short() {
		t.Skip("builds stripe-mock")
	}
	provider := connect(t, startMock(t), paymenttest.NewNetwork(t))
	ctx, p := t.Context(), pay("pm_card_visa")
	made, err := provider.make(ctx, p)
	if err != nil || made.Amount != 1000 || made.Currency != "eur" || made.CaptureMethod != "manual" {
		t.Fatalf("got %+v, %v", made, err)
	}
	for name, call := range map[string]func() error{
		"retrieve": func() error { _, err := provider.retrieve(ctx, made.ID); return err },
		"search":   func() error { _, err := provider.search(ctx, p); return err },
		"confirm":  func() error { _, err := provider.confirm(ctx, p, made.ID); return err },
		"capture":  func() error { _, err := provider.take(ctx, made.ID, 1000); return err },
		"void":     func() error { _, err := provider.cancel(ctx, made.ID, voidedByCaller); return err },
		"decline":  func() error { _, err := provider.cancel(ctx, made.ID, wasDeclined); return err },
		"refund":   func() error { _, err := provider.giveBack(ctx, p, made.ID, "r1", 1); return err },
		"refunds":  func() error { _, err := provider.refunds(ctx, made.ID, "r1"); return err },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := provider.cancel(ctx, made.ID, "no reason of Stripe's"); !payment.IsRefused(err, payment.ReasonProvider) {
		t.Errorf("the mock checks nothing: got %v", err)
	}
	misspelt := &stripego.PaymentIntentCreateParams{Amount: &p.MinorUnits, Currency: &p.Currency}
	misspelt.AddExtra("capture_methods", "manual")
	_, err = insist(ctx, func() (*intent, error) { return provider.client.V1PaymentIntents.Create(ctx, misspelt) })
	if !payment.IsRefused(err, payment.ReasonProvider) {
		t.Errorf("the mock checks nothing: got %v", err)
	}
}

// startMock runs stripe-mock on a port of its own, and answers its URL.
func startMock(t *testing.T) string {
	t.Helper()
	mock := exec.CommandContext(t.Context(), findMock(t), "-http-addr", "127.0.0.1:0", "-https-addr", "127.0.0.1:0")
	out, err := mock.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := mock.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = mock.Process.Kill()
		_ = mock.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if address, ok := strings.CutPrefix(lines.Text(), "Listening for HTTP at address: "); ok {
			return "http://" + address
		}
	}
	t.Fatalf("stripe-mock ended: %v", lines.Err())
	return ""
}

// findMock is the file in STRIPE_MOCK, the one on the PATH, or one that is built.
func findMock(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("STRIPE_MOCK"); path != "" {
		return path
	}
	if path, err := exec.LookPath("stripe-mock"); err == nil {
		return path
	}
	bin := t.TempDir()
	install := exec.CommandContext(context.WithoutCancel(t.Context()), "go", "install", mockModule)
	install.Env = append(os.Environ(), "GOBIN="+bin, "GOFLAGS=")
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("install %s: %v\n%s\nname a stripe-mock in STRIPE_MOCK, or test with -short", mockModule, err, out)
	}
	return filepath.Join(bin, "stripe-mock")
}
