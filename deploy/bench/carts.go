package bench

import (
	"context"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// asOneOrder is the form of a strategy whose calls have one outcome for all they ask for.
const asOneOrder = "orders"

// carts is one CreateOrder for all orders of a call: they are its lines.
type carts struct {
	calls
	requests []*holdfastv1.CreateOrderRequest // by buyer
}

func newCarts(s *servers) Strategy { return &carts{calls: calls{servers: s}} }

// ofLines is one candidate, whose buyers put so many lines into an order.
func ofLines(lines int) func(int) []candidate {
	return func(buyers int) []candidate {
		return []candidate{{buyers: buyers, batch: lines, form: asOneOrder, open: newCarts}}
	}
}

// Prepare implements Strategy.
func (c *carts) Prepare(_ context.Context, buyers int) error {
	for range buyers {
		c.requests = append(c.requests, &holdfastv1.CreateOrderRequest{})
	}
	return c.dial()
}

// Buy implements Strategy. The first line says whose order it is, and where.
func (c *carts) Buy(ctx context.Context, buyer int, lines []Order, outcomes []error) {
	request, first := c.requests[buyer], &lines[0]
	request.CustomerId, request.RequestId, request.Region = first.Customer, first.Request, c.servers.region(first)
	request.Lines = request.Lines[:0]
	for i := range lines {
		request.Lines = append(request.Lines, &holdfastv1.OrderLine{ProductId: lines[i].Product, Amount: lines[i].Amount})
	}
	client := holdfastv1.NewOrderServiceClient(c.conns[buyer%len(c.conns)])
	_, err := client.CreateOrder(ctx, request)
	for i := range lines {
		outcomes[i] = outcome(err)
	}
}
