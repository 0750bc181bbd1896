package replay

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// Every line of the file is in a cart or counted as skipped, and none twice.
func TestRealCartsHaveEveryLine(t *testing.T) {
	carts, err := RealCarts()
	if err != nil {
		t.Fatal(err)
	}
	orders, err := RealOrders()
	if err != nil {
		t.Fatal(err)
	}
	lines, returns, units := 0, 0, int64(0)
	for _, cart := range carts.Carts {
		if cart.Return {
			returns += len(cart.Lines)
			continue
		}
		lines += len(cart.Lines)
		split := int64(0)
		for _, order := range cart.Split(100) {
			if len(order) == 0 || len(order) > 100 {
				t.Errorf("invoice %s has an order of %d lines", cart.Invoice, len(order))
			}
			for _, line := range order {
				split += line.Amount
			}
		}
		for _, line := range cart.Lines {
			units += line.Amount
			split -= line.Amount
		}
		if split != 0 {
			t.Errorf("invoice %s: its orders have %d units more than it", cart.Invoice, split)
		}
	}
	if lines != len(orders.Lines) || returns != 98 || units != 90387 || carts.Skipped[NotAProduct] != 38 {
		t.Errorf("%d lines, %d returns, %d units, skipped %v", lines, returns, units, carts.Skipped)
	}
	if !maps.Equal(carts.Demand(), orders.Demand()) {
		t.Error("carts and lines do not have the same demand")
	}
}

func TestCartIsSplitByPriceAndLength(t *testing.T) {
	cart := Cart{Lines: []CartLine{{1, "p", 1, 5}, {2, "q", 2, 5}, {3, "p", 3, 5}, {4, "p", 4, 6}, {5, "r", 5, 5}, {6, "p", 6, 6}}}
	got := cart.Split(2)
	want := [][]CartLine{{{1, "p", 4, 5}, {2, "q", 2, 5}}, {{4, "p", 10, 6}, {5, "r", 5, 5}}}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %v, want %v", got, want)
	}
	if cart.Lines[0].Amount != 1 {
		t.Error("the cart itself was changed")
	}
}

func TestPricesAreReadToThePenny(t *testing.T) {
	for text, want := range map[string]int64{"2.55": 255, "3": 300, "0.4": 40, "0.001": 1, "0": 0, "1.10": 110} {
		if got, err := parsePrice(text); got != want || err != nil {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-1", "1.-5", "1.2345", "x"} {
		_, err := ReadCarts(strings.NewReader(fmt.Sprintf(
			"InvoiceNo,StockCode,Quantity,UnitPrice,CustomerID,Country\n1,10000,1,%s,,UK\n", text)))
		if err == nil || !strings.Contains(err.Error(), "line 2: column UnitPrice") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
