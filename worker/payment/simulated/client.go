package simulated

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/worker/payment"
)

// Config says where the server is.
type Config struct {
	// URL is like http://127.0.0.1:8099. Required.
	URL string
	// HTTP sends the calls; by default one with a limit of 30 s, for callers without one.
	HTTP *http.Client
}

// Client is a payment.Provider that asks a [Server]. It does not repeat calls.
type Client struct {
	base *url.URL
	http *http.Client
}

var _ payment.Provider = (*Client)(nil)

// NewClient does not connect yet.
func NewClient(config Config) (*Client, error) {
	base, err := url.Parse(config.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("make client: %q is not an URL of a simulated provider", config.URL)
	}
	base.Path = strings.TrimSuffix(base.Path, "/")
	return &Client{base: base, http: cmp.Or(config.HTTP, sender())}, nil
}

// sender keeps the connections of many purchases at once, where net/http keeps two.
func sender() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

// Authorize is of payment.Provider.
func (c *Client) Authorize(ctx context.Context, p payment.Payment) (string, error) {
	status, err := c.call(ctx, authorize, p, call{})
	return status.Reference, err
}

// Capture is of payment.Provider.
func (c *Client) Capture(ctx context.Context, p payment.Payment, minorUnits int64) error {
	_, err := c.call(ctx, capture, p, call{Amount: minorUnits})
	return err
}

// Void is of payment.Provider.
func (c *Client) Void(ctx context.Context, p payment.Payment) error {
	_, err := c.call(ctx, void, p, call{})
	return err
}

// Refund is of payment.Provider.
func (c *Client) Refund(ctx context.Context, p payment.Payment, refundKey string, minorUnits int64) error {
	_, err := c.call(ctx, refund, p, call{Amount: minorUnits, RefundKey: refundKey})
	return err
}

// LookUp is of payment.Provider.
func (c *Client) LookUp(ctx context.Context, p payment.Payment) (payment.Status, error) {
	return c.call(ctx, lookUp, p, call{})
}

// Ledger reads the whole ledger, in order, a page at a time. It ends after an error. What
// is written meanwhile may be missing in entries that were read before.
func (c *Client) Ledger(ctx context.Context) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for after := int64(0); ; {
			var part page
			path := fmt.Sprintf("/ledger?after=%d", after)
			if err := c.send(ctx, http.MethodGet, path, nil, &part); err != nil {
				yield(Entry{}, fmt.Errorf("read ledger: %w", err))
				return
			}
			for _, entry := range part.Entries {
				if !yield(entry, nil) {
					return
				}
			}
			if after = part.Next; after == 0 {
				return
			}
		}
	}
}

// SetFaults changes what goes wrong at the server.
func (c *Client) SetFaults(ctx context.Context, faults Faults) error {
	if err := c.send(ctx, http.MethodPut, "/faults", faults, &Faults{}); err != nil {
		return fmt.Errorf("set faults: %w", err)
	}
	return nil
}

func (c *Client) call(ctx context.Context, op operation, p payment.Payment, body call) (payment.Status, error) {
	p, err := p.Checked()
	if err != nil {
		return payment.Status{}, fmt.Errorf("%s payment: %w", op, err)
	}
	body.Key, body.Method, body.Currency, body.MinorUnits = p.Key, p.Method, p.Currency, p.MinorUnits
	var got answer
	if err := c.send(ctx, http.MethodPost, "/payments/"+string(op), body, &got); err != nil {
		return payment.Status{}, fmt.Errorf("%s payment %s: %w", op, p.Key, err)
	}
	if got.Status == nil {
		return payment.Status{}, fmt.Errorf("%s payment %s: %w: answer has no status", op, p.Key, payment.ErrUnknown)
	}
	return *got.Status, nil
}

// send makes every error one of the three kinds of payment.Provider.
func (c *Client) send(ctx context.Context, method, path string, body, into any) error {
	request, err := c.request(ctx, method, path, body)
	if err != nil {
		return payment.Refuse(payment.ReasonInvalid, "%v", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("%w: %w", payment.ErrUnknown, err)
	}
	defer func() { _ = response.Body.Close() }()
	reply, err := io.ReadAll(io.LimitReader(response.Body, maxReply))
	if err != nil {
		return fmt.Errorf("%w: %w", payment.ErrUnknown, err)
	}
	return understand(response.StatusCode, reply, into)
}

func (c *Client) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	var encoded bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&encoded).Encode(body); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base.String()+path, &encoded)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	return request, nil
}

// understand reads an answer. One that is not the server's, as of a proxy between, says
// nothing about what was done.
func understand(status int, reply []byte, into any) error {
	if status == http.StatusOK {
		if err := json.Unmarshal(reply, into); err != nil {
			return fmt.Errorf("%w: read answer: %w", payment.ErrUnknown, err)
		}
		return nil
	}
	var got answer
	if err := json.Unmarshal(reply, &got); err != nil || got.Error == nil {
		return errors.Join(fmt.Errorf("%w: answer is HTTP %d", payment.ErrUnknown, status), err)
	}
	return got.Error.err()
}
