package client

import (
	"context"
	"maps"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// Reason tells what a call failed for. It is an error, so that errors.Is finds it in the
// error of a call: errors.Is(err, client.ErrInsufficientStock).
type Reason string

func (r Reason) Error() string { return string(r) }

// The outcome of a purchase, or of what is done to one: it stays the same however often the
// call is repeated.
const (
	// ErrInsufficientStock: the units are not there; Available says how many were.
	ErrInsufficientStock Reason = holdfastv1.ReasonInsufficientStock
	// ErrLimitExceeded: the purchase goes beyond a limit of its product, max_per_purchase or
	// max_per_customer: the metadata hold the one that it is. Of the second, Has says how
	// many units the customer has.
	ErrLimitExceeded Reason = holdfastv1.ReasonLimitExceeded
	// ErrPurchaseHeld: the purchase is only held: cancel it instead.
	ErrPurchaseHeld Reason = holdfastv1.ReasonPurchaseHeld
	// ErrPurchaseConfirmed: the purchase is sold already: return it instead.
	ErrPurchaseConfirmed Reason = holdfastv1.ReasonPurchaseConfirmed
	// ErrPurchaseCancelled: the hold was given back.
	ErrPurchaseCancelled Reason = holdfastv1.ReasonPurchaseCancelled
	// ErrHoldExpired: the time of the hold is up; of a confirmation: and the units are not
	// there any more.
	ErrHoldExpired Reason = holdfastv1.ReasonHoldExpired
	// ErrPurchaseReturned: all of the purchase was returned.
	ErrPurchaseReturned Reason = holdfastv1.ReasonPurchaseReturned
	// ErrAmountExceeded: more is to be confirmed or returned than the customer has of the
	// purchase; Has says how much that is.
	ErrAmountExceeded Reason = holdfastv1.ReasonAmountExceeded
	// ErrHoldTooLong: the hold would last longer than any may.
	ErrHoldTooLong Reason = holdfastv1.ReasonHoldTooLong
	// ErrProductExists: the product exists with another amount_in_storage or other limits.
	ErrProductExists Reason = holdfastv1.ReasonProductExists
	// ErrProductNotFound: there is no such product.
	ErrProductNotFound Reason = holdfastv1.ReasonProductNotFound
	// ErrPurchaseNotFound: there is no such purchase.
	ErrPurchaseNotFound Reason = holdfastv1.ReasonPurchaseNotFound
	// ErrPurchaseInOrder: the purchase is a line of an order, which is confirmed and
	// cancelled as a whole.
	ErrPurchaseInOrder Reason = holdfastv1.ReasonPurchaseInOrder
	// ErrOrderFailed: not all lines of the order were to be had, and none was kept. The
	// details of the status hold an OrderFailure, which names those that were not.
	ErrOrderFailed Reason = holdfastv1.ReasonOrderFailed
	// ErrOrderNotPlaced: not all lines of the order are held: repeat CreateOrder with its
	// request_id.
	ErrOrderNotPlaced Reason = holdfastv1.ReasonOrderNotPlaced
	// ErrOrderNotFound: there is no such order.
	ErrOrderNotFound Reason = holdfastv1.ReasonOrderNotFound
	// ErrPaymentDeclined: the provider has declined the payment; the metadata `code` says why.
	ErrPaymentDeclined Reason = holdfastv1.ReasonPaymentDeclined
	// ErrWebhookNotFound: there is no such webhook.
	ErrWebhookNotFound Reason = holdfastv1.ReasonWebhookNotFound
)

// The call has to be another one.
const (
	// ErrInvalidField: a field breaks a rule of the contract; Field names it.
	ErrInvalidField Reason = holdfastv1.ReasonInvalidField
	// ErrUnknownRegion: no shard has the name in the field region.
	ErrUnknownRegion Reason = holdfastv1.ReasonUnknownRegion
	// ErrRegionDraining: the shard in the field region takes no new purchases.
	ErrRegionDraining Reason = holdfastv1.ReasonRegionDraining
	// ErrRequestIDReused: the request_id was used before with other content.
	ErrRequestIDReused Reason = holdfastv1.ReasonRequestIDReused
	// ErrTokenMissing: the call has no token: set Config.Token.
	ErrTokenMissing Reason = holdfastv1.ReasonTokenMissing
	// ErrTokenExpired: the token was valid once.
	ErrTokenExpired Reason = holdfastv1.ReasonTokenExpired
	// ErrTokenInvalid: the token is of somebody else, for somebody else, or none at all.
	ErrTokenInvalid Reason = holdfastv1.ReasonTokenInvalid
	// ErrRoleMissing: the token names no role that may do this.
	ErrRoleMissing Reason = holdfastv1.ReasonRoleMissing
	// ErrOtherCustomer: a buyer acts only for the customer of the token.
	ErrOtherCustomer Reason = holdfastv1.ReasonOtherCustomer
)

// There was no outcome before the deadline. The client has repeated the call until then; it
// may be repeated later with the RequestID of the error.
const (
	// ErrNoWorker: no worker answered.
	ErrNoWorker Reason = holdfastv1.ReasonNoWorker
	// ErrShardUnavailable: a shard that the call needs did not answer; the metadata `shard`
	// name it.
	ErrShardUnavailable Reason = holdfastv1.ReasonShardUnavailable
	// ErrLockUnavailable: the product's lock could not be had.
	ErrLockUnavailable Reason = holdfastv1.ReasonLockUnavailable
	// ErrTopologyUnavailable: the region is not known, and etcd did not say if it is new.
	ErrTopologyUnavailable Reason = holdfastv1.ReasonTopologyUnavailable
	// ErrPaymentPending: the provider has not said in time whether it authorizes the payment.
	ErrPaymentPending Reason = holdfastv1.ReasonPaymentPending
	// ErrRateExceeded: the caller makes more calls than he may.
	ErrRateExceeded Reason = holdfastv1.ReasonRateExceeded
	// ErrIssuerUnavailable: whoever issues the tokens does not answer, so that this one could
	// not be checked.
	ErrIssuerUnavailable Reason = holdfastv1.ReasonIssuerUnavailable
	// ErrTooManyWatches: more is watched than may be.
	ErrTooManyWatches Reason = holdfastv1.ReasonTooManyWatches
	// ErrOverloaded: more purchases were under way than may be.
	ErrOverloaded Reason = holdfastv1.ReasonOverloaded
	// ErrFenced: etcd has lost data. Nothing is sold until an operator has repaired it.
	ErrFenced Reason = holdfastv1.ReasonFenced
)

// Error is the error of a call. The reasons of this package are found in it by errors.Is, as
// are context.DeadlineExceeded and context.Canceled where those are the code; the package
// status of gRPC takes it for what a server has answered.
type Error struct {
	Code     codes.Code
	Reason   Reason            // "" when it is not holdfast that failed the call, such as the network
	Message  string            // for people
	Field    string            // of the request that is to be changed, such as "requests[2].amount", or ""
	Metadata map[string]string // by Reason
	// RequestID is the key of the call, to repeat it with after an error that is no
	// outcome. It is empty for reads, batches and streams.
	RequestID string

	status *grpcstatus.Status
}

// FromStatus makes an error of one that a batch or a stream tells of one purchase, and nil
// of nil.
func FromStatus(st *status.Status) error { return newError(grpcstatus.FromProto(st).Err(), "") }

func newError(err error, requestID string) error {
	if err == nil {
		return nil
	}
	st := grpcstatus.Convert(err)
	e := &Error{Code: st.Code(), Message: st.Message(), RequestID: requestID, status: st}
	for _, detail := range st.Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok && len(bad.GetFieldViolations()) > 0 {
			e.Field = bad.GetFieldViolations()[0].GetField()
		}
	}
	if info := holdfastv1.Info(err); info != nil {
		e.Reason, e.Metadata = Reason(info.GetReason()), maps.Clone(info.GetMetadata())
	}
	return e
}

func (e *Error) Error() string {
	if e.Reason == "" {
		return "holdfast: " + e.Code.String() + ": " + e.Message
	}
	return "holdfast: " + string(e.Reason) + ": " + e.Message
}

// Is is for errors.Is.
func (e *Error) Is(target error) bool {
	switch target {
	case context.DeadlineExceeded:
		return e.Code == codes.DeadlineExceeded
	case context.Canceled:
		return e.Code == codes.Canceled
	}
	reason, ok := target.(Reason)
	return ok && reason != "" && reason == e.Reason
}

// GRPCStatus is for status.FromError.
func (e *Error) GRPCStatus() *grpcstatus.Status { return e.status }

// Available is how many units there were, of ErrInsufficientStock.
func (e *Error) Available() (units int64, ok bool) { return e.number("available") }

// Has is how many units the customer has, of ErrLimitExceeded and ErrAmountExceeded.
func (e *Error) Has() (units int64, ok bool) { return e.number("has") }

func (e *Error) number(key string) (int64, bool) {
	n, err := strconv.ParseInt(e.Metadata[key], 10, 64)
	return n, err == nil
}
