// Package bench measures how fast holdfast sells, beside what people do today
// without it, and beside the most that the same database could store.
//
// # What it measures
//
// A [Workload] says what is bought: one hot product, a hundred thousand, real
// orders, one product with a long history, two regions far apart; holds that are
// confirmed, orders of several lines, purchases beside others that are paid. A strategy
// says how: by one of the usual ways to guard a check (a row lock, a conditional
// update, SERIALIZABLE, an advisory lock, prepared transactions, a mutex in
// etcd), by one of holdfast's own calls, or by inserting the rows without any
// check, which is the ceiling: nobody who stores these rows can be faster.
//
// # What it promises
//
//   - All strategies use the same servers, the same columns and indexes, and the
//     same durability: every server syncs to disk before it confirms.
//   - Each gets its best: a usual way is tried with several numbers of buyers,
//     the ceiling in several forms, and only the fastest is measured.
//   - Repetitions are interleaved, so that what else the machine does meets all
//     strategies alike; the figures are medians, with the lowest and the highest.
//   - The tables of a usual way are its own, and holdfast's are holdfast's, so
//     that nobody pays for the rows of another strategy.
//   - Latencies count from the moment a purchase was due, not from when there was
//     time to send it, wherever a rate is given.
//   - What was sold is recounted from the rows, and held against the storage.
//
// # What it does not
//
// The buyers run in this process, on the machine of the servers when those are
// local, and take their share of it: client CPU is measured too. It knows
// nothing of how holdfast works, tunes nothing, and never fails because
// something is slow, but for the one promise that a workload is about: a slow
// payment provider slows down nobody who does not pay.
package bench
