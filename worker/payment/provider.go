package payment

import "context"

// Provider moves money. The package comment says what all its methods promise; each
// comment here says which errors it has besides [ErrUnknown].
type Provider interface {
	// Authorize holds the customer's money, and returns the provider's reference.
	//
	// It is a [DeclinedError] when the customer's bank or the provider says no, now and
	// whenever it is repeated. It is a [RefusedError] for ReasonVoided after a Void,
	// ReasonReused for a key that was used otherwise, ReasonTooLate. After a capture it
	// answers as before it.
	Authorize(ctx context.Context, p Payment) (reference string, err error)

	// Capture takes minorUnits of what is held, and lets go of the rest.
	//
	// It is a [RefusedError] for ReasonNotAuthorized, ReasonVoided, ReasonTooMuch, and
	// ReasonReused when another amount was captured before. It is a [DeclinedError] when
	// the bank no longer gives what it had authorized.
	Capture(ctx context.Context, p Payment, minorUnits int64) error

	// Void lets go of what is held, or sees to it that nothing ever will be. A declined
	// payment stays declined, and nil is returned.
	//
	// It is a [RefusedError] for ReasonCaptured: refund instead.
	Void(ctx context.Context, p Payment) error

	// Refund gives back minorUnits of what was captured. refundKey names the refund
	// within the payment, and is made like [Payment.Key].
	//
	// It is a [RefusedError] for ReasonNotCaptured, ReasonTooMuch, and ReasonReused when
	// refundKey was used for another amount. It is a [DeclinedError] when the money
	// cannot be given back that way, as for an account that was closed.
	Refund(ctx context.Context, p Payment, refundKey string, minorUnits int64) error

	// LookUp tells how far the payment is. It changes nothing that anybody else can see.
	LookUp(ctx context.Context, p Payment) (Status, error)
}
