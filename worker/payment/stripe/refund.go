package stripe

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"

	stripego "github.com/stripe/stripe-go/v85"

	"github.com/holdfast-io/holdfast/worker/payment"
)

// refunds are those of one intent.
type refunds struct {
	sum  int64            // of what was or will be given back
	same *stripego.Refund // the one of the key that was asked for
}

func (s *Provider) refund(ctx context.Context, p payment.Payment, key string, minorUnits int64) error {
	p, err := checked(p, minorUnits)
	if err == nil {
		err = payment.CheckKey(key)
	}
	if err != nil {
		return err
	}
	pi, err := s.find(ctx, p)
	if err != nil {
		return err
	}
	if state := stateOf(pi); state != payment.Captured {
		return payment.Refuse(payment.ReasonNotCaptured, "payment is %s", state)
	}
	// The list is for the time after Stripe has forgotten the idempotency key.
	made, err := s.refunds(ctx, pi.ID, key)
	if err != nil {
		return err
	}
	if made.same != nil {
		return refunded(made.same, minorUnits)
	}
	if err := fits(pi, made, minorUnits); err != nil {
		return err
	}
	given, err := s.giveBack(ctx, p, pi.ID, key, minorUnits)
	if payment.IsRefused(err, payment.ReasonProvider) {
		return s.explain(ctx, pi, minorUnits, err)
	}
	if err != nil {
		return err
	}
	return refunded(given, minorUnits)
}

// explain tells whether a refund was refused because another one came first.
func (s *Provider) explain(ctx context.Context, pi *intent, minorUnits int64, refusal error) error {
	made, err := s.refunds(ctx, pi.ID, "")
	if err != nil {
		return err
	}
	return cmp.Or(fits(pi, made, minorUnits), refusal)
}

func fits(pi *intent, made refunds, minorUnits int64) error {
	if left := pi.AmountReceived - made.sum; minorUnits > left {
		return payment.Refuse(payment.ReasonTooMuch, "%d are left to refund, not %d", left, minorUnits)
	}
	return nil
}

// refunded tells what a refund that was made comes to.
func refunded(made *stripego.Refund, minorUnits int64) error {
	switch {
	case made.Amount != minorUnits:
		return payment.Refuse(payment.ReasonReused, "refund was of %d, not %d", made.Amount, minorUnits)
	case !stands(made):
		return &payment.DeclinedError{Code: string(made.FailureReason), Message: "refund " + string(made.Status)}
	default:
		return nil
	}
}

// stands tells whether a refund gives money back, now or soon.
func stands(made *stripego.Refund) bool {
	return made.Status != stripego.RefundStatusFailed && made.Status != stripego.RefundStatusCanceled
}

func (s *Provider) giveBack(ctx context.Context, p payment.Payment, id, key string, minorUnits int64) (*stripego.Refund, error) {
	return insist(ctx, func() (*stripego.Refund, error) {
		params := &stripego.RefundCreateParams{
			PaymentIntent: &id,
			Amount:        &minorUnits,
			Metadata:      map[string]string{metaKey: p.Key, metaRefund: key},
		}
		hash := sha256.Sum256([]byte(key)) // both keys together may be too long for Stripe
		params.SetIdempotencyKey(idempotencyKey(p, "refund:"+hex.EncodeToString(hash[:16])))
		return s.client.V1Refunds.Create(ctx, params)
	})
}

// refunds reads all refunds of an intent, also those that somebody else made.
func (s *Provider) refunds(ctx context.Context, id, key string) (refunds, error) {
	var all refunds
	params := &stripego.RefundListParams{PaymentIntent: &id}
	params.Limit = stripego.Int64(100)
	for one, err := range s.client.V1Refunds.List(ctx, params).All(ctx) {
		if err != nil {
			return all, translate(err)
		}
		if stands(one) {
			all.sum += one.Amount
		}
		if key != "" && one.Metadata[metaRefund] == key {
			all.same = one
		}
	}
	return all, nil
}
