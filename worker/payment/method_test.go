package payment_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/worker/payment"
)

func TestPaymentMethodIsAProviderAndItsToken(t *testing.T) {
	for given, want := range map[string]payment.Method{
		"stripe:pm_card_visa": {Provider: "stripe", Token: "pm_card_visa"},
		"simulated":           {Provider: "simulated"},
		"acme-2:a:b":          {Provider: "acme-2", Token: "a:b"},
	} {
		got, err := payment.ParseMethod(given)
		if err != nil || got != want || got.String() != given {
			t.Errorf("%q: got %+v (%q), %v", given, got, got, err)
		}
	}
}

// Whoever sent it must learn which field is wrong, and how.
func TestWrongPaymentMethodIsNamed(t *testing.T) {
	for given, want := range map[string]string{
		"":                              "names no provider",
		":ok":                           "names no provider",
		"stripe:":                       "no token after it",
		"Stripe:pm":                     "lower-case",
		"2stripe:pm":                    "lower-case",
		"str ipe":                       "lower-case",
		"stripé:pm":                     "lower-case",
		"stripe:p m":                    "visible ASCII",
		"stripe:p\x00m":                 "visible ASCII",
		"stripe:pmé":                    "visible ASCII",
		strings.Repeat("s", 33):         "33 bytes, more than 32",
		"s:" + strings.Repeat("s", 129): "129 bytes, more than 128",
	} {
		_, err := payment.ParseMethod(given)
		if !errors.Is(err, payment.ErrMethod) {
			t.Errorf("%q: got %v", given, err)
			continue
		}
		if text := err.Error(); !strings.HasPrefix(text, "payment_method ") || !strings.Contains(text, want) {
			t.Errorf("%q: got %q", given, text)
		}
	}
}

func FuzzParseMethod(f *testing.F) {
	for _, seed := range []string{"", "simulated", "stripe:pm_card_visa", "a:b:c", ":", "a:", "é:\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, given string) {
		method, err := payment.ParseMethod(given)
		if err != nil {
			if !errors.Is(err, payment.ErrMethod) || len(err.Error()) > 4*len(given)+200 {
				t.Fatalf("%q: error %v", given, err)
			}
			return
		}
		if method.String() != given {
			t.Fatalf("%q was read as %q", given, method)
		}
		if again, err := payment.ParseMethod(method.String()); err != nil || again != method {
			t.Fatalf("%q: read again as %+v, %v", given, again, err)
		}
	})
}
