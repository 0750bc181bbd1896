package simulated

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/holdfast-io/holdfast/worker/payment"
)

// shutdown is how long calls that are under way may take after Run was told to end.
const shutdown = 5 * time.Second

// Server is the provider: an http.Handler that any number of callers may use at once.
type Server struct {
	mux    *http.ServeMux
	ledger ledger

	mu     sync.Mutex // guards faults
	faults Faults
}

// NewServer makes a server with an empty ledger.
func NewServer(faults Faults) (*Server, error) {
	if err := faults.Check(); err != nil {
		return nil, err
	}
	s := &Server{mux: http.NewServeMux(), ledger: ledger{byKey: map[string]*Entry{}}, faults: faults}
	for _, op := range []operation{authorize, capture, void, refund, lookUp} {
		s.mux.HandleFunc("POST /payments/"+string(op), func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, op) })
	}
	s.mux.HandleFunc("GET /ledger", s.serveLedger)
	s.mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { write(w, http.StatusOK, s.Faults()) })
	s.mux.HandleFunc("PUT /faults", s.putFaults)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, http.StatusNotFound, fmt.Sprintf("there is no %s %s", r.Method, r.URL.Path))
	})
	return s, nil
}

// ServeHTTP serves one call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Run serves until the context ends, and closes the listener.
func (s *Server) Run(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      maxWait + 10*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxBody,
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve payments: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdown)
	defer cancel()
	err := server.Shutdown(grace)
	if err != nil {
		err = server.Close()
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		return fmt.Errorf("serve payments: %w", served)
	}
	return err
}

// Faults is what goes wrong at the moment.
func (s *Server) Faults() Faults {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faults
}

// SetFaults changes what goes wrong with calls that arrive from now on.
func (s *Server) SetFaults(faults Faults) error {
	if err := faults.Check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = faults
	return nil
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, op operation) {
	c, err := readCall(w, r, op)
	if err != nil {
		respond(w, payment.Status{}, err)
		return
	}
	faults := s.Faults()
	apply := func() (payment.Status, error) { return s.ledger.apply(op, c, faults.declines(c)) }
	switch faults.fate(op, c, s.ledger.arrive(op, c)) {
	case lostRequest:
		panic(http.ErrAbortHandler) // net/http's way to drop a connection
	case lostReply:
		_, _ = apply()
		panic(http.ErrAbortHandler)
	case timeoutUndone:
		wait(r.Context(), faults.Timeout)
		respond(w, payment.Status{}, errors.New("took too long"))
	case timeoutDone:
		status, err := apply()
		wait(r.Context(), faults.Timeout)
		respond(w, status, err)
	case slow:
		wait(r.Context(), faults.Delay)
		fallthrough
	default:
		status, err := apply()
		respond(w, status, err)
	}
}

func (s *Server) serveLedger(w http.ResponseWriter, r *http.Request) {
	after, err := number(r, "after", 0)
	if err != nil || after < 0 {
		refuse(w, http.StatusBadRequest, "after is not a number from 0")
		return
	}
	limit, err := number(r, "limit", maxPage)
	if err != nil || limit < 1 || limit > maxPage {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("limit is not a number of 1 to %d", maxPage))
		return
	}
	entries, next := s.ledger.page(after, int(limit))
	write(w, http.StatusOK, page{Entries: entries, Next: next})
}

func (s *Server) putFaults(w http.ResponseWriter, r *http.Request) {
	var faults Faults
	err := read(w, r, &faults)
	if err == nil {
		err = s.SetFaults(faults)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	write(w, http.StatusOK, faults)
}

// readCall reads and checks what was sent, as a real provider does not trust its callers.
func readCall(w http.ResponseWriter, r *http.Request, op operation) (call, error) {
	var c call
	if err := read(w, r, &c); err != nil {
		return c, err
	}
	money, err := payment.Money{Currency: c.Currency, MinorUnits: c.MinorUnits}.Checked()
	if err != nil {
		return c, err
	}
	c.Currency = money.Currency
	if (op == capture || op == refund) && c.Amount <= 0 {
		return c, payment.Refuse(payment.ReasonInvalid, "amount %d is not above zero", c.Amount)
	}
	if op == refund {
		if err := payment.CheckKey(c.RefundKey); err != nil {
			return c, err
		}
	}
	return c, payment.CheckKey(c.Key)
}

func respond(w http.ResponseWriter, status payment.Status, err error) {
	if err != nil {
		code, body := failed(err)
		write(w, code, body)
		return
	}
	write(w, http.StatusOK, answer{Status: &status})
}

func refuse(w http.ResponseWriter, code int, message string) {
	write(w, code, answer{Error: &failure{Kind: "refused", Reason: payment.ReasonInvalid, Message: message}})
}

func number(r *http.Request, name string, otherwise int64) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return otherwise, nil
	}
	return strconv.ParseInt(text, 10, 64)
}

// wait ends early when the caller has given up.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
