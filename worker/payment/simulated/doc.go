// Package simulated is a provider of payments that moves no money, and fails on demand: a
// [Server] over HTTP with a ledger in memory, and its [Client], a payment.Provider.
//
// It stands where a real provider would: outside of the workers, so that its ledger
// survives them when they are killed, and behind a network that loses requests and
// answers. What it has recorded is read back with [Client.Ledger], and compared with what
// the shards say. A server that is killed has lost its ledger.
//
// # What it owns
//
// The ledger: for each key an [Entry] with its amounts, how often it was called, and how
// often somebody tried to move its money a second time. That is impossible, and counted,
// so that a test can tell "was not tried" from "was prevented". A Void of a key that is not
// known leaves a tombstone, which refuses any Authorize that comes after it.
//
// # Failures on demand
//
// [Faults] has a probability for each kind, set at the start or by PUT /faults. Which calls
// fail follows from the seed, the key, the method called and how often it was called for
// that key; so a run can be repeated, whatever order its calls arrive in, and a call that
// failed succeeds sooner or later when it is repeated.
//
// For demos, the token of the customer's method decides what happens to Authorize:
//
//	ok, or none   authorized
//	decline       declined
//	slow          authorized after Faults.Delay
//	timeout       authorized at once, answered after Faults.Timeout the first time
//	lost          authorized, and the connection dropped the first time
//
// # Paths
//
//	POST /payments/{authorize,capture,void,refund,lookup}
//	GET  /ledger?after=0&limit=1000   entries by Number, and next: the after of the
//	                                  next page, 0 when there is none
//	GET, PUT /faults
//
// Anybody who can reach it can call it: it is for loopback.
package simulated
