package coordinator_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

// What is not a request of the contract at all must be refused with words that
// say what to change, not bought by halves.
func TestMalformedHTTPRequestIsRefused(t *testing.T) {
	f := openFront(t, coordinator.Config{}, "w1")
	f.stock("p", 1000)
	with := func(field, value string) string {
		body := []string{`"` + field + `":` + value}
		for _, other := range []string{`"product_id":"p"`, `"amount":1`, `"customer_id":"c"`} {
			if !strings.HasPrefix(other, `"`+field+`"`) {
				body = append(body, other)
			}
		}
		return "{" + strings.Join(body, ",") + "}"
	}
	good := with("amount", "1")
	big := with("request_id", `"`+strings.Repeat("x", 1<<20)+`"`)
	for _, tt := range []struct {
		name         string
		method, path string
		body         string
		header       []string
		status       int
		reason       string
		why          string // in the message
	}{
		{name: "amount number over 2^53", body: with("amount", "9007199254740993"), reason: "INVALID_FIELD", why: "amount: "},
		{name: "amount string over 2^53", body: with("amount", `"9007199254740993"`), reason: "INVALID_FIELD", why: "amount: "},
		{name: "amount over int64", body: with("amount", `"9223372036854775808"`), why: "amount"},
		{name: "amount 1.5", body: with("amount", "1.5"), why: "amount"},
		{name: "amount 1e400", body: with("amount", "1e400"), why: "amount"},
		{name: "amount -1e-400", body: with("amount", "-1e-400"), why: "amount"},
		{name: "amount word", body: with("amount", `"one"`), why: "amount"},
		{name: "amount empty", body: with("amount", `""`), why: "amount"},
		{name: "amount true", body: with("amount", `true`), why: "amount"},
		{name: "amount null", body: with("amount", `null`), reason: "INVALID_FIELD", why: "amount: "},
		{name: "product number", body: with("product_id", `7`), why: "string field productId"},
		{name: "product object", body: with("product_id", `{}`), why: "string field productId"},
		{name: "product invalid UTF-8", body: with("product_id", "\"a\xff\""), why: "UTF-8"},
		{name: "product half a surrogate", body: with("product_id", `"\ud800"`), why: "escape"},
		{name: "product with escaped NUL", body: with("product_id", `"\u0000"`), reason: "INVALID_FIELD", why: "product_id: "},
		{name: "misspelt field", body: with("amout", "1"), why: `"amout"`},
		{name: "field twice", body: `{"amount":1,` + good[1:], why: "amount"},
		{name: "empty body", body: "", header: []string{"Content-Type", "application/json"}, why: "empty"},
		{name: "only spaces", body: "  \n", why: "empty"},
		{name: "empty object", body: "{}", reason: "INVALID_FIELD", why: "product_id: "},
		{name: "null", body: "null", why: "JSON"},
		{name: "list", body: "[" + good + "]", why: "["},
		{name: "not JSON", body: "product_id=p", why: "JSON"},
		{name: "half", body: good[:len(good)-1], why: "JSON"},
		{name: "one and a half", body: good + "{", why: "JSON"},
		{name: "two", body: good + good, why: "JSON"},
		{name: "form", body: good, header: []string{"Origin", "https://elsewhere.example", "Content-Type", "application/x-www-form-urlencoded"}, status: 415, why: "application/json"},
		{name: "text", body: good, header: []string{"Origin", "https://elsewhere.example", "Content-Type", "text/plain"}, status: 415, why: "application/json"},
		{name: "no content type", body: good, header: []string{"Origin", "https://elsewhere.example", "Content-Type", ""}, status: 415, why: "application/json"},
		{name: "content type unreadable", body: good, header: []string{"Origin", "https://elsewhere.example", "Content-Type", ";"}, status: 415, why: "application/json"},
		{name: "body over 1 MiB", body: big, status: 413, why: "1048576 bytes"},
		{name: "spaces over 1 MiB", body: good + strings.Repeat(" ", 1<<20), status: 413, why: "1048576 bytes"},
		{name: "batch over 1 MiB", path: "/v1/purchases:batchCreate", body: `{"requests":[` + big + `]}`, status: 413, why: "1048576 bytes"},
		{name: "batch with a misspelt field", path: "/v1/purchases:batchCreate", body: `{"requests":[{"amout":1}]}`, why: `"amout"`},
		{name: "page_size word", method: "GET", path: "/v1/products?page_size=many", why: "page_size"},
		{name: "page_size too large a number", method: "GET", path: "/v1/products?page_size=9999999999", why: "page_size"},
		{name: "path not UTF-8", method: "GET", path: "/v1/products/%ff", why: "UTF-8"},
		{name: "query not UTF-8", method: "GET", path: "/v1/purchases?product_id=%ff", why: "UTF-8"},
		{name: "unknown path", method: "GET", path: "/v1/shops", status: 404, reason: "-", why: "Not Found"},
		{name: "wrong method", method: "DELETE", path: "/v1/purchases", status: 405, reason: "-", why: "Method Not Allowed"},
		{name: "wrong method with a form", method: "POST", path: "/v1/products/p", body: good, status: 405, reason: "-", why: "Method Not Allowed",
			header: []string{"Content-Type", "application/x-www-form-urlencoded"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, body := f.do(or(tt.method, "POST"), or(tt.path, "/v1/purchases"), tt.body, tt.header...)
			st := httpStatus(t, body)
			want := tt.status
			if want == 0 {
				want = http.StatusBadRequest
				if st.Code() != codes.InvalidArgument {
					t.Errorf("code %v", st.Code())
				}
			}
			if code != want || !strings.Contains(st.Message(), tt.why) {
				t.Errorf("status %d with %q, want %d with %q", code, st.Message(), want, tt.why)
			}
			if got := or(holdfastv1.Reason(st.Err()), "-"); got != or(tt.reason, "MALFORMED_REQUEST") {
				t.Errorf("reason %q", got)
			}
			if calls := f.shop.takeCalls(); len(calls) > 0 {
				t.Errorf("reached a worker: %v", calls)
			}
		})
	}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Numbers beyond 2^53 lose digits in JavaScript, so clients send strings.
func TestAmountMayBeANumberOrAString(t *testing.T) {
	f := openFront(t, coordinator.Config{}, "w1")
	for i, amount := range []string{"9007199254740992", `"9007199254740992"`, "9007199254740992.0", "9.007199254740992e15"} {
		code, body := f.do("POST", "/v1/products", `{"product_id":"p`+string(rune('0'+i))+`","amount_in_storage":`+amount+`}`)
		if code != http.StatusOK || !strings.Contains(body, `"amount_in_storage":"9007199254740992"`) {
			t.Errorf("%s: %d %s", amount, code, body)
		}
	}
}

// curl says that what it sends is a form, and a person types no header.
func TestContentTypeMattersOnlyToPages(t *testing.T) {
	f := openFront(t, coordinator.Config{}, "w1")
	for _, contentType := range []string{
		"application/json; charset=utf-8", "Application/JSON", "application/x-www-form-urlencoded", "",
	} {
		if code, body := f.do("POST", "/v1/products", `{"product_id":"p","amount_in_storage":1}`, "Content-Type", contentType); code != http.StatusOK {
			t.Errorf("%s: %d %s", contentType, code, body)
		}
	}
}

// Shops have such ids, and a client escapes them as any path segment.
func TestAnyProductIDRoundTripsInAPath(t *testing.T) {
	f := openFront(t, coordinator.Config{}, "w1")
	for _, id := range []string{
		"a/b", "/", "//", "a//b", "/a/", "a b", " ", "100%", "%", "%2F", "a%2fb", "%25", "%252F", "a+b", "a?b=c", "a#b", "a&b", "a:b", "p:batchCreate",
		"a;b", "a\\b", `"`, "<b>", "ü", "日本/語", "🙂", "e\u0301", "\u2028", "a,b", ".", "..", "../x", "a/../b", "~", "*", "{product_id}",
		strings.Repeat("/", 128), strings.Repeat("€", 42),
	} {
		f.stock(id, 7)
		escaped := "/v1/products/" + strings.ReplaceAll(url.PathEscape(id), ".", "%2E")
		code, body := f.do("GET", escaped, "")
		var product struct {
			ID string `json:"product_id"`
		}
		if err := json.Unmarshal([]byte(body), &product); err != nil || code != http.StatusOK || product.ID != id {
			t.Errorf("%q as %s: %d %s", id, escaped, code, body)
		}
	}
}

// A path with a slash that is not escaped is still the only thing it can be.
func TestProductIDMayHoldAPlainSlash(t *testing.T) {
	f := openFront(t, coordinator.Config{}, "w1")
	f.stock("a/b", 7)
	if code, body := f.do("GET", "/v1/products/a/b", ""); code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
}
