package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// asked is a way to the issuer that shows who is on it, and lets nobody on before it is open.
type asked struct {
	open    chan struct{}
	carried chan any // what a question carries of whose call it came from
}

type ofCall struct{}

func (a *asked) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case a.carried <- r.Context().Value(ofCall{}):
	default:
	}
	select {
	case <-a.open:
		return http.DefaultTransport.RoundTrip(r)
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// All who come before the issuer has answered wait for one answer: each for as long as he wants to,
// and for none that was made for another.
func TestWhoWaitsForTheIssuerMayLeave(t *testing.T) {
	issuer := newTestIssuer(t)
	a := authenticator(t, Config{OIDC: OIDC{Issuer: issuer.URL, Audience: "holdfast"}})
	way := &asked{open: make(chan struct{}), carried: make(chan any, 1)}
	a.issuer.client.Transport = way
	first, leave := context.WithCancel(context.WithValue(t.Context(), ofCall{}, "secret"))
	left, served := make(chan error, 1), make(chan error, 1)
	authenticate := func(ctx context.Context, result chan<- error) {
		_, err := a.Authenticate(ctx, token(issuer.key, issuer.URL, ""))
		result <- err
	}
	go authenticate(first, left)
	if carried := <-way.carried; carried != nil {
		t.Errorf("the question carries what the first call brought: %v", carried)
	}
	go authenticate(t.Context(), served)
	leave()
	select {
	case err := <-left:
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("who has left: %v", err)
		}
	case <-time.After(issuerTimeout / 2):
		t.Error("who has left still waits")
	}
	close(way.open)
	if err := <-served; err != nil {
		t.Errorf("who has stayed: %v", err)
	}
}

// A disk that is slow must hold up one call at most.
func TestFileIsReadByOne(t *testing.T) {
	a := authenticator(t, Config{TokensFile: write(t, fmt.Sprintf("- {name: shop, sha256: %s, role: operator}", hashed("s3cret")))})
	a.file.reading.Lock()
	defer a.file.reading.Unlock()
	a.file.looked = time.Now().Add(-time.Minute)
	found := make(chan error, 1)
	go func() { _, err := a.Authenticate(context.Background(), "Bearer s3cret"); found <- err }()
	select {
	case err := <-found:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the call waits for another one's reading")
	}
}
