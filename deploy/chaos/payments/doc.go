// Package payments kills workers at each step of a payment, as often as wanted, and then
// holds every order against the provider's ledger.
//
// It owns the steps (a table of named values), the points at which a call can be stopped,
// and the figures; the comparison is package books'. Real processes are killed (SIGKILL),
// and no code of holdfast is different for it. A call is stopped in one of two places:
//
//   - at the provider, whose handler is wrapped (till): before a call is done, or before it
//     is answered;
//   - in the database, where the harness holds what the next statement needs (lock): a row,
//     or a key that the trigger is about to insert.
//
// What waits in the database when its client is killed may happen nevertheless, since
// Postgres looks for its client only afterwards. Of two kills one ends the waiting sessions
// first, so that both are met: the statement that was never carried out, and the one whose
// outcome nobody was told.
//
// Rounds are orders. Many are stopped at the same step, and one kill is theirs in common.
// After it the buyers of half of them repeat their call, and the others never come back.
package payments
