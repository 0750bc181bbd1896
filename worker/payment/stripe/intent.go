package stripe

import (
	"context"
	"fmt"
	"strings"
	"time"

	stripego "github.com/stripe/stripe-go/v85"

	"github.com/holdfast-io/holdfast/worker/payment"
)

// Metadata of intents and refunds.
const (
	metaKey    = "holdfast_key"
	metaMethod = "holdfast_method"
	metaRefund = "holdfast_refund"
)

// The reasons for which intents are cancelled here tell afterwards what it was.
const (
	voidedByCaller = string(stripego.PaymentIntentCancellationReasonRequestedByCustomer)
	wasDeclined    = string(stripego.PaymentIntentCancellationReasonAbandoned)
)

// intent is a PaymentIntent as it was at some moment of the current call; nil when there is
// none and none can come any more.
type intent = stripego.PaymentIntent

// find answers the one intent of a payment, read anew. It is nil only of payments that are
// older than KeyLife.
func (s *Provider) find(ctx context.Context, p payment.Payment) (*intent, error) {
	var found *intent
	var err error
	switch {
	case p.Reference != "":
		found, err = s.retrieve(ctx, p.Reference)
	case recent(p):
		found, err = s.make(ctx, p)
	default:
		found, err = s.search(ctx, p)
	}
	if err != nil || found == nil {
		return nil, err
	}
	return found, belongs(found, p)
}

func recent(p payment.Payment) bool { return time.Since(p.Begun) < KeyLife }

// make makes the intent, or answers the one that was made.
func (s *Provider) make(ctx context.Context, p payment.Payment) (*intent, error) {
	made, err := insist(ctx, func() (*intent, error) {
		params := &stripego.PaymentIntentCreateParams{
			Amount:             &p.MinorUnits,
			Currency:           stripego.String(strings.ToLower(p.Currency)),
			CaptureMethod:      stripego.String("manual"),
			PaymentMethodTypes: stripego.StringSlice([]string{"card"}),
			Metadata:           map[string]string{metaKey: p.Key, metaMethod: p.Method},
		}
		params.SetIdempotencyKey(idempotencyKey(p, "create"))
		return s.client.V1PaymentIntents.Create(ctx, params)
	})
	if err != nil {
		return nil, err
	}
	return s.anew(ctx, made)
}

// search finds the intent by its metadata.
func (s *Provider) search(ctx context.Context, p payment.Payment) (*intent, error) {
	params := &stripego.PaymentIntentSearchParams{}
	params.Query = fmt.Sprintf("metadata['%s']:'%s'", metaKey, p.Key) // keys have no quotes
	var found *intent
	for one, err := range s.client.V1PaymentIntents.Search(ctx, params).All(ctx) {
		if err != nil {
			return nil, translate(err)
		}
		if found != nil {
			return nil, payment.Refuse(payment.ReasonReused, "intents %s and %s are both of key %s", found.ID, one.ID, p.Key)
		}
		found = one
	}
	if found == nil {
		return nil, nil //nolint:nilnil // nothing is an answer here: see intent
	}
	return s.retrieve(ctx, found.ID) // a search may answer what was true before
}

func (s *Provider) retrieve(ctx context.Context, id string) (*intent, error) {
	return insist(ctx, func() (*intent, error) { return s.client.V1PaymentIntents.Retrieve(ctx, id, nil) })
}

// anew reads an intent again when it comes from Stripe's memory of an earlier call.
func (s *Provider) anew(ctx context.Context, answered *intent) (*intent, error) {
	if answered.LastResponse.Header.Get("Idempotent-Replayed") != "true" {
		return answered, nil
	}
	return s.retrieve(ctx, answered.ID)
}

func (s *Provider) confirm(ctx context.Context, p payment.Payment, id string) (*intent, error) {
	confirmed, err := insist(ctx, func() (*intent, error) {
		params := &stripego.PaymentIntentConfirmParams{PaymentMethod: &p.Method}
		params.SetIdempotencyKey(idempotencyKey(p, "confirm"))
		return s.client.V1PaymentIntents.Confirm(ctx, id, params)
	})
	if err != nil {
		return s.otherwise(ctx, id, err)
	}
	return s.anew(ctx, confirmed)
}

func (s *Provider) cancel(ctx context.Context, id, reason string) (*intent, error) {
	cancelled, err := insist(ctx, func() (*intent, error) {
		return s.client.V1PaymentIntents.Cancel(ctx, id, &stripego.PaymentIntentCancelParams{CancellationReason: &reason})
	})
	if err != nil {
		return s.otherwise(ctx, id, err)
	}
	return cancelled, nil
}

func (s *Provider) take(ctx context.Context, id string, minorUnits int64) (*intent, error) {
	taken, err := insist(ctx, func() (*intent, error) {
		return s.client.V1PaymentIntents.Capture(ctx, id, &stripego.PaymentIntentCaptureParams{AmountToCapture: &minorUnits})
	})
	if err != nil {
		return s.otherwise(ctx, id, err)
	}
	return taken, nil
}

// otherwise reads the intent when a call came to nothing because somebody else has moved it.
func (s *Provider) otherwise(ctx context.Context, id string, err error) (*intent, error) {
	if !unexpectedState(err) {
		return nil, err
	}
	return s.retrieve(ctx, id)
}

// belongs refuses an intent that was made for another payment.
func belongs(pi *intent, p payment.Payment) error {
	same := pi.Metadata[metaKey] == p.Key && pi.Metadata[metaMethod] == p.Method &&
		pi.Amount == p.MinorUnits && strings.EqualFold(string(pi.Currency), p.Currency)
	if !same {
		return payment.Refuse(payment.ReasonReused, "intent %s is of another payment", pi.ID)
	}
	return nil
}

// stateOf says what an intent means. Undecided ones are Nothing: no money is held.
func stateOf(pi *intent) payment.State {
	if pi == nil {
		return payment.Nothing
	}
	switch pi.Status {
	case stripego.PaymentIntentStatusRequiresCapture:
		return payment.Authorized
	case stripego.PaymentIntentStatusSucceeded:
		return payment.Captured
	case stripego.PaymentIntentStatusCanceled:
		if string(pi.CancellationReason) == wasDeclined {
			return payment.Declined
		}
		return payment.Voided
	case stripego.PaymentIntentStatusRequiresPaymentMethod:
		if pi.LastPaymentError != nil {
			return payment.Declined
		}
	}
	return payment.Nothing
}

// idempotencyKey is of at most 255 bytes, as Stripe wants.
func idempotencyKey(p payment.Payment, call string) string { return "holdfast:" + p.Key + ":" + call }
