// Package linktest stands in for workers in tests of what uses a link.
package linktest

import (
	"context"

	"google.golang.org/grpc"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/link"
)

// Worker is a worker's end of all its links. It has sell decide each purchase, in a
// goroutine of its own.
func Worker(
	sell func(context.Context, *holdfastv1.CreatePurchaseRequest) (*holdfastv1.Purchase, error), limit int,
) *link.Server {
	return link.NewServer(func(s *link.Sale) {
		go func() {
			p, err := sell(s.Context(), s.Request)
			s.Answer(Stored(p), err)
		}()
	}, limit)
}

// Stored is what a link tells of a purchase.
func Stored(p *holdfastv1.Purchase) link.Stored {
	stored := link.Stored{
		PurchaseID: p.GetPurchaseId(), State: p.GetState(), CreateTime: p.GetCreateTime().AsTime(), Released: p.GetAmountReleased(),
	}
	if p.GetExpireTime() != nil {
		stored.ExpireTime = p.GetExpireTime().AsTime()
	}
	return stored
}

// Mute is a connection to a worker that takes everything in and says nothing.
type Mute struct{ grpc.ClientConnInterface }

// NewStream implements grpc.ClientConnInterface.
func (Mute) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return muteStream{ctx: ctx}, nil
}

type muteStream struct {
	grpc.ClientStream
	ctx context.Context
}

func (s muteStream) SendMsg(any) error { return nil }

func (s muteStream) RecvMsg(any) error {
	<-s.ctx.Done()
	return s.ctx.Err()
}
