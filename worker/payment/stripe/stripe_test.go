package stripe

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/worker/payment"
	"github.com/holdfast-io/holdfast/worker/payment/paymenttest"
)

// Looking for a payment, or voiding one that was never sent, must not hold the money of a
// customer whom nobody asked.
func TestOnlyAuthorizeTouchesTheCard(t *testing.T) {
	f, provider := faked(t)
	p := pay("pm_card_visa")
	_, _ = provider.LookUp(t.Context(), p)
	_ = provider.Capture(t.Context(), p, 1)
	if err := provider.Void(t.Context(), p); err != nil {
		t.Error(err)
	}
	if f.attempts != 0 || len(f.intents) != 1 {
		t.Errorf("the card was asked %d times, with %d intents", f.attempts, len(f.intents))
	}
}

func TestCardIsAskedOnce(t *testing.T) {
	for _, method := range []string{"pm_card_visa", "pm_card_chargeDeclined", "pm_card_authenticationRequired"} {
		f, provider := faked(t)
		for range 3 {
			_, _ = provider.Authorize(t.Context(), pay(method))
		}
		if f.attempts != 1 {
			t.Errorf("%s was asked %d times", method, f.attempts)
		}
	}
}

// A purchase does not wait for a customer who has to act, nor may the customer act later.
func TestCustomerWhoWouldHaveToActIsDeclined(t *testing.T) {
	f, provider := faked(t)
	p := pay("pm_card_authenticationRequired")
	for range 2 {
		_, err := provider.Authorize(t.Context(), p)
		if declined, ok := errors.AsType[*payment.DeclinedError](err); !ok || declined.Code != mustAct {
			t.Errorf("got %v", err)
		}
	}
	if status := f.intents[0].fields["status"]; status != "canceled" {
		t.Errorf("intent is %v", status)
	}
	if err := provider.Void(t.Context(), p); err != nil {
		t.Error(err)
	}
	if status, err := provider.LookUp(t.Context(), p); status.State != payment.Declined || err != nil {
		t.Errorf("got %+v, %v", status, err)
	}
}

func TestDeclineHasTheBanksCode(t *testing.T) {
	_, provider := faked(t)
	for range 2 {
		_, err := provider.Authorize(t.Context(), pay("pm_card_chargeDeclined"))
		if declined, ok := errors.AsType[*payment.DeclinedError](err); !ok || declined.Code != "generic_decline" {
			t.Errorf("got %v", err)
		}
	}
}

