// Package stripe is a payment.Provider on Stripe's PaymentIntents, for cards.
//
// # How a payment is kept
//
// A payment is one PaymentIntent with capture_method=manual. It is made and confirmed in two
// calls, each under an idempotency key that follows from payment.Payment.Key. Making it
// touches no card: so whoever has nothing but the key finds the intent by making it again,
// which answers the one there is, or makes one that does nobody any harm. Had it been
// confirmed while it is made, looking for a payment to void it would hold the
// money of a customer who was never asked for it.
//
//	Authorize   make, confirm
//	Void        make, cancel                a cancelled intent can never be confirmed,
//	                                        whatever arrives later: that is the definite void
//	Capture     make, capture
//	Refund      make, list refunds, refund
//	LookUp      make, list refunds
//
// "make" is a read when Payment.Reference is known, which is the intent's id. An answer that
// Stripe repeats from memory (Idempotent-Replayed) is as old as the first one, so the intent
// is read again after it. Metadata holdfast_key, holdfast_method and holdfast_refund tell
// people, and searches, what is whose.
//
// Capture and cancel have no lasting idempotency key: the state of the intent lets each happen
// once, and Stripe would repeat a failure that it has saved under a key for a day. Confirm has
// one because a declined intent may be confirmed again; refunds have one because they may be
// repeated.
//
// # When Stripe has forgotten the key
//
// Stripe keeps idempotency keys for at least 24 hours; the same call later would make a second
// intent (https://docs.stripe.com/api/idempotent_requests). Searches find all intents by their
// metadata, but only about a minute after they were made, and at times later. So a payment is
// found by its key in the first [KeyLife] after Payment.Begun, and by a search from then on, when
// no intent can be new: Authorize is refused by then (payment.ReasonTooLate). Callers that differ
// by an hour in their clocks still agree. Nothing else ends with the day: a void, capture or
// refund may come at any time.
//
// Stripe itself lets go of what is authorized after some days, seven for most cards; that
// is payment.Voided too, and the error's Code is Stripe's reason.
//
// # Failures
//
//	at Stripe                                      here
//	card_error                                     *payment.DeclinedError with its decline_code
//	an intent that asks the customer to act        cancelled; *payment.DeclinedError with
//	                                               authentication_required
//	another invalid request                        *payment.RefusedError with its code
//	another call under way with the key (409), or  repeated a few times, with pauses
//	  on the object (429 lock_timeout)
//	no answer, 5xx, too many calls, credentials    payment.ErrUnknown
//	  that are wrong
//
// Void is nil for what Stripe refuses to make for its amount or currency: there is none. If it is
// for another reason, as an account that was closed since, making it does not tell; the void is
// ErrUnknown then, until a search can tell.
//
// Customers who have to act (3-D Secure) are not supported: a purchase does not wait for them.
//
// The secret key is in no error and no log. The texts of errors are made here from Stripe's
// code, message and request id: those of stripe-go hold the whole intent with its client secret.
package stripe
