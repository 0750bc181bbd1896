package bench

import (
	"context"
	"errors"
	"fmt"
)

// judge recounts what a contender has sold.
func (b *bench) judge(ctx context.Context, c *contest, e *entry, f *Figures) (err error) {
	if e.owner == holdfast {
		f.Oversold, err = c.recount(ctx)
	} else {
		f.Oversold, err = c.tablesOf(e.name).oversold(ctx)
	}
	if err == nil && f.Oversold > 0 && e.owner != unguarded {
		err = fmt.Errorf("oversold %d units", f.Oversold)
	}
	if b.Quick && len(f.Errors) > 0 {
		err = errors.Join(err, fmt.Errorf("errors %v", f.Errors))
	}
	if b.Quick && f.stored == 0 {
		err = errors.Join(err, errors.New("sold nothing"))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	return nil
}

// audited is what the audit of holdfast's rows came to, which is one for all its
// strategies.
type audited struct {
	oversold int64
	err      error
}

func (c *contest) recount(ctx context.Context) (int64, error) {
	if c.audited == nil {
		c.audited = &audited{}
		c.audited.oversold, c.audited.err = c.audit(ctx)
	}
	return c.audited.oversold, c.audited.err
}
