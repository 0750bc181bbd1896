package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// heartbeat is how often a watch is told where it is, when nothing happens.
const heartbeat = 5 * time.Second

// watches are all that watch the shards of a term.
type watches struct {
	uses  *uses
	tails []*tail // in the order of the topology
	limit int
	base  context.Context // ends when they are to end
	end   context.CancelFunc

	mu     sync.Mutex
	open   int
	boards map[string]*board // by product
}

func newWatches(shards []*ledger.Shard, limit int, log hclog.Logger) *watches {
	w := &watches{uses: newUses(), limit: limit, boards: map[string]*board{}}
	w.base, w.end = context.WithCancel(context.Background())
	for _, s := range shards {
		w.tails = append(w.tails, newTail(w.base, s, w.uses, log))
	}
	return w
}

// close ends all watches, and returns when they use the shards no more.
func (w *watches) close() {
	w.end()
	w.uses.close()
}

// begin lets one more watch in. Its context ends with the given one, or with the term.
func (w *watches) begin(ctx context.Context) (watching context.Context, end func(), err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open >= w.limit {
		return nil, nil, holdfastv1.Error(codes.ResourceExhausted, holdfastv1.ReasonTooManyWatches,
			fmt.Sprintf("%d watches are open, and no more may be; repeat later", w.open), nil,
			&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	}
	w.open++
	ctx, cancel := context.WithCancel(ctx)
	forget := context.AfterFunc(w.base, cancel)
	return ctx, func() {
		forget()
		cancel()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.open--
	}, nil
}

// news are some events of one shard that a watch has yet to be told of.
type news struct {
	shard  string
	events []ledger.Event
	next   ledger.Cursor
}

// follow reads the events of all shards from their places on, and has them told one page
// at a time: whoever is slow has one page of each shard in memory, and reads on when he has
// taken it. It returns when ctx ends, or when a shard does not answer.
func (w *watches) follow(ctx context.Context, from cursors, productID string, pages chan<- news) error {
	if !w.uses.begin() {
		return ErrDraining
	}
	defer w.uses.end()
	g, ctx := errgroup.WithContext(ctx)
	for _, t := range w.tails {
		leave := t.join()
		defer leave()
		at, shard := from[t.shard.Name()], t.shard.Name()
		g.Go(func() error {
			for {
				page, err := t.next(ctx, at, productID)
				if err != nil {
					return &ShardError{Shard: shard, cause: err}
				}
				select {
				case pages <- news{shard, page.Events, page.Next}:
				case <-ctx.Done():
					return ctx.Err()
				}
				at = page.Next
			}
		})
	}
	return g.Wait()
}

// WatchEvents tells events until the caller leaves, or the term ends.
func (s *service) WatchEvents(
	req *holdfastv1.WatchEventsRequest, stream grpc.ServerStreamingServer[holdfastv1.WatchEventsResponse],
) error {
	ctx, end, err := s.watches.begin(stream.Context())
	if err != nil {
		return err
	}
	defer end()
	at, err := s.startOf(ctx, req)
	if err == nil {
		err = s.watchEvents(ctx, req.GetProductId(), at, stream)
	}
	return s.watchStatus(ctx, err)
}

// watchStatus is the end of a watch: the term's, or what went wrong.
func (s *service) watchStatus(ctx context.Context, err error) error {
	var shard *ShardError
	switch {
	case s.watches.base.Err() != nil:
		return drainingStatus()
	case errors.As(err, &shard) && ctx.Err() == nil:
		return s.status(ctx, "", err)
	}
	return err
}

// startOf is where a watch begins.
func (s *service) startOf(ctx context.Context, req *holdfastv1.WatchEventsRequest) (cursors, error) {
	at, ok := decodeCursors(req.GetCursor())
	if !ok {
		return nil, holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "cursor", "is not a cursor of this service")
	}
	if !req.GetFromNow() {
		return at, nil
	}
	return s.ends(ctx)
}

