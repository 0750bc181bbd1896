// Package payment is what holdfast asks of whoever moves the customers' money: a
// [Provider]. It promises enough for a worker that may be killed between any two
// lines, and for another one that goes on with what it left behind.
//
// # States
//
//	                    Authorize                Capture
//	(nothing known) ───────────────► authorized ─────────► captured ──► refunded, in parts
//	       │   │                         │
//	       │   └─────────► declined      │ Void
//	       │    Authorize                ▼
//	       └─────────────────────────► voided
//	                 Void
//
// Declined and voided are final. A capture may take less than was authorized; it takes
// once, and the rest is let go. Refunds take back parts of what was captured.
//
// # What a provider promises
//
//   - Every call may be repeated, at any time, by anybody, also while the first one is
//     under way. [Payment.Key] names the payment; a refund has a key of its own. A
//     repeated call answers what the first one came to and moves no money again.
//   - The same key with another amount, currency or method is refused and moves nothing.
//   - Void is definite. Once Void has returned nil, no money is authorized under the key
//     and none can be any more, also not by an Authorize that is still on its way through
//     the network, nor by one that is sent later. So who crashed between sending an
//     Authorize and noting it needs not find out whether it arrived.
//   - A captured payment cannot be voided, and a voided one cannot be captured: both are a
//     [RefusedError] that says so. Of a Void and a Capture that race, one is refused.
//   - Captured is at most authorized, and refunded at most captured.
//
// # Failures
//
//	what the caller gets   what is true                       what to do
//	nil                    it is done                         go on
//	*DeclinedError         it is not done and never will be   tell the customer
//	                       under this key
//	*RefusedError          this call did nothing, and is a    do not repeat it; Reason says
//	                       mistake of ours                    what to do instead
//	ErrUnknown             it may be done, or be done later   repeat it, or void
//
// Every error is one of these three kinds. Wrong credentials, limits of rate and servers
// that are away are ErrUnknown too: repeating is right, once somebody has mended them.
//
// # Time
//
// A call ends with its context, and then is ErrUnknown; [Within] gives each call a limit.
// A provider may remember idempotency keys for a day only, so it is told when a payment
// began ([Payment.Begun]): it refuses to authorize what it may no longer recognise, and
// finds the payment in another way for all other calls.
//
// This package stores nothing and repeats nothing: that is its caller's, who must know
// after a crash which payments it had begun.
package payment
