package stripe

import (
	"context"
	"fmt"
	"time"

	stripego "github.com/stripe/stripe-go/v85"

	"github.com/holdfast-io/holdfast/worker/payment"
)

// mustAct is the code of customers who would have to act, as Stripe has it for those who
// are not there.
const mustAct = "authentication_required"

func (s *Provider) authorize(ctx context.Context, p payment.Payment) (string, error) {
	p, err := p.Checked()
	if err != nil {
		return "", err
	}
	pi, err := s.find(ctx, p)
	if err == nil && stateOf(pi) == payment.Nothing {
		if !recent(p) {
			return "", payment.Refuse(payment.ReasonTooLate, "payment began more than %v ago", KeyLife)
		}
		pi, err = s.confirm(ctx, p, pi.ID)
	}
	if err == nil && pi.Status == stripego.PaymentIntentStatusRequiresAction {
		pi, err = s.cancel(ctx, pi.ID, wasDeclined)
	}
	if err != nil {
		return "", err
	}
	switch stateOf(pi) {
	case payment.Authorized, payment.Captured:
		return pi.ID, nil
	case payment.Declined:
		return "", declined(pi)
	case payment.Voided:
		return "", voided(pi)
	default:
		return "", undecided(pi)
	}
}

func (s *Provider) capture(ctx context.Context, p payment.Payment, minorUnits int64) error {
	p, err := checked(p, minorUnits)
	if err != nil {
		return err
	}
	pi, err := s.find(ctx, p)
	if err == nil && stateOf(pi) == payment.Authorized {
		if minorUnits > pi.AmountCapturable {
			return payment.Refuse(payment.ReasonTooMuch, "%d are authorized, not %d", pi.AmountCapturable, minorUnits)
		}
		pi, err = s.take(ctx, pi.ID, minorUnits)
	}
	if err != nil {
		return err
	}
	switch state := stateOf(pi); state {
	case payment.Captured:
		if pi.AmountReceived != minorUnits {
			return payment.Refuse(payment.ReasonReused, "%d were captured before, not %d", pi.AmountReceived, minorUnits)
		}
		return nil
	case payment.Voided:
		return voided(pi)
	case payment.Authorized:
		return undecided(pi)
	default:
		return payment.Refuse(payment.ReasonNotAuthorized, "payment is %s", state)
	}
}

func (s *Provider) void(ctx context.Context, p payment.Payment) error {
	p, err := p.Checked()
	if err != nil {
		return err
	}
	pi, err := s.find(ctx, p)
	if p.Reference == "" && recent(p) && payment.IsRefused(err, payment.ReasonProvider) {
		pi, err = s.unmade(ctx, p, err)
	}
	if err != nil || pi == nil {
		return err
	}
	if open(pi) {
		reason := voidedByCaller
		if stateOf(pi) == payment.Declined {
			reason = wasDeclined
		}
		if pi, err = s.cancel(ctx, pi.ID, reason); err != nil {
			return err
		}
	}
	switch {
	case pi.Status == stripego.PaymentIntentStatusCanceled:
		return nil
	case stateOf(pi) == payment.Captured:
		return payment.Refuse(payment.ReasonCaptured, "intent %s was captured", pi.ID)
	default:
		return undecided(pi)
	}
}

func (s *Provider) lookUp(ctx context.Context, p payment.Payment) (payment.Status, error) {
	p, err := p.Checked()
	if err != nil {
		return payment.Status{}, err
	}
	pi, err := s.find(ctx, p)
	if err != nil || pi == nil {
		return payment.Status{State: payment.Nothing}, err
	}
	status := payment.Status{State: stateOf(pi), Reference: pi.ID, Captured: pi.AmountReceived}
	switch status.State {
	case payment.Authorized, payment.Captured:
		status.Authorized = pi.Amount
	case payment.Voided:
		if pi.LatestCharge != nil {
			status.Authorized = pi.Amount
		}
	}
	if status.State == payment.Captured {
		var made refunds
		made, err = s.refunds(ctx, pi.ID, "")
		status.Refunded = made.sum
	}
	return status, err
}

// unmade is for the void of an intent that Stripe does not make: it may have been made before,
// when Stripe still did, as with an account that was closed since.
func (s *Provider) unmade(ctx context.Context, p payment.Payment, refusal error) (*intent, error) {
	switch {
	case neverMade(refusal):
		return nil, nil //nolint:nilnil // nothing is an answer here: see intent
	case time.Since(p.Begun) < searchable:
		return nil, fmt.Errorf("%w until a search can tell: %v", payment.ErrUnknown, refusal) //nolint:errorlint // it is not that any more
	default:
		return s.search(ctx, p)
	}
}

// open tells whether an intent may still come to hold money, or does.
func open(pi *intent) bool {
	return pi.Status != stripego.PaymentIntentStatusCanceled && pi.Status != stripego.PaymentIntentStatusSucceeded
}

// declined says why, for a card that was declined or a customer who would have to act.
func declined(pi *intent) error {
	if pi.LastPaymentError == nil {
		return &payment.DeclinedError{Code: mustAct, Message: "Your bank asks you to confirm the payment."}
	}
	return cardError(pi.LastPaymentError)
}

func voided(pi *intent) error {
	return &payment.RefusedError{
		Reason: payment.ReasonVoided, Code: string(pi.CancellationReason), Message: "intent " + pi.ID + " is cancelled",
	}
}

// undecided is for states that pass by themselves, as processing.
func undecided(pi *intent) error {
	return fmt.Errorf("%w: intent %s is %s", payment.ErrUnknown, pi.ID, pi.Status)
}

func checked(p payment.Payment, minorUnits int64) (payment.Payment, error) {
	if minorUnits <= 0 {
		return p, payment.Refuse(payment.ReasonInvalid, "amount %d is not above zero", minorUnits)
	}
	return p.Checked()
}
