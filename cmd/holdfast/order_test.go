package main

import "testing"

func TestOrderLinesAreReadFromArguments(t *testing.T) {
	for text, want := range map[string]struct {
		product       string
		amount, price int64
		priced        bool
	}{
		"chair=4":      {"chair", 4, 0, false},
		"chair=4@4999": {"chair", 4, 4999, true},
		"a=b@c=1@0":    {"a=b@c", 1, 0, true},
		"chair":        {},
		"=1":           {},
		"chair=x":      {},
		"chair=1@4.99": {},
		"chair=1@":     {},
	} {
		got, err := orderLine(text, "EUR")
		if (err != nil) != (want.product == "") {
			t.Errorf("%s: %v", text, err)
		}
		if err == nil && (got.GetProductId() != want.product || got.GetAmount() != want.amount ||
			got.GetUnitPrice().GetMinorUnits() != want.price || (got.GetUnitPrice() != nil) != want.priced) {
			t.Errorf("%s: %v", text, got)
		}
	}
}
