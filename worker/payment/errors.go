package payment

import (
	"errors"
	"fmt"
)

// ErrUnknown says that a call may have had its effect, may have it later, or not at all:
// no answer came, or none that tells. Repeat it with the same keys, or look up.
var ErrUnknown = errors.New("outcome is not known")

// DeclinedError says that the customer's money was not moved and will not be under this
// key. The customer may try another means of payment, under another key.
type DeclinedError struct {
	// Code is the provider's, as card_declined; made for programs.
	Code string
	// Message may be empty. It is fit for a customer.
	Message string
}

func (e *DeclinedError) Error() string { return "declined: " + join(e.Code, e.Message) }

// Reason is why a call was refused.
type Reason string

// The reasons of a [RefusedError].
const (
	ReasonInvalid       Reason = "invalid"        // a field is malformed
	ReasonReused        Reason = "reused"         // the key was used with something else
	ReasonTooLate       Reason = "too_late"       // the provider may have forgotten the key
	ReasonNotAuthorized Reason = "not_authorized" // nothing is held that could be captured
	ReasonNotCaptured   Reason = "not_captured"   // nothing was taken that could be refunded
	ReasonVoided        Reason = "voided"         // it was let go for good
	ReasonCaptured      Reason = "captured"       // it was taken: refund instead
	ReasonTooMuch       Reason = "too_much"       // more than is held, or than is left
	ReasonProvider      Reason = "provider"       // anything else; see Code
)

// RefusedError says that a call did nothing and will do nothing when it is repeated: the
// caller made a mistake, or somebody else was first.
type RefusedError struct {
	Reason Reason
	// Code is the provider's, if it had one.
	Code    string
	Message string
}

func (e *RefusedError) Error() string {
	return "refused: " + join(join(string(e.Reason), e.Code), e.Message)
}

// IsRefused tells whether err is a [RefusedError] for that reason.
func IsRefused(err error, reason Reason) bool {
	refused, ok := errors.AsType[*RefusedError](err)
	return ok && refused.Reason == reason
}

// Refuse makes a [RefusedError] for providers.
func Refuse(reason Reason, format string, args ...any) error {
	return &RefusedError{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error { return Refuse(ReasonInvalid, format, args...) }

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + ": " + b
}
