package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// A shard that is gone, or that only this worker cannot reach, is noticed after
// two questions without a good answer, so within two seconds and a half.
const (
	pingInterval = 250 * time.Millisecond
	pingTimeout  = time.Second
)

// errNoContact fails what needs a shard that does not answer at present. Nothing
// was sent.
var errNoContact = fmt.Errorf("no contact: %w", ledger.ErrNotSent)

// contact is whether a shard answers this worker. Without it nobody waits for the
// shard: what is under way there is given up, and what comes is turned away at
// once, so that a worker which alone is cut off leaves the product to another one.
type contact struct {
	shard interface {
		Name() string
		Ping(context.Context) error
	}
	log hclog.Logger

	mu     sync.Mutex
	have   context.Context // ends when contact is lost
	lose   context.CancelFunc
	lack   context.Context // ends when contact is found again
	regain context.CancelFunc
}

func newContact(s shard, log hclog.Logger) *contact {
	c := &contact{shard: s, log: log}
	c.have, c.lose = context.WithCancel(context.Background())
	c.lack, c.regain = context.WithCancel(context.Background())
	c.regain()
	return c
}

// watch asks the shard for a sign of life again and again, until ctx ends.
func (c *contact) watch(ctx context.Context) {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for failed := 0; ; {
		pingCtx, cancel := context.WithTimeout(ctx, pingTimeout)
		err := c.shard.Ping(pingCtx)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			failed = 0
			c.found()
		default:
			if failed++; failed >= 2 {
				c.lost(err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (c *contact) lost(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.have.Err() != nil {
		return
	}
	c.log.Error("shard does not answer", "error", why)
	c.lose()
	c.lack, c.regain = context.WithCancel(context.Background())
}

func (c *contact) found() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.have.Err() != nil {
		c.log.Info("shard answers again")
		c.regain()
		c.have, c.lose = context.WithCancel(context.Background())
	}
}

// isHad reports whether the shard answers.
func (c *contact) isHad() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.have.Err() == nil
}

// during calls do with a context that ends with ctx, after the timeout, or when
// contact is lost. Without contact it returns errNoContact.
func (c *contact) during(ctx context.Context, timeout time.Duration, do func(context.Context) error) error {
	c.mu.Lock()
	have := c.have
	c.mu.Unlock()
	if have.Err() != nil {
		return errNoContact
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer context.AfterFunc(have, cancel)()
	return do(ctx)
}

// ask asks the shard at once, after something else went wrong there. When it does
// not answer, contact is lost, and the context returned ends when it is found
// again; when it does, the context has ended.
func (c *contact) ask(ctx context.Context) (lack context.Context) {
	err := c.during(ctx, pingTimeout, c.shard.Ping)
	if err != nil {
		c.lost(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lack
}

// isContactLost tells what the log has been told once from what is news.
func isContactLost(err error) bool { return errors.Is(err, errNoContact) }
