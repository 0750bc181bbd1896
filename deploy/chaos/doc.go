// Package chaos sells through a whole holdfast while it breaks its parts, and
// then judges what the buyers were told.
//
// It owns the faults (a table of named values), the schedule drawn from a seed,
// the network of proxies between the processes, the buyers, and the checker. A
// run reads: a world is started, buyers buy, faults are injected and healed,
// everything must be sellable again, the history is judged.
//
// What it promises:
//
//   - the verdict rests on what buyers were told and on the rows that the shards
//     hold at the end, never on what holdfast says of itself;
//   - one seed draws one schedule. The machine's timing is not part of the seed:
//     a run repeats its faults, not its interleavings;
//   - a control without fencing, which forgets what is given back, has buyers and a
//     checker like a run, which must find it overselling and refusing what is there: a
//     checker that finds nothing anywhere is broken.
//
// It knows nothing of how a worker keeps its promises, and changes no code of it:
// the control's faults are made in its own throw-away databases.
package chaos
