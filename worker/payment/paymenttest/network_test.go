package paymenttest

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fault that did nothing would let every provider pass.
func TestFaultsAreWhatTheySay(t *testing.T) {
	for fault, want := range map[Fault]struct{ arrived, delivered int }{
		NoFault:     {1, 1},
		RequestLost: {0, 0},
		ReplyLost:   {1, 1},
		RequestLate: {0, 1},
	} {
		arrived := 0
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived++ }))
		network := NewNetwork(t)
		send := func() error {
			request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader("body"))
			response, err := network.RoundTrip(request)
			if err == nil {
				_ = response.Body.Close()
			}
			return err
		}
		network.Break(fault, 2)
		if err := send(); err != nil || fault != NoFault && network.fault == NoFault {
			t.Errorf("%v: first request: %v", fault, err)
		}
		arrived = 0
		if err := send(); (fault == NoFault) != (err == nil) || err != nil && !errors.Is(err, ErrLost) {
			t.Errorf("%v: second request: %v", fault, err)
		}
		if arrived != want.arrived || !network.Mend() {
			t.Errorf("%v: %d arrived", fault, arrived)
		}
		network.Deliver(t)
		if arrived != want.delivered {
			t.Errorf("%v: %d arrived in the end", fault, arrived)
		}
		if err := send(); err != nil {
			t.Errorf("%v: third request: %v", fault, err)
		}
		server.Close()
	}
}
