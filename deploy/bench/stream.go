package bench

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// streams is StreamPurchases: a few streams that all buyers share, as the
// handlers of a shop's server would.
type streams struct {
	calls
	stop    context.CancelFunc
	streams []*purchaseStream
	buyers  []*streamBuyer
	readers sync.WaitGroup
}

// purchaseStream is one stream, which one buyer at a time may write.
type purchaseStream struct {
	grpc.BidiStreamingClient[holdfastv1.StreamPurchasesRequest, holdfastv1.StreamPurchasesResponse]
	writing sync.Mutex
	broken  chan struct{} // closed when no more answers come, with the reason in err
	err     error
}

// streamBuyer is one buyer, who has one order under way.
type streamBuyer struct {
	stream  *purchaseStream
	request *holdfastv1.CreatePurchaseRequest
	answer  chan error
	mark    string // put before request ids: whose the answer is
}

func newStream(s *servers) Strategy { return &streams{calls: calls{servers: s}} }

// Prepare implements Strategy.
func (s *streams) Prepare(ctx context.Context, buyers int) error {
	if err := s.dial(); err != nil {
		return err
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	for i := range s.conns {
		client, err := s.client(i).StreamPurchases(ctx)
		if err != nil {
			return err
		}
		stream := &purchaseStream{BidiStreamingClient: client, broken: make(chan struct{})}
		s.streams = append(s.streams, stream)
	}
	for i := range buyers {
		s.buyers = append(s.buyers, &streamBuyer{
			stream: s.streams[i%len(s.streams)], request: &holdfastv1.CreatePurchaseRequest{},
			answer: make(chan error, 1), mark: strconv.Itoa(i) + "/",
		})
	}
	for _, stream := range s.streams {
		s.readers.Go(func() { s.read(stream) })
	}
	return nil
}

// read passes answers on until the stream breaks.
func (s *streams) read(stream *purchaseStream) {
	defer close(stream.broken)
	for {
		response, err := stream.Recv()
		if err != nil {
			stream.err = err
			return
		}
		mark, _, _ := strings.Cut(response.GetRequestId(), "/")
		buyer, err := strconv.Atoi(mark)
		if err != nil || buyer >= len(s.buyers) {
			stream.err = errors.New("an answer to what nobody asked: " + response.GetRequestId())
			return
		}
		s.buyers[buyer].answer <- outcome(status.ErrorProto(response.GetError()))
	}
}

// Buy implements Strategy.
func (s *streams) Buy(ctx context.Context, buyer int, orders []Order, outcomes []error) {
	for i := range orders {
		b := s.buyers[buyer]
		s.servers.fill(b.request, &orders[i])
		b.request.RequestId = b.mark + b.request.GetRequestId()
		outcomes[i] = b.buy(ctx)
	}
}

func (b *streamBuyer) buy(ctx context.Context) error {
	b.stream.writing.Lock()
	err := b.stream.Send(&holdfastv1.StreamPurchasesRequest{Purchase: b.request})
	b.stream.writing.Unlock()
	if err != nil {
		return err
	}
	select {
	case err := <-b.answer:
		return err
	case <-b.stream.broken:
		return b.stream.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close implements Strategy.
func (s *streams) Close() {
	if s.stop != nil {
		s.stop()
	}
	s.readers.Wait()
	s.calls.Close()
}
