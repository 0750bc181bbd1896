package coordinator_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

// What cannot be an order reaches no worker, and its sender learns which field is wrong.
func TestMalformedOrderIsRefused(t *testing.T) {
	line := func(product, currency string, price int64) *holdfastv1.OrderLine {
		l := &holdfastv1.OrderLine{ProductId: product, Amount: 1}
		if currency != "" {
			l.UnitPrice = &holdfastv1.Money{CurrencyCode: currency, MinorUnits: price}
		}
		return l
	}
	many := make([]*holdfastv1.OrderLine, 101)
	for i := range many {
		many[i] = line("p", "", 0)
	}
	huge := &holdfastv1.OrderLine{ProductId: "p", Amount: 1 << 53, UnitPrice: &holdfastv1.Money{CurrencyCode: "EUR", MinorUnits: 2}}
	f := openFront(t, coordinator.Config{}, "a")
	for name, tt := range map[string]struct {
		lines []*holdfastv1.OrderLine
		pays  string
		field string
	}{
		"no lines":               {nil, "", "lines"},
		"too many lines":         {many, "", "lines"},
		"another price":          {[]*holdfastv1.OrderLine{line("p", "EUR", 1), line("p", "EUR", 2)}, "simulated", "lines[1].unit_price"},
		"one without a price":    {[]*holdfastv1.OrderLine{line("p", "EUR", 1), line("p", "", 0)}, "simulated", "lines[1].unit_price"},
		"another currency":       {[]*holdfastv1.OrderLine{line("p", "EUR", 1), line("q", "USD", 1)}, "simulated", "lines[1].unit_price"},
		"no currency":            {[]*holdfastv1.OrderLine{line("p", "euros", 1)}, "simulated", "lines[0].unit_price.currency_code"},
		"a price and no payment": {[]*holdfastv1.OrderLine{line("p", "EUR", 1)}, "", "payment_method"},
		"more than can be paid":  {[]*holdfastv1.OrderLine{huge}, "simulated", "lines"},
		"no product":             {[]*holdfastv1.OrderLine{line("", "", 0)}, "", "lines[0].product_id"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := holdfastv1.NewOrderServiceClient(f.conn).CreateOrder(t.Context(), &holdfastv1.CreateOrderRequest{
				Lines: tt.lines, CustomerId: "ann", PaymentMethod: tt.pays,
			})
			if status.Code(err) != codes.InvalidArgument || holdfastv1.Info(err).GetMetadata()["field"] != tt.field {
				t.Errorf("got %v, want that %s is named", err, tt.field)
			}
			if calls := f.shop.takeCalls(); len(calls) > 0 {
				t.Errorf("%v reached a worker", calls)
			}
		})
	}
}
