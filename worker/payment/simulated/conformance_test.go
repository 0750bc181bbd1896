package simulated

import (
	"testing"

	"github.com/holdfast-io/holdfast/worker/payment"
	"github.com/holdfast-io/holdfast/worker/payment/paymenttest"
)

// subject is a fresh server for each provider; its ledger is checked when the test ends.
func subject(faults Faults) paymenttest.Subject {
	return paymenttest.Subject{
		Accepted: "ok",
		Declined: "decline",
		Open: func(t *testing.T, network *paymenttest.Network) payment.Provider {
			_, client := open(t, faults)
			t.Cleanup(func() { entries(t, client) })
			return connect(t, client.base.String(), network)
		},
	}
}

func TestSimulatedKeepsEveryPromise(t *testing.T) { paymenttest.Run(t, subject(Faults{})) }

func TestSimulatedKeepsItsPromisesInAnyOrder(t *testing.T) {
	paymenttest.Sequences(t, subject(Faults{}))
}
