// Package client calls holdfast so that nothing is bought twice, or not at all, because an
// answer was lost. It owns connections to one or more coordinators, and has the methods of
// both services of the contract:
//
//	shop, err := client.New([]string{"eu.example:7070", "us.example:7070"},
//		client.Config{Credentials: credentials.NewTLS(nil)})
//	…
//	held, err := shop.CreatePurchase(ctx, &holdfastv1.CreatePurchaseRequest{…})
//	if errors.Is(err, client.ErrInsufficientStock) {
//		…
//	}
//
// # Promises
//
//   - Every call that changes something has a request_id before it is sent for the first
//     time: the caller's, or a new one. All attempts have the same, so holdfast does once
//     what it is asked for many times. In batches and streams each purchase has its own.
//   - A call ends by its context's deadline, or Config.Timeout after it began if the
//     context has none.
//   - An answer that is final ends the call at once: what was refused is not asked for
//     again.
//   - Messages of the caller are never changed. Two calls with the same message that has no
//     request_id are two purchases.
//
// # A call
//
//	          ┌───────────────── pause ◄─────────────┐
//	          ▼                                      │ no answer, UNAVAILABLE, ABORTED,
//	┌────────────────────┐                           │ RESOURCE_EXHAUSTED with RetryInfo
//	│ ask a coordinator  ├───────────────────────────┤
//	└─────────┬──────────┘                           │ time is up
//	          │ anything else                        ▼
//	          ▼                                  an *Error: perhaps it is done,
//	   the answer, or an *Error: final           perhaps not: Error.RequestID
//
// Pauses grow and are random; RetryInfo sets their least length. All calls of a client ask
// the same coordinator, until it does not answer one; then they ask the next. Of several
// coordinators none gets all of a call's time before each was asked.
//
// # Failures
//
//   - A request is lost, or its answer: the call is repeated, and the first outcome is
//     answered.
//   - A coordinator hangs: after Config.AttemptTimeout, or its share of the call's time, the
//     next one is asked, by this call and those that follow. With one coordinator the call
//     hangs until its deadline.
//   - The time is up: the last error that somebody told, or DEADLINE_EXCEEDED when nobody
//     has told any. The call may have been done. To find out, repeat it with the
//     RequestID of the error.
//   - The caller leaves: CANCELED, and the same holds.
//   - Some purchases of a batch get no answer: only those are repeated. When the time is up
//     the call succeeds, with their errors in the results: see FromStatus.
//   - A stream breaks: its purchases are not repeated, since answers may be on their way.
//     Send what was not answered on another stream, with the same request_ids; so set them
//     yourself there, which also tells the answers apart. A stream has no deadline of the
//     client's.
//
// It does not spread calls over coordinators: have many clients, or a load balancer, for
// that. It does not say what it repeats.
package client
