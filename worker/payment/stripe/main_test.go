package stripe

import (
	"flag"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/worker/payment"
	"github.com/holdfast-io/holdfast/worker/payment/paymenttest"
)

// TestMain lets random sequences be fewer than by default: each call is several requests.
func TestMain(m *testing.M) {
	_ = flag.Set("rapid.checks", "25")
	goleak.VerifyTestMain(m)
}

func connect(t *testing.T, url string, network *paymenttest.Network) *Provider {
	t.Helper()
	provider, err := New(Config{SecretKey: secret, URL: url, HTTP: &http.Client{Transport: network}})
	if err != nil {
		t.Fatal(err)
	}
	return provider
}

// faked is a fake and a provider that uses it.
func faked(t *testing.T) (*fake, *Provider) {
	t.Helper()
	f := newFake(t)
	return f, connect(t, f.url, paymenttest.NewNetwork(t))
}

func pay(method string) payment.Payment {
	return payment.Payment{
		Key: "eu-1", Method: method, Money: payment.Money{Currency: "EUR", MinorUnits: 1000}, Begun: time.Now(),
	}
}
