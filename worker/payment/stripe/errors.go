package stripe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	stripego "github.com/stripe/stripe-go/v85"

	"github.com/holdfast-io/holdfast/worker/payment"
)

// Calls that meet another one which is under way are repeated after a pause that doubles.
const (
	tries      = 7
	firstPause = 30 * time.Millisecond
)

// errUnexpectedState is in the errors of calls that do not fit the intent's state.
var errUnexpectedState = errors.New(string(stripego.ErrorCodePaymentIntentUnexpectedState))

func unexpectedState(err error) bool { return errors.Is(err, errUnexpectedState) }

// insist repeats a call that Stripe has put off, and translates its errors.
func insist[T any](ctx context.Context, call func() (T, error)) (T, error) {
	pause := firstPause
	for try := 1; ; try++ {
		answer, err := call()
		if err == nil || !putOff(err) || try == tries || !waited(ctx, pause) {
			return answer, translate(err)
		}
		pause *= 2
	}
}

// putOff tells that a call was not begun because of another one: with the same idempotency
// key, or on the same object.
func putOff(err error) bool {
	said, ok := errors.AsType[*stripego.Error](err)
	return ok && (said.HTTPStatusCode == http.StatusConflict || said.Code == stripego.ErrorCodeLockTimeout)
}

// waited pauses for half to all of d, so that two callers part. It is false when the context
// ends before.
func waited(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d/2 + rand.N(d/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// translate makes every error one of the three kinds of payment.Provider. It is the only
// place that knows Stripe's.
func translate(err error) error {
	if err == nil {
		return nil
	}
	said, ok := errors.AsType[*stripego.Error](err)
	if !ok {
		return fmt.Errorf("%w: %w", payment.ErrUnknown, err)
	}
	switch {
	case said.Type == stripego.ErrorTypeCard:
		return cardError(said)
	case said.Code == stripego.ErrorCodePaymentIntentUnexpectedState:
		return fmt.Errorf("%w: %w", payment.ErrUnknown, errUnexpectedState)
	case said.Type == stripego.ErrorTypeIdempotency && said.HTTPStatusCode == http.StatusBadRequest:
		return refused(payment.ReasonReused, said)
	case said.Type == stripego.ErrorTypeInvalidRequest && ours(said.HTTPStatusCode):
		return refused(payment.ReasonProvider, said)
	default:
		return fmt.Errorf("%w: HTTP %d: %s", payment.ErrUnknown, said.HTTPStatusCode, describe(said))
	}
}

// ours are the statuses of requests that would be wrong when repeated. Credentials (401, 403)
// are not among them: somebody will mend them.
func ours(status int) bool {
	return status == http.StatusBadRequest || status == http.StatusPaymentRequired || status == http.StatusNotFound
}

func refused(reason payment.Reason, said *stripego.Error) error {
	return &payment.RefusedError{Reason: reason, Code: cmp.Or(string(said.Code), said.Param), Message: describe(said)}
}

// neverMade tells that Stripe refused to make an intent for what it was asked for, and not for
// what the account may do at the moment: then it has never made it.
func neverMade(err error) bool {
	said, ok := errors.AsType[*payment.RefusedError](err)
	return ok && slices.Contains([]string{
		string(stripego.ErrorCodeAmountTooSmall), string(stripego.ErrorCodeAmountTooLarge), "amount", "currency",
	}, said.Code)
}

func cardError(said *stripego.Error) error {
	return &payment.DeclinedError{
		Code:    cmp.Or(string(said.DeclineCode), string(said.Code), string(said.Type)),
		Message: said.Msg,
	}
}

// describe leaves out the objects in an error, which hold secrets.
func describe(said *stripego.Error) string {
	text := cmp.Or(said.Msg, string(said.Code), string(said.Type))
	if said.RequestID != "" {
		text += " (" + said.RequestID + ")"
	}
	return text
}
