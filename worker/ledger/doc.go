// Package ledger is the only SQL of holdfast: what is stored in a shard, and
// the few transactions that may change it.
//
// # What it owns
//
// A [Shard] is one Postgres database. It stores every product, the purchases
// of some customers, and for each product a fence: the newest (topology,
// token) seen there, the tenure that brought it, and purchased, the running
// total of what this shard has sold. The total is moved in the transaction
// that moves the rows, so it never differs from their sum; [Audit] recounts
// the rows and says so if it does.
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
//   - [Shard.Verify] tells, in one snapshot, whether a tenure is still current
//     and what an earlier request has become.
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
//
// It does not decide who sells (worker does, under a lock of lockmgr), it keeps
// no state between calls, and it knows nothing of etcd.
package ledger
