package coordinator

import (
	"context"
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// maxInStream bounds the purchases of one stream that are under way; the caller's
// next one is read when one of them is answered.
const maxInStream = 1024

type purchaseStream = grpc.BidiStreamingServer[holdfastv1.StreamPurchasesRequest, holdfastv1.StreamPurchasesResponse]

// StreamPurchases answers each purchase of the stream as CreatePurchase would,
// all of them at once. When the coordinator stops, it answers what it has read
// and ends the stream as UNAVAILABLE.
func (s *service) StreamPurchases(stream purchaseStream) error {
	ended := make(chan struct{})
	defer close(ended)
	requests, readErr := received(stream, ended)
	// What was read is answered even when the stream's context ends because the
	// coordinator stops.
	ctx := context.WithoutCancel(stream.Context())
	var (
		underWay sync.WaitGroup
		room     = make(chan struct{}, maxInStream)
		sending  sync.Mutex
	)
	for {
		select {
		case room <- struct{}{}:
		case <-stream.Context().Done():
			underWay.Wait()
			return errStreamStopped
		}
		select {
		case <-stream.Context().Done():
			underWay.Wait()
			return errStreamStopped
		case req, ok := <-requests:
			if !ok {
				underWay.Wait()
				return *readErr
			}
			underWay.Go(func() {
				answer := s.streamed(ctx, req.GetPurchase())
				sending.Lock()
				_ = stream.Send(answer) // fails only when the caller is gone
				sending.Unlock()
				<-room
			})
		}
	}
}

var errStreamStopped = status.Error(codes.Unavailable, "the stream has ended; send what was not answered again")

// received reads a stream until it ends; then the channel is closed, and the
// error is set unless the caller ended it.
func received(stream purchaseStream, ended <-chan struct{}) (<-chan *holdfastv1.StreamPurchasesRequest, *error) {
	requests := make(chan *holdfastv1.StreamPurchasesRequest)
	var readErr error
	go func() {
		defer close(requests)
		for {
			req, err := stream.Recv()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					readErr = err
				}
				return
			}
			select {
			case requests <- req:
			case <-ended:
				return
			}
		}
	}()
	return requests, &readErr
}

// streamed is one answer of a stream.
func (s *service) streamed(ctx context.Context, req *holdfastv1.CreatePurchaseRequest) *holdfastv1.StreamPurchasesResponse {
	answer := &holdfastv1.StreamPurchasesResponse{RequestId: req.GetRequestId()}
	var purchase *holdfastv1.Purchase
	err := errNoRequestID
	if req.GetRequestId() != "" {
		purchase, err = s.CreatePurchase(ctx, req)
	}
	if err != nil {
		answer.Result = &holdfastv1.StreamPurchasesResponse_Error{Error: status.Convert(err).Proto()}
		return answer
	}
	answer.Result = &holdfastv1.StreamPurchasesResponse_Purchase{Purchase: purchase}
	return answer
}

var errNoRequestID = holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "request_id",
	"is required in a stream: it tells the answers apart")
