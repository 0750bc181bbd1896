// Package carts sells the carts of a real shop through a whole holdfast that takes the
// money for them, while the provider of payments declines, dawdles and loses answers and
// workers are killed; and then holds every order against the provider's ledger.
//
// It owns the customers, the killer and the figures. The carts are package replay's, the
// servers package local's, the comparison package books'. Customers do as any caller
// should: they repeat a call with the same request id until they have an answer. What they
// were told is compared with the rows as well.
//
// One customer does one thing after the other, in the order of the file; different ones
// shop at once.
package carts
