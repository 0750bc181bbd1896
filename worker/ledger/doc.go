// Package ledger is the only SQL of holdfast: what is stored in a shard, and
// the few transactions that may change it.
//
// # What it owns
//
// A [Shard] is one Postgres database. It stores every product, the purchases
// of some customers and what became of each, deliveries, and for each product
//
//   - a fence: the newest (topology, token) seen there, the tenure that brought
//     it, and purchased, the running total of what tenures have taken here: sold,
//     held, readmitted, found missing;
//   - released, the running total of what was given back here: cancelled, expired,
//     returned, delivered. It is a row of its own, so that whoever gives back and
//     whoever sells do not wait for each other.
//
// Both totals only grow. What may be sold is the storage less purchased plus released,
// over all shards; who reads released late sells less, never more. Triggers move the
// totals in the transaction that moves the rows, whoever sends it, so they never differ
// from their sums; [Audit] recounts the rows and says so if they do, and [Repair] mends
// what it may.
//
// Locks are taken in one order: an order, purchases by id, payments, releases by product,
// fences by product, tasks of payments.
//
// # What it promises
//
//   - [Shard.Raise] admits a tenure only over an older (topology, token), and
//     answers the total as the newest committed row version has it. Once it has
//     answered, no older tenure changes anything in this shard.
//   - [Shard.Commit] writes purchases only under fences that are still their
//     tenure's, all in one transaction and one round trip (another one when it meets
//     what is stored already, or a fence that was raised), and tells for each purchase
//     whether it was inserted, met an earlier one with the same request id, or was
//     fenced. A trigger of the database sees to it: purchases that do not name the
//     tenure of their fence are refused, whoever sends them.
//   - [Shard.Verify] expires the holds of a product whose time is up, and then tells
//     whether a tenure is still current, what an earlier request has become, and what
//     was given back.
//   - [Shard.Change] does to purchases what their customers ask for, without a fence,
//     since it never takes units: once for each request id, sets as a whole or not at
//     all, in two round trips. A purchase that expired is confirmed by [Shard.Readmit],
//     under the fence, since that takes its units anew.
//   - [Shard.ExpireDue] gives back the holds whose time is up, by the shard's clock. Of
//     an expiry and a confirmation that meet, one happens.
//
// Why the fence statement reads a running total, and does not sum rows: an
// INSERT … ON CONFLICT DO UPDATE waits for the row lock of a batch in flight
// and then sees the newest row version, while any other table in the same
// statement is read as of the statement's start. A sum over purchases there
// misses what was committed while the statement waited, in a CTE as well as
// under REPEATABLE READ and SERIALIZABLE.
//
// # Failures
//
//	what happens                         what the caller gets   what is in the shard
//	no connection, nothing was sent      ErrNotSent             nothing
//	the database refuses a statement     *RefusedError          nothing, rolled back
//	the connection breaks, or time runs  ErrAmbiguous           all of the batch or
//	  out, before the batch is answered                         nothing, perhaps later
//	the fence has a newer tenure         ErrFenced, or outcome  nothing of that product
//	                                     Fenced in a batch
//	a change of a purchase is refused    an error of its own,   nothing of its set
//	                                     in the answer
//	the connection breaks in a change    ErrAmbiguous           all of it or nothing; a
//	                                                            repetition waits for which
//
// It does not decide who sells (worker does, under a lock of lockmgr), it keeps
// no state between calls, and it knows nothing of etcd.
package ledger
