// Package holdfastv1 is the public contract of holdfast: generated from the
// protobuf files beside it, and the errors that it answers.
package holdfastv1

import (
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
)

// Domain is the domain of every ErrorInfo that holdfast makes (AIP-193).
const Domain = "holdfast"

// Reasons tell errors apart for programs; codes and messages are for protocols
// and people. They are part of the contract and never change their meaning.
const (
	// ReasonInvalidField: a field of the request breaks a rule of the contract.
	ReasonInvalidField = "INVALID_FIELD"
	// ReasonMalformedRequest: an HTTP request is none of the contract's, so that
	// there is no field to name; the message says what to change.
	ReasonMalformedRequest = "MALFORMED_REQUEST"
	// ReasonUnknownRegion: no shard has the name in the field region.
	ReasonUnknownRegion = "UNKNOWN_REGION"
	// ReasonTopologyUnavailable: the field region names a shard that is not known,
	// and etcd did not say whether it is new. Repeat with the same request_id.
	ReasonTopologyUnavailable = "TOPOLOGY_UNAVAILABLE"
	// ReasonRegionDraining: the shard in the field region takes no new purchases.
	ReasonRegionDraining = "REGION_DRAINING"
	// ReasonRequestIDReused: the request_id was used before with other content.
	ReasonRequestIDReused = "REQUEST_ID_REUSED"
	// ReasonProductExists: the product exists with another amount_in_storage.
	ReasonProductExists = "PRODUCT_EXISTS"
	// ReasonProductNotFound: there is no such product.
	ReasonProductNotFound = "PRODUCT_NOT_FOUND"
	// ReasonPurchaseNotFound: there is no such purchase.
	ReasonPurchaseNotFound = "PURCHASE_NOT_FOUND"
	// ReasonInsufficientStock: the units are not there. The metadata
	// `available` says how many were.
	ReasonInsufficientStock = "INSUFFICIENT_STOCK"
	// ReasonLimitExceeded: the purchase goes beyond a limit of its product; the metadata
	// name it, max_per_purchase or max_per_customer, and in the second case `has` says
	// how many units the customer has.
	ReasonLimitExceeded = "LIMIT_EXCEEDED"
	// ReasonPurchaseHeld: the purchase is only held: cancel it instead.
	ReasonPurchaseHeld = "PURCHASE_HELD"
	// ReasonPurchaseConfirmed: the purchase is confirmed already: return it instead of
	// cancelling it.
	ReasonPurchaseConfirmed = "PURCHASE_CONFIRMED"
	// ReasonPurchaseCancelled: the purchase was cancelled.
	ReasonPurchaseCancelled = "PURCHASE_CANCELLED"
	// ReasonHoldExpired: the hold has expired; of a confirmation: and the units are not
	// there any more.
	ReasonHoldExpired = "HOLD_EXPIRED"
	// ReasonPurchaseReturned: all of the purchase was returned.
	ReasonPurchaseReturned = "PURCHASE_RETURNED"
	// ReasonAmountExceeded: more is to be confirmed or returned than the customer has of
	// the purchase; the metadata `has` says how many units that are.
	ReasonAmountExceeded = "AMOUNT_EXCEEDED"
	// ReasonHoldTooLong: the hold would last longer than any may; the metadata
	// `latest_expire_time` says until when it may.
	ReasonHoldTooLong = "HOLD_TOO_LONG"
	// ReasonPurchaseInOrder: the purchase is a line of an order, which is confirmed and
	// cancelled as a whole.
	ReasonPurchaseInOrder = "PURCHASE_IN_ORDER"
	// ReasonOrderNotFound: there is no such order.
	ReasonOrderNotFound = "ORDER_NOT_FOUND"
	// ReasonOrderFailed: not all lines of the order were to be had, and none was kept; the
	// detail OrderFailure names those that were not.
	ReasonOrderFailed = "ORDER_FAILED"
	// ReasonOrderNotPlaced: not all lines of the order are held. Repeat CreateOrder with
	// its request_id.
	ReasonOrderNotPlaced = "ORDER_NOT_PLACED"
	// ReasonPaymentDeclined: the provider has declined the payment; the metadata `code`
	// says why. The units were given back.
	ReasonPaymentDeclined = "PAYMENT_DECLINED"
	// ReasonPaymentPending: the provider has not said in time whether it authorizes the
	// payment. Repeat with the same request_id.
	ReasonPaymentPending = "PAYMENT_PENDING"
	// ReasonToReadmit is what a worker tells a coordinator: the purchase has expired, and
	// the tenure of its product has to look whether the units are still there. The
	// metadata `product_id` names it. No caller sees it.
	ReasonToReadmit = "TO_READMIT"
	// ReasonNoWorker: no worker answered. Repeat with the same request_id.
	ReasonNoWorker = "NO_WORKER"
	// ReasonWorkerDraining: the worker is shutting down; another one answers.
	ReasonWorkerDraining = "WORKER_DRAINING"
	// ReasonShardUnavailable: a shard that the call needs did not answer; the
	// metadata `shard` names it. Repeat with the same request_id.
	ReasonShardUnavailable = "SHARD_UNAVAILABLE"
	// ReasonOverloaded: more purchases are under way than may be; this one was not
	// tried. The detail RetryInfo says when to repeat it.
	ReasonOverloaded = "OVERLOADED"
	// ReasonTokenMissing: the call has no token.
	ReasonTokenMissing = "TOKEN_MISSING"
	// ReasonTokenExpired: the token was valid once.
	ReasonTokenExpired = "TOKEN_EXPIRED"
	// ReasonTokenInvalid: the token is of somebody else, for somebody else, or none at all.
	ReasonTokenInvalid = "TOKEN_INVALID"
	// ReasonIssuerUnavailable: whoever issues the tokens does not answer, so that this one
	// cannot be checked. Repeat the call.
	ReasonIssuerUnavailable = "ISSUER_UNAVAILABLE"
	// ReasonRoleMissing: the token names no role that may do this.
	ReasonRoleMissing = "ROLE_MISSING"
	// ReasonOtherCustomer: a buyer acts only for the customer of the token.
	ReasonOtherCustomer = "OTHER_CUSTOMER"
	// ReasonRateExceeded: the caller makes more calls than he may, or has more streams open. The
	// detail RetryInfo says when to repeat this one.
	ReasonRateExceeded = "RATE_EXCEEDED"
	// ReasonTooManyWatches: as many watches are open as may be, of all callers or of this one.
	// The detail RetryInfo says when to repeat it.
	ReasonTooManyWatches = "TOO_MANY_WATCHES"
	// ReasonWebhookNotFound: there is no such webhook.
	ReasonWebhookNotFound = "WEBHOOK_NOT_FOUND"
	// ReasonFenced: the shards know newer tenures of the product than etcd, which
	// lost data or was restored from a backup. Nothing is sold until an operator
	// has repaired it.
	ReasonFenced = "FENCED"
	// ReasonLockUnavailable: the product's lock could not be had in time, since
	// etcd is away or another worker holds on to it. Repeat with the same
	// request_id.
	ReasonLockUnavailable = "LOCK_UNAVAILABLE"
)

