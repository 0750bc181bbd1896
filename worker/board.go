package worker

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

const (
	// boardPause is between two readings of a product that is watched: five values a second
	// at most, however fast it sells.
	boardPause = 200 * time.Millisecond
	// boardRetry is until a reading that failed is repeated.
	boardRetry = time.Second
)

// board shows what is left of one product to all that watch it.
type board struct {
	stop    context.CancelFunc
	watches int // under the mutex of watches

	mu      sync.Mutex
	shown   *holdfastv1.Product // nil before the first reading
	err     error               // of the last reading
	changed chan struct{}       // closed when these have changed
}

// see returns what is shown, and what is closed when that has changed.
func (b *board) see() (shown *holdfastv1.Product, changed <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.shown, b.changed, b.err
}

func (b *board) show(p *holdfastv1.Product, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err = err; err == nil {
		if b.shown.GetAmountAvailableForPurchase() == p.GetAmountAvailableForPurchase() &&
			b.shown.GetAmountDelivered() == p.GetAmountDelivered() && b.shown != nil {
			return
		}
		b.shown = p
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

// board returns the product's board, and has it kept up until leave is called.
func (s *service) board(p *ledger.Product) (b *board, leave func()) {
	w := s.watches
	w.mu.Lock()
	defer w.mu.Unlock()
	b = w.boards[p.ProductID]
	if b == nil {
		ctx, stop := context.WithCancel(w.base)
		b = &board{stop: stop, changed: make(chan struct{})}
		w.boards[p.ProductID] = b
		if w.uses.begin() {
			go func() { defer w.uses.end(); s.keepUp(ctx, p, b) }()
		}
	}
	b.watches++
	return b, sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if b.watches--; b.watches == 0 {
			b.stop()
			delete(w.boards, p.ProductID)
		}
	})
}

// keepUp reads the product whenever a shard tells that something has happened to it, and a
// last time after that. Each reading of a shard sees more than the one before.
func (s *service) keepUp(ctx context.Context, p *ledger.Product, b *board) {
	var at cursors
	for at == nil && ctx.Err() == nil {
		var err error
		if at, err = s.ends(ctx); err != nil {
			b.show(nil, err)
			pause(ctx, boardRetry)
		}
	}
	pages, ended := make(chan news), make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			_ = s.watches.follow(ctx, at, p.ProductID, pages) // a shard that does not answer is read below
			pause(ctx, boardRetry)
		}
	}()
	for ctx.Err() == nil {
		shown, err := s.present(ctx, p)
		if ctx.Err() != nil {
			break
		}
		if b.show(shown, err); err != nil {
			pause(ctx, boardRetry)
			continue
		}
		pause(ctx, boardPause)
		for happened := false; !happened && ctx.Err() == nil; {
			select {
			case page := <-pages:
				happened = len(page.events) > 0
			case <-ctx.Done():
			}
		}
	}
	<-ended
}

// present is what is left of a product, by the totals of the shards.
func (s *service) present(ctx context.Context, p *ledger.Product) (*holdfastv1.Product, error) {
	ctx, cancel := context.WithTimeout(ctx, tailTimeout)
	defer cancel()
	these := []ledger.Product{*p}
	sold, err := s.sold(ctx, these)
	if err != nil {
		return nil, err
	}
	delivered, err := s.delivered(ctx, these)
	if err != nil {
		return nil, err
	}
	return product(p, p.AmountInStorage-sold[p.ProductID], delivered[p.ProductID]), nil
}

// WatchProduct tells what is left of a product until the caller leaves, or the term ends.
func (s *service) WatchProduct(
	req *holdfastv1.WatchProductRequest, stream grpc.ServerStreamingServer[holdfastv1.Product],
) error {
	ctx, end, err := s.watches.begin(stream.Context())
	if err != nil {
		return err
	}
	defer end()
	p, err := s.stored(ctx, req.GetProductId())
	if err != nil {
		return s.status(ctx, req.GetProductId(), err)
	}
	b, leave := s.board(p)
	defer leave()
	var last *holdfastv1.Product
	for {
		shown, changed, err := b.see()
		switch {
		case err != nil:
			return s.watchStatus(ctx, err)
		case shown != last:
			if err := stream.Send(shown); err != nil {
				return err
			}
			last = shown
			continue // it may have changed meanwhile
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s.watchStatus(ctx, ctx.Err())
		}
	}
}

// stored reads a product from the first shard that knows it. It returns
// ErrProductNotFound when none does.
func (s *service) stored(ctx context.Context, productID string) (*ledger.Product, error) {
	if !s.watches.uses.begin() {
		return nil, ErrDraining
	}
	defer s.watches.uses.end()
	for _, sh := range s.shards {
		found, err := sh.TheseProducts(ctx, []string{productID})
		switch {
		case err != nil:
			return nil, &ShardError{Shard: sh.Name(), cause: err}
		case found[0] != nil:
			return found[0], nil
		}
	}
	return nil, ErrProductNotFound
}
