package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// overHTTP is one POST /v1/purchases for each order.
type overHTTP struct {
	servers *servers
	client  *http.Client
	bodies  [][]byte // by buyer, used again
}

func newHTTP(s *servers) Strategy { return &overHTTP{servers: s} }

// Prepare implements Strategy.
func (h *overHTTP) Prepare(_ context.Context, buyers int) error {
	if h.servers.http == "" {
		return errNoHTTP
	}
	h.bodies = make([][]byte, buyers)
	h.client = &http.Client{Transport: &http.Transport{MaxIdleConns: buyers, MaxIdleConnsPerHost: buyers}}
	return nil
}

var errNoHTTP = errors.New("the target's address for HTTP is not known")

// Buy implements Strategy.
func (h *overHTTP) Buy(ctx context.Context, buyer int, orders []Order, outcomes []error) {
	for i := range orders {
		h.bodies[buyer] = appendOrder(h.bodies[buyer][:0], &orders[i], h.servers.region(&orders[i]))
		outcomes[i] = h.post(ctx, h.bodies[buyer])
	}
}

// appendOrder writes the body by hand: its strings are the bench's own and hold
// nothing to escape.
func appendOrder(body []byte, o *Order, region string) []byte {
	return fmt.Appendf(body, `{"product_id":%q,"amount":%d,"customer_id":%q,"region":%q,"request_id":%q}`,
		o.Product, o.Amount, o.Customer, region, o.Request)
}

func (h *overHTTP) post(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+h.servers.http+"/v1/purchases", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusOK {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	return refusal(resp)
}

// refusal tells the one refusal that is no error from all others.
func refusal(resp *http.Response) error {
	var answer struct {
		Message string `json:"message"`
		Details []struct {
			Reason string `json:"reason"`
		} `json:"details"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("http %d: %w", resp.StatusCode, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body) // or the connection is not used again
	for _, detail := range answer.Details {
		if detail.Reason == holdfastv1.ReasonInsufficientStock {
			return ErrSoldOut
		}
	}
	return fmt.Errorf("http %d: %s", resp.StatusCode, answer.Message)
}

// Close implements Strategy.
func (h *overHTTP) Close() {
	if h.client != nil {
		h.client.CloseIdleConnections()
	}
}
