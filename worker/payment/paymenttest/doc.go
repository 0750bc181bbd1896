// Package paymenttest is what every payment.Provider must pass.
//
// [Run] checks each promise of package payment by itself, and what becomes of it when any
// one request or reply of any call is lost, or arrives after everybody has given up on it.
// [Sequences] does so with calls and losses in random order.
//
// The provider under test sends its calls through a [Network], which loses them.
package paymenttest
