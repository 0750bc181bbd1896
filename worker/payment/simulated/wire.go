package simulated

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/holdfast-io/holdfast/worker/payment"
)

// maxBody bounds what the server reads of a request, and maxReply what the client reads of
// an answer; the longest is a page of the ledger.
const (
	maxBody  = 16 << 10
	maxReply = 64 << 20
	maxPage  = 1000
)

// call is the body of a request about a payment.
type call struct {
	Key        string `json:"key"`
	Method     string `json:"method,omitempty"`
	Currency   string `json:"currency"`
	MinorUnits int64  `json:"minor_units"`
	// Amount and RefundKey are of capture and refund.
	Amount    int64  `json:"amount,omitempty"`
	RefundKey string `json:"refund_key,omitempty"`
}

// answer is the body of every response about a payment, and of every error.
type answer struct {
	Status *payment.Status `json:"status,omitempty"`
	Error  *failure        `json:"error,omitempty"`
}

type failure struct {
	Kind    string         `json:"kind"` // declined, refused or unknown
	Reason  payment.Reason `json:"reason,omitempty"`
	Code    string         `json:"code,omitempty"`
	Message string         `json:"message"`
}

// page is the body of a part of the ledger.
type page struct {
	Entries []Entry `json:"entries"`
	Next    int64   `json:"next"`
}

// failed is how the server says an error: the only place that knows its status codes.
func failed(err error) (int, answer) {
	if declined, ok := errors.AsType[*payment.DeclinedError](err); ok {
		return http.StatusPaymentRequired,
			answer{Error: &failure{Kind: "declined", Code: declined.Code, Message: declined.Message}}
	}
	if refused, ok := errors.AsType[*payment.RefusedError](err); ok {
		status := http.StatusConflict
		if refused.Reason == payment.ReasonInvalid {
			status = http.StatusBadRequest
		}
		return status,
			answer{Error: &failure{Kind: "refused", Reason: refused.Reason, Code: refused.Code, Message: refused.Message}}
	}
	return http.StatusGatewayTimeout, answer{Error: &failure{Kind: "unknown", Message: err.Error()}}
}

// err is how the client reads it.
func (f failure) err() error {
	switch f.Kind {
	case "declined":
		return &payment.DeclinedError{Code: f.Code, Message: f.Message}
	case "refused":
		return &payment.RefusedError{Reason: f.Reason, Code: f.Code, Message: f.Message}
	default:
		return fmt.Errorf("%w: %s", payment.ErrUnknown, f.Message)
	}
}

// read decodes one JSON value, and nothing else, from a body of bounded size.
func read(w http.ResponseWriter, r *http.Request, into any) error {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return payment.Refuse(payment.ReasonInvalid, "read body: %v", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return payment.Refuse(payment.ReasonInvalid, "read body: more than one JSON value")
	}
	return nil
}

// write answers with JSON. A caller that has gone cannot be told anything, so the error of
// writing is dropped.
func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