// The card that said no may say yes when it is asked again; the customer was told no.
func TestDeclineStaysWhenAnEarlierConfirmArrives(t *testing.T) {
	f := newFake(t)
	network := paymenttest.NewNetwork(t)
	provider := connect(t, f.url, network)
	network.Break(paymenttest.RequestLate, 2)
	if _, err := provider.Authorize(t.Context(), pay("pm_card_chargeDeclined")); !errors.Is(err, payment.ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if _, err := provider.Authorize(t.Context(), pay("pm_card_chargeDeclined")); err == nil {
		t.Error("authorized")
	}
	network.Deliver(t)
	if f.attempts != 1 {
		t.Errorf("the card was asked %d times", f.attempts)
	}
}

// What Stripe never makes needs no void, but whoever does not know that asks for one.
func TestWhatStripeRefusesIsVoidedAllTheSame(t *testing.T) {
	_, provider := faked(t)
	unknown, small := pay("pm_unknown"), pay("pm_card_visa")
	small.Key, small.MinorUnits = "eu-2", 1
	for _, p := range []payment.Payment{unknown, small} {
		if _, err := provider.Authorize(t.Context(), p); !payment.IsRefused(err, payment.ReasonProvider) {
			t.Errorf("authorize: got %v", err)
		}
		if err := provider.Void(t.Context(), p); err != nil {
			t.Errorf("void: got %v", err)
		}
	}
}

// Stripe saves a failure of its own under the key and repeats it for a day; what it did in
// spite of it is seen in the intent.
func TestSavedFailureDoesNotHideAnAuthorization(t *testing.T) {
	f, provider := faked(t)
	p := pay("pm_card_error_500")
	if _, err := provider.Authorize(t.Context(), p); !errors.Is(err, payment.ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if reference, err := provider.Authorize(t.Context(), p); reference != "pi_1" || err != nil {
		t.Errorf("got %q, %v", reference, err)
	}
	if err := provider.Void(t.Context(), p); err != nil || f.held() != 0 {
		t.Errorf("got %v, %d intents hold money", err, f.held())
	}
}

// The void that comes while the authorize is under way at Stripe is put off by Stripe, and
// must not be lost.
func TestVoidWaitsForTheAuthorizeThatIsUnderWay(t *testing.T) {
	for _, call := range []string{"create", "confirm"} {
		f, provider := faked(t)
		p := pay("pm_card_visa")
		under, release := make(chan struct{}), make(chan struct{})
		f.hold = func(key string) {
			if key == idempotencyKey(p, call) {
				close(under)
				<-release
			}
		}
		authorized, voided := make(chan error), make(chan error)
		go func() { _, err := provider.Authorize(t.Context(), p); authorized <- err }()
		<-under
		go func() { voided <- provider.Void(t.Context(), p) }()
		if call == "confirm" {
			if err := <-voided; err != nil { // it may cancel what is about to be confirmed
				t.Error(err)
			}
			close(release)
		} else {
			waitFor(f, func() bool { return f.putOff > 0 })
			close(release)
			if err := <-voided; err != nil {
				t.Error(err)
			}
		}
		if err := <-authorized; err != nil && !payment.IsRefused(err, payment.ReasonVoided) {
			t.Error(err)
		}
		if f.held() != 0 || len(f.intents) != 1 {
			t.Errorf("%s: %d of %d intents hold money", call, f.held(), len(f.intents))
		}
	}
}

// waitFor looks until it is so; the test's own limit ends it otherwise.
func waitFor(f *fake, so func() bool) {
	for {
		f.mu.Lock()
		done := so()
		f.mu.Unlock()
		if done {
			return
		}
	}
}

// After a day the key is forgotten: making the intent again would make another one.
func TestNothingIsDoneTwiceAfterStripeForgot(t *testing.T) {
	f, provider := faked(t)
	steps := []struct {
		name string
		call func(payment.Payment) error
		want payment.State
	}{
		{"authorize", func(p payment.Payment) error { _, err := provider.Authorize(t.Context(), p); return err }, payment.Authorized},
		{"capture", func(p payment.Payment) error { return provider.Capture(t.Context(), p, 1000) }, payment.Captured},
		{"refund", func(p payment.Payment) error { return provider.Refund(t.Context(), p, "r1", 400) }, payment.Captured},
		{"refund", func(p payment.Payment) error { return provider.Refund(t.Context(), p, "r1", 400) }, payment.Captured},
	}
	p := pay("pm_card_visa")
	for _, step := range steps {
		for range 2 {
			if err := step.call(p); err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
			if status, err := provider.LookUp(t.Context(), p); status.State != step.want || err != nil {
				t.Errorf("%s: got %+v, %v", step.name, status, err)
			}
			f.forget()
			p.Begun = p.Begun.Add(-KeyLife)
		}
	}
	if len(f.intents) != 1 || len(f.refunds) != 1 || f.attempts != 1 {
		t.Errorf("%d intents, %d refunds, card asked %d times", len(f.intents), len(f.refunds), f.attempts)
	}
}

// An authorize that is older than Stripe's memory is not sent; so a void that finds nothing
// is as definite as one that does.
func TestOldPaymentIsNotAuthorized(t *testing.T) {
	f, provider := faked(t)
	p := pay("pm_card_visa")
	p.Begun = p.Begun.Add(-KeyLife)
	if err := provider.Void(t.Context(), p); err != nil {
		t.Error(err)
	}
	if _, err := provider.Authorize(t.Context(), p); !payment.IsRefused(err, payment.ReasonTooLate) {
		t.Errorf("got %v", err)
	}
	if status, err := provider.LookUp(t.Context(), p); status.State != payment.Nothing || err != nil {
		t.Errorf("got %+v, %v", status, err)
	}
	if err := provider.Capture(t.Context(), p, 1); !payment.IsRefused(err, payment.ReasonNotAuthorized) {
		t.Errorf("got %v", err)
	}
	if len(f.intents) != 0 {
		t.Errorf("%d intents were made", len(f.intents))
	}
}

func TestOldPaymentIsVoided(t *testing.T) {
	f, provider := faked(t)
	p := pay("pm_card_visa")
	if _, err := provider.Authorize(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	f.forget()
	p.Begun = p.Begun.Add(-KeyLife)
	if err := provider.Void(t.Context(), p); err != nil || f.held() != 0 {
		t.Errorf("got %v, %d intents hold money", err, f.held())
	}
}

// An account that makes no intents any more may have made one; making it again does not tell.
func TestVoidOfAClosedAccountWaitsForTheSearch(t *testing.T) {
	f, provider := faked(t)
	p := pay("pm_card_visa")
	if _, err := provider.Authorize(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	f.closed = true
	err := provider.Void(t.Context(), p)
	if !errors.Is(err, payment.ErrUnknown) || payment.IsRefused(err, payment.ReasonProvider) {
		t.Errorf("got %v", err)
	}
	f.forget()
	p.Begun = p.Begun.Add(-searchable)
	if err := provider.Void(t.Context(), p); err != nil || f.held() != 0 {
		t.Errorf("got %v, %d intents hold money", err, f.held())
	}
}

func TestNoErrorHasASecret(t *testing.T) {
	f := newFake(t)
	client := &http.Client{Transport: paymenttest.NewNetwork(t)}
	wrong, err := New(Config{SecretKey: "sk_test_wrong_secret", URL: f.url, HTTP: client})
	if err != nil {
		t.Fatal(err)
	}
	_, unauthorized := wrong.Authorize(t.Context(), pay("pm_card_visa"))
	if !errors.Is(unauthorized, payment.ErrUnknown) {
		t.Errorf("got %v", unauthorized)
	}
	_, right := faked(t)
	_, declined := right.Authorize(t.Context(), pay("pm_card_chargeDeclined"))
	unknown := pay("pm_unknown")
	unknown.Key = "eu-2"
	_, missing := right.Authorize(t.Context(), unknown)
	failing := pay("pm_card_error_500")
	failing.Key = "eu-3"
	_, internal := right.Authorize(t.Context(), failing)
	config := Config{SecretKey: "sk_test_wrong_secret"}
	for _, said := range []any{unauthorized, declined, missing, internal, config, &config} {
		for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
			if text := fmt.Sprintf(format, said); strings.Contains(text, "_secret") {
				t.Errorf("%s", text)
			}
		}
	}
}

func TestConfigThatGivesTheKeyAwayIsRefused(t *testing.T) {
	for _, config := range []Config{
		{},
		{SecretKey: "pk_test_1"},
		{SecretKey: secret, URL: "http://stripe.example"},
		{SecretKey: secret, URL: "stripe.example"},
		{SecretKey: secret, URL: "ftp://127.0.0.1"},
	} {
		if _, err := New(config); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%v: got %v", config, err)
		}
	}
	for _, url := range []string{"", "https://stripe.example", "http://localhost:1", "http://[::1]:1"} {
		if _, err := New(Config{SecretKey: secret, URL: url}); err != nil {
			t.Errorf("%q: got %v", url, err)
		}
	}
}

// Keys are of any length that is allowed, and Stripe's are of 255 bytes.
func TestIdempotencyKeysFit(t *testing.T) {
	_, provider := faked(t)
	p := pay("pm_card_visa")
	p.Key = strings.Repeat("k", 128)
	if _, err := provider.Authorize(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := provider.Capture(t.Context(), p, 1000); err != nil {
		t.Error(err)
	}
	if err := provider.Refund(t.Context(), p, strings.Repeat("r", 128), 1000); err != nil {
		t.Error(err)
	}
}
