package payment_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-io/holdfast/worker/payment"
)

func good() payment.Payment {
	return payment.Payment{
		Key:   "eu-1",
		Money: payment.Money{Currency: "eur", MinorUnits: 1},
		Begun: time.Unix(1, 0),
	}
}

func TestCurrencyIsNormalised(t *testing.T) {
	checked, err := good().Checked()
	if err != nil || checked.Currency != "EUR" {
		t.Errorf("got %+v, %v", checked, err)
	}
}

// What no provider could do anything with must not be sent to any.
func TestMalformedPaymentIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*payment.Payment){
		"no key":            func(p *payment.Payment) { p.Key = "" },
		"long key":          func(p *payment.Payment) { p.Key = strings.Repeat("k", 129) },
		"key with a quote":  func(p *payment.Payment) { p.Key = "k'" },
		"key with a space":  func(p *payment.Payment) { p.Key = "k k" },
		"key of other text": func(p *payment.Payment) { p.Key = "ké" },
		"no currency":       func(p *payment.Payment) { p.Currency = "" },
		"currency's name":   func(p *payment.Payment) { p.Currency = "euro" },
		"currency's sign":   func(p *payment.Payment) { p.Currency = "€" },
		"no amount":         func(p *payment.Payment) { p.MinorUnits = 0 },
		"negative amount":   func(p *payment.Payment) { p.MinorUnits = -1 },
		"no time":           func(p *payment.Payment) { p.Begun = time.Time{} },
	} {
		p := good()
		spoil(&p)
		if _, err := p.Checked(); !payment.IsRefused(err, payment.ReasonInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// patient answers nothing before its context ends.
type patient struct{}

func (patient) wait(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func (p patient) Authorize(ctx context.Context, _ payment.Payment) (string, error) {
	return "", p.wait(ctx)
}

func (p patient) Capture(ctx context.Context, _ payment.Payment, _ int64) error { return p.wait(ctx) }
func (p patient) Void(ctx context.Context, _ payment.Payment) error             { return p.wait(ctx) }

func (p patient) Refund(ctx context.Context, _ payment.Payment, _ string, _ int64) error {
	return p.wait(ctx)
}

func (p patient) LookUp(ctx context.Context, _ payment.Payment) (payment.Status, error) {
	return payment.Status{}, p.wait(ctx)
}

func TestProviderIsFoundByName(t *testing.T) {
	ps, err := payment.NewProviders(map[string]payment.Provider{"b": patient{}, "a": patient{}})
	if err != nil {
		t.Fatal(err)
	}
	if provider, method, err := ps.Find("a:tok"); provider == nil || method.Token != "tok" || err != nil {
		t.Errorf("got %v, %v, %v", provider, method, err)
	}
	if !slices.Equal(ps.Names(), []string{"a", "b"}) {
		t.Errorf("got %v", ps.Names())
	}
	_, _, err = ps.Find("c:tok")
	if !errors.Is(err, payment.ErrMethod) || !strings.Contains(err.Error(), `"c", but there are only a, b`) {
		t.Errorf("got %v", err)
	}
	if _, _, err := (payment.Providers{}).Find("a"); !errors.Is(err, payment.ErrMethod) {
		t.Errorf("got %v", err)
	}
}

func TestProviderThatNobodyCanNameIsNotKept(t *testing.T) {
	for name, provider := range map[string]payment.Provider{"A": patient{}, "a:b": patient{}, "": patient{}, "nil": nil} {
		if _, err := payment.NewProviders(map[string]payment.Provider{name: provider}); err == nil {
			t.Errorf("%q is kept", name)
		}
	}
}

func TestCallEndsWithItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limited := payment.Within(patient{}, time.Second)
		for name, call := range map[string]func() error{
			"authorize": func() error { _, err := limited.Authorize(t.Context(), good()); return err },
			"capture":   func() error { return limited.Capture(t.Context(), good(), 1) },
			"void":      func() error { return limited.Void(t.Context(), good()) },
			"refund":    func() error { return limited.Refund(t.Context(), good(), "r1", 1) },
			"look up":   func() error { _, err := limited.LookUp(t.Context(), good()); return err },
		} {
			begin := time.Now()
			if err := call(); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
				t.Errorf("%s: got %v after %v", name, err, time.Since(begin))
			}
		}
	})
}
