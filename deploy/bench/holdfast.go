package bench

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// connections that the buyers share: one alone would have all of them wait for
// its one writer.
const connections = 4

// calls is what strategies over gRPC have in common.
type calls struct {
	servers *servers
	conns   []*grpc.ClientConn
}

func (c *calls) dial() error {
	for range connections {
		conn, err := grpc.NewClient(c.servers.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		c.conns = append(c.conns, conn)
	}
	return nil
}

// client is the one that a buyer uses.
func (c *calls) client(buyer int) holdfastv1.PurchaseServiceClient {
	return holdfastv1.NewPurchaseServiceClient(c.conns[buyer%len(c.conns)])
}

// Close ends the connections.
func (c *calls) Close() {
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

// fill writes an order into a request, which is used again for each order.
func (s *servers) fill(request *holdfastv1.CreatePurchaseRequest, o *Order) {
	request.ProductId, request.Amount, request.CustomerId = o.Product, o.Amount, o.Customer
	request.RequestId, request.Region = o.Request, s.region(o)
}

// region is the name of the shard of an order.
func (s *servers) region(o *Order) string { return s.shards[o.Region%len(s.shards)] }

// outcome is what an answer of holdfast means to a buyer.
func outcome(err error) error {
	if err != nil && holdfastv1.Reason(err) == holdfastv1.ReasonInsufficientStock {
		return ErrSoldOut
	}
	return err
}

// unary is one CreatePurchase for each order.
type unary struct {
	calls
	requests []*holdfastv1.CreatePurchaseRequest // by buyer
}

func newUnary(s *servers) Strategy { return &unary{calls: calls{servers: s}} }

// Prepare implements Strategy.
func (u *unary) Prepare(_ context.Context, buyers int) error {
	for range buyers {
		u.requests = append(u.requests, &holdfastv1.CreatePurchaseRequest{})
	}
	return u.dial()
}

// Buy implements Strategy.
func (u *unary) Buy(ctx context.Context, buyer int, orders []Order, outcomes []error) {
	request, client := u.requests[buyer], u.client(buyer)
	for i := range orders {
		u.servers.fill(request, &orders[i])
		_, err := client.CreatePurchase(ctx, request)
		outcomes[i] = outcome(err)
	}
}

// batches is one BatchCreatePurchases for all orders of a call.
type batches struct {
	calls
	requests []*holdfastv1.BatchCreatePurchasesRequest // by buyer
}

func newBatch(s *servers) Strategy { return &batches{calls: calls{servers: s}} }

// Prepare implements Strategy.
func (b *batches) Prepare(_ context.Context, buyers int) error {
	for range buyers {
		b.requests = append(b.requests, &holdfastv1.BatchCreatePurchasesRequest{})
	}
	return b.dial()
}

// Buy implements Strategy.
func (b *batches) Buy(ctx context.Context, buyer int, orders []Order, outcomes []error) {
	request := b.requests[buyer]
	for len(request.Requests) < len(orders) {
		request.Requests = append(request.Requests, &holdfastv1.CreatePurchaseRequest{})
	}
	request.Requests = request.Requests[:len(orders)]
	for i := range orders {
		b.servers.fill(request.Requests[i], &orders[i])
	}
	response, err := b.client(buyer).BatchCreatePurchases(ctx, request)
	for i := range outcomes {
		if err != nil {
			outcomes[i] = err
			continue
		}
		outcomes[i] = outcome(status.ErrorProto(response.GetResults()[i].GetError()))
	}
}
