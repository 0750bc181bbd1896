package payment

import (
	"fmt"
	"strings"
	"time"
)

// maxKey keeps a key short enough for what providers add to it: Stripe takes 255 bytes.
const maxKey = 128

// Money is an amount of a currency.
type Money struct {
	// Currency is an ISO 4217 code. Checked payments have it in upper case.
	Currency string
	// MinorUnits is the amount in the currency's smallest unit, as cents; above zero.
	MinorUnits int64
}

// Checked is the money with its currency in upper case, or a [RefusedError].
func (m Money) Checked() (Money, error) {
	m.Currency = strings.ToUpper(m.Currency)
	if len(m.Currency) != 3 || strings.Trim(m.Currency, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return Money{}, invalid("currency %q is not a code of ISO 4217", m.Currency)
	}
	if m.MinorUnits <= 0 {
		return Money{}, invalid("amount %d is not above zero", m.MinorUnits)
	}
	return m, nil
}

// String is like "1250 EUR": minor units, as no table of the currencies' decimals is kept.
func (m Money) String() string { return fmt.Sprintf("%d %s", m.MinorUnits, m.Currency) }

// Payment is what every call about one payment carries. All calls under one key carry the
// same payment; only Reference may be missing in some.
type Payment struct {
	// Key is the idempotency key: made from the id of the purchase or order, 1 to 128
	// visible ASCII characters without quotes and backslashes.
	Key string
	// Method is the provider's token of the customer's means of payment.
	Method string
	// Money is what Authorize asks for. Captures and refunds are of its currency.
	Money
	// Begun is when the key was made, as the caller has stored it with the key.
	Begun time.Time
	// Reference is what Authorize returned, if the caller knows it. It saves the
	// provider finding the payment; it never changes what a call means.
	Reference string
}

// Checked is the payment with its currency in upper case, or a [RefusedError].
func (p Payment) Checked() (Payment, error) {
	if err := CheckKey(p.Key); err != nil {
		return Payment{}, err
	}
	money, err := p.Money.Checked()
	if err != nil {
		return Payment{}, err
	}
	if p.Begun.IsZero() {
		return Payment{}, invalid("payment %s has no time at which it began", p.Key)
	}
	p.Money = money
	return p, nil
}

// CheckKey is nil, or a [RefusedError], for the key of a payment or a refund.
func CheckKey(key string) error {
	if key == "" || len(key) > maxKey {
		return invalid("key of %d bytes is not of 1 to %d", len(key), maxKey)
	}
	if !visible(key) || strings.ContainsAny(key, `'"\`) {
		return invalid("key %q has more than visible ASCII, or a quote or backslash", key)
	}
	return nil
}

// visible tells whether a text is of ASCII that prints, without spaces.
func visible(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}

// State is how far a payment is.
type State string

// The states of a payment.
const (
	// Nothing: no Authorize or Void has arrived. An Authorize may be on its way.
	Nothing    State = "nothing"
	Authorized State = "authorized"
	Captured   State = "captured" // refunded or not
	Voided     State = "voided"
	Declined   State = "declined"
)

// Status is what a provider knows of a payment. All amounts are minor units.
type Status struct {
	State State `json:"state"`
	// Reference is the provider's own name of the payment, if it has one already.
	Reference string `json:"reference,omitempty"`
	// Authorized is what the customer's money was held for, also when it was captured or
	// let go since.
	Authorized int64 `json:"authorized"`
	Captured   int64 `json:"captured"`
	Refunded   int64 `json:"refunded"`
}
