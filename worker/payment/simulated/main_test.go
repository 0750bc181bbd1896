package simulated

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/worker/payment"
	"github.com/holdfast-io/holdfast/worker/payment/paymenttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// open is a server and a client of it. Both end with the test.
func open(t *testing.T, faults Faults) (*Server, *Client) {
	t.Helper()
	server, err := NewServer(faults)
	if err != nil {
		t.Fatal(err)
	}
	listening := httptest.NewServer(server)
	t.Cleanup(listening.Close)
	return server, connect(t, listening.URL, paymenttest.NewNetwork(t))
}

func connect(t *testing.T, url string, network http.RoundTripper) *Client {
	t.Helper()
	client, err := NewClient(Config{URL: url, HTTP: &http.Client{Transport: network}})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func pay(key, method string) payment.Payment {
	return payment.Payment{
		Key: key, Method: method, Money: payment.Money{Currency: "EUR", MinorUnits: 1000}, Begun: time.Now(),
	}
}

// entries reads the ledger, and checks each entry.
func entries(t *testing.T, c *Client) []Entry {
	t.Helper()
	var all []Entry
	for entry, err := range c.Ledger(context.WithoutCancel(t.Context())) {
		if err != nil {
			t.Fatal(err)
		}
		if err := entry.Check(); err != nil {
			t.Error(err)
		}
		all = append(all, entry)
	}
	return all
}