// Error makes a status error with an ErrorInfo and further details.
func Error(code codes.Code, reason, message string, metadata map[string]string, details ...protoadapt.MessageV1) error {
	st := status.New(code, message)
	info := &errdetails.ErrorInfo{Reason: reason, Domain: Domain, Metadata: metadata}
	full, err := st.WithDetails(append([]protoadapt.MessageV1{info}, details...)...)
	if err != nil {
		return st.Err() // details that cannot be packed lose nothing but themselves
	}
	return full.Err()
}

// FieldError makes an INVALID_ARGUMENT that names the field.
func FieldError(reason, field, description string) error {
	return Error(codes.InvalidArgument, reason, field+": "+description, map[string]string{"field": field},
		&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: field, Description: description, Reason: reason},
		}})
}

// PurchaseNotFound says that there is no purchase with an id.
func PurchaseNotFound(id string) error {
	return notFound(ReasonPurchaseNotFound, "purchase", id)
}

// OrderNotFound says that there is no order with an id.
func OrderNotFound(id string) error { return notFound(ReasonOrderNotFound, "order", id) }

func notFound(reason, kind, id string) error {
	return Error(codes.NotFound, reason, fmt.Sprintf("%s_id: there is no %s %q", kind, kind, id), map[string]string{kind + "_id": id})
}

// IsTransient tells an error of what may be done when it is asked for once more, from a
// refusal.
func IsTransient(err error) bool {
	switch status.Code(err) {
	case codes.OK, codes.FailedPrecondition, codes.NotFound, codes.InvalidArgument:
		return false
	}
	return true
}

// Info returns the ErrorInfo of an error that holdfast made, or nil.
func Info(err error) *errdetails.ErrorInfo {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			return info
		}
	}
	return nil
}

// Reason returns the reason of an error that holdfast made, or "".
func Reason(err error) string { return Info(err).GetReason() }