// ends is the present end of all shards.
func (s *service) ends(ctx context.Context) (cursors, error) {
	if !s.watches.uses.begin() {
		return nil, ErrDraining
	}
	defer s.watches.uses.end()
	found := make([]ledger.Cursor, len(s.shards))
	g, ctx := errgroup.WithContext(ctx)
	for i, sh := range s.shards {
		g.Go(func() (err error) {
			ctx, cancel := context.WithTimeout(ctx, tailTimeout)
			defer cancel()
			if found[i], err = sh.EventsEnd(ctx); err != nil {
				return &ShardError{Shard: sh.Name(), cause: err}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	at := cursors{}
	for i, sh := range s.shards {
		at[sh.Name()] = found[i]
	}
	return at, nil
}

func (s *service) watchEvents(
	ctx context.Context, productID string, at cursors, stream grpc.ServerStreamingServer[holdfastv1.WatchEventsResponse],
) error {
	ctx, cancel := context.WithCancel(ctx)
	pages, ended := make(chan news), make(chan error, 1)
	from := cursors{}
	for shard, place := range at {
		from[shard] = place
	}
	go func() { ended <- s.watches.follow(ctx, from, productID, pages) }()
	defer cancel()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	if err := stream.Send(&holdfastv1.WatchEventsResponse{Cursor: at.encode()}); err != nil {
		return err
	}
	for {
		select {
		case err := <-ended:
			return err
		case page := <-pages:
			for i := range page.events {
				e := &page.events[i]
				at[page.shard] = e.Cursor
				if err := stream.Send(&holdfastv1.WatchEventsResponse{Event: event(page.shard, e), Cursor: at.encode()}); err != nil {
					return err
				}
			}
			at[page.shard] = page.next
		case <-beat.C:
			if err := stream.Send(&holdfastv1.WatchEventsResponse{Cursor: at.encode()}); err != nil {
				return err
			}
		}
	}
}

var eventKinds = map[ledger.EventKind]holdfastv1.EventKind{
	ledger.EventPurchased: holdfastv1.EventKind_EVENT_KIND_PURCHASED,
	ledger.EventHeld:      holdfastv1.EventKind_EVENT_KIND_HELD,
	ledger.EventExtended:  holdfastv1.EventKind_EVENT_KIND_EXTENDED,
	ledger.EventConfirmed: holdfastv1.EventKind_EVENT_KIND_CONFIRMED,
	ledger.EventCancelled: holdfastv1.EventKind_EVENT_KIND_CANCELLED,
	ledger.EventExpired:   holdfastv1.EventKind_EVENT_KIND_EXPIRED,
	ledger.EventReturned:  holdfastv1.EventKind_EVENT_KIND_RETURNED,
	ledger.EventDelivered: holdfastv1.EventKind_EVENT_KIND_DELIVERED,
	ledger.EventMissing:   holdfastv1.EventKind_EVENT_KIND_MISSING,
}

// event is an event as callers see it.
func event(region string, e *ledger.Event) *holdfastv1.Event {
	answer := &holdfastv1.Event{
		EventId: holdfastv1.PurchaseID(region, e.Cursor.ID), Kind: eventKinds[e.Kind], ProductId: e.ProductID, CustomerId: e.CustomerID,
		Region: region, Amount: e.Amount, Units: e.Units, State: states[e.State], RequestId: e.RequestID,
		CreateTime: timestamppb.New(e.CreateTime),
	}
	if e.PurchaseID != uuid.Nil {
		answer.PurchaseId = holdfastv1.PurchaseID(region, e.PurchaseID)
	}
	if e.ExpireTime != nil {
		answer.ExpireTime = timestamppb.New(*e.ExpireTime)
	}
	return answer
}

// movementsScan is how many events one read looks at for those of a product, and
// movementsTime how long a page may take that does not get full.
const (
	movementsScan = 10_000
	movementsTime = time.Second
)

// ListMovements reads the shards one after the other; a page may end in one and the next
// page begin there.
func (s *service) ListMovements(ctx context.Context, req *holdfastv1.ListMovementsRequest) (*holdfastv1.ListMovementsResponse, error) {
	at, shards, err := s.movementsFrom(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	size, resp, began := pageSize(req.GetPageSize()), &holdfastv1.ListMovementsResponse{}, time.Now()
	for i, sh := range shards {
		for end := false; !end; {
			page, err := sh.Events(ctx, at, req.GetProductId(), movementsScan)
			if err != nil {
				return nil, s.status(ctx, req.GetProductId(), &ShardError{Shard: sh.Name(), cause: err})
			}
			end, at = page.End, page.Next
			for n, e := range page.Events {
				if !e.Moves() {
					continue
				}
				resp.Movements = append(resp.Movements, event(sh.Name(), &e))
				if len(resp.Movements) == size && (n+1 < len(page.Events) || !end || i+1 < len(shards)) {
					resp.NextPageToken = cursors{sh.Name(): e.Cursor}.encode()
					return resp, nil
				}
			}
			if !end && time.Since(began) > movementsTime {
				resp.NextPageToken = cursors{sh.Name(): at}.encode()
				return resp, nil
			}
		}
		at = ledger.Cursor{}
	}
	return resp, nil
}

// movementsFrom is where a page token says that the page begins: a cursor of one shard.
func (s *service) movementsFrom(token string) (at ledger.Cursor, shards []*ledger.Shard, err error) {
	if token == "" {
		return at, s.shards, nil
	}
	places, ok := decodeCursors(token)
	if !ok || len(places) != 1 {
		return at, nil, badToken()
	}
	for name, place := range places {
		i := slices.IndexFunc(s.shards, func(sh *ledger.Shard) bool { return sh.Name() == name })
		if i < 0 {
			return at, nil, badToken()
		}
		at, shards = place, s.shards[i:]
	}
	return at, shards, nil
}
