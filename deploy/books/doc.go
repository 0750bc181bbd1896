// Package books holds what the shards say of orders against what a provider of payments
// says of their money, to the smallest unit.
//
// It owns the comparison and the few statements that read what it compares. It promises to
// believe nobody: what should have been captured and refunded is counted from the history
// of the units ([Order.Due], [Order.Back]), and both the rows of the payment and the
// provider's entry must agree with that. It never asks holdfast.
//
// It reads and changes nothing; and it finds differences where there are none as long as
// something is under way, so [Shards.AwaitSettled] comes first.
package books
