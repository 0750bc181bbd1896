package stripe

import (
	"testing"

	"github.com/holdfast-io/holdfast/worker/payment"
	"github.com/holdfast-io/holdfast/worker/payment/paymenttest"
)

var subject = paymenttest.Subject{
	Accepted: "pm_card_visa",
	Declined: "pm_card_chargeDeclined",
	Open: func(t *testing.T, network *paymenttest.Network) payment.Provider {
		return connect(t, newFake(t).url, network)
	},
}

func TestStripeKeepsEveryPromise(t *testing.T) { paymenttest.Run(t, subject) }

func TestStripeKeepsItsPromisesInAnyOrder(t *testing.T) { paymenttest.Sequences(t, subject) }
