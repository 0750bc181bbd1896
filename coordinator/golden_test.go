package coordinator_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

var update = flag.Bool("update", false, "write what is answered to testdata")

// People and their programs read these; whoever changes one sees it here first.
func TestHTTPAnswersAreAsPublished(t *testing.T) {
	f := openFront(t, coordinator.Config{}, "w1")
	noWorker := newShops(t).front(coordinator.Config{Deadline: 1})
	const order = `{"product_id":"p","amount":%s,"customer_id":"alice","region":"eu","payment_method":"card","request_id":"%s"}`
	for _, tt := range []struct {
		name         string
		f            *front
		method, path string
		body         string
		status       int
	}{
		{"product created", f, "POST", "/v1/products", `{"product_id":"p","amount_in_storage":10}`, 200},
		{"purchase", f, "POST", "/v1/purchases", fmt.Sprintf(order, "3", "r1"), 200},
		{"product", f, "GET", "/v1/products/p", "", 200},
		{"purchase read", f, "GET", "/v1/purchases/eu-00000001", "", 200},
		{"purchases", f, "GET", "/v1/purchases?product_id=p", "", 200},
		{"batch", f, "POST", "/v1/purchases:batchCreate", `{"requests":[` + fmt.Sprintf(order, "3", "r1") + "," + fmt.Sprintf(order, "8", "r3") + `]}`, 200},
		{"insufficient stock", f, "POST", "/v1/purchases", fmt.Sprintf(order, "8", "r2"), 409},
		{"product exists", f, "POST", "/v1/products", `{"product_id":"p","amount_in_storage":11}`, 409},
		{"product not found", f, "GET", "/v1/products/unknown", "", 404},
		{"purchase not found", f, "GET", "/v1/purchases/eu-00000009", "", 404},
		{"request_id reused", f, "POST", "/v1/purchases", fmt.Sprintf(order, "4", "r1"), 400},
		{"invalid field", f, "POST", "/v1/purchases", fmt.Sprintf(order, "0", "r1"), 400},
		{"control characters", f, "POST", "/v1/products", `{"product_id":"\u0085","amount_in_storage":11}`, 400},
		{"invalid field in a batch", f, "POST", "/v1/purchases:batchCreate", `{"requests":[` + fmt.Sprintf(order, "1", "r") + "," + fmt.Sprintf(order, "0", "r") + `]}`, 400},
		{"unknown region", f, "POST", "/v1/purchases", strings.Replace(fmt.Sprintf(order, "1", "r1"), `"eu"`, `"mars"`, 1), 400},
		{"misspelt field", f, "POST", "/v1/purchases", `{"produkt_id":"p"}`, 400},
		{"not JSON", f, "POST", "/v1/purchases", `product_id=p`, 400},
		{"body too large", f, "POST", "/v1/purchases", strings.Repeat(" ", 1<<20+1), 413},
		{"no such path", f, "GET", "/v1/nothing", "", 404},
		{"movements", f, "GET", "/v1/movements?product_id=p", "", 200},
		{"movements without a product", f, "GET", "/v1/movements", "", 400},
		{"webhook address", f, "POST", "/v1/webhooks", `{"url":"ftp://example.com/"}`, 400},
		{"webhook address with a user", f, "POST", "/v1/webhooks", `{"url":"https://me:secret@example.com/"}`, 400},
		{"no such method", f, "DELETE", "/v1/products/p", "", 405},
		{"no worker", noWorker, "POST", "/v1/purchases", fmt.Sprintf(order, "1", "r1"), 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, body := tt.f.do(tt.method, tt.path, tt.body)
			if code != tt.status {
				t.Errorf("status %d, want %d", code, tt.status)
			}
			checkGolden(t, strings.ReplaceAll(tt.name, " ", "-")+".json", body)
		})
	}
}

// checkGolden compares but for white space, which protojson varies on purpose.
func checkGolden(t *testing.T, name, body string) {
	t.Helper()
	var got bytes.Buffer
	if err := json.Indent(&got, []byte(body), "", "  "); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	got.WriteByte('\n')
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("answered %s, published is %s", got.String(), want)
	}
}

// Programs go by code and reason, and show how many are left.
func TestErrorsOverGRPCCarryTheirReason(t *testing.T) {
	f := openFront(t, coordinator.Config{}, "w1")
	f.stock("p", 3)
	sold := buy("p", 1)
	sold.RequestId = "r1"
	if err := f.send(sold); err != nil {
		t.Fatal(err)
	}
	reused := buy("p", 2)
	reused.RequestId = "r1"
	for _, tt := range []struct {
		err    error
		code   codes.Code
		reason string
	}{
		{f.send(buy("p", 3)), codes.FailedPrecondition, holdfastv1.ReasonInsufficientStock},
		{f.send(buy("unknown", 3)), codes.NotFound, holdfastv1.ReasonProductNotFound},
		{f.send(reused), codes.InvalidArgument, holdfastv1.ReasonRequestIDReused},
		{f.send(&holdfastv1.CreateProductRequest{ProductId: "p", AmountInStorage: 4}), codes.AlreadyExists, holdfastv1.ReasonProductExists},
		{f.send(&holdfastv1.GetPurchaseRequest{PurchaseId: "eu-9"}), codes.NotFound, holdfastv1.ReasonPurchaseNotFound},
	} {
		info := holdfastv1.Info(tt.err)
		if status.Code(tt.err) != tt.code || info.GetReason() != tt.reason || info.GetDomain() != "holdfast" {
			t.Errorf("got %v with %v, want %v with %s", tt.err, info, tt.code, tt.reason)
		}
		if tt.reason == holdfastv1.ReasonInsufficientStock && info.GetMetadata()["available"] != "2" {
			t.Errorf("available %q, want 2", info.GetMetadata()["available"])
		}
		if v := badField(status.Convert(tt.err)); tt.reason == holdfastv1.ReasonRequestIDReused && v.GetField() != "request_id" {
			t.Errorf("reused: field %q", v.GetField())
		}
	}
}

// The door is open to everyone: nothing that comes in may bring it down.
func FuzzHTTPAnswersAnyBodyWithJSON(f *testing.F) {
	for _, body := range []string{
		"", "{}", "null", "[]", "{", `{"product_id":"p","amount":1,"customer_id":"c"}`, `{"requests":[{}]}`, `{"requests":[null]}`,
		`{"product_id":"p","amount_in_storage":1e400}`, `{"amount":-0}`, `{"amount":"1e3"}`, "\xff", strings.Repeat("[", 20_000),
		strings.Repeat(`{"requests":`, 10_000), `{"product_id":"\ud800"}`, `{"@type":"x"}`,
	} {
		f.Add(body, "c")
	}
	door := openFront(f, coordinator.Config{}, "w1")
	f.Fuzz(func(t *testing.T, body, region string) {
		front := &front{shops: &shops{t: t}, url: door.url} // f must not be used in here
		encoded, _ := json.Marshal(region)
		for path, body := range map[string]string{
			"/v1/products": body, "/v1/purchases": body, "/v1/purchases:batchCreate": `{"requests":[` + body + `]}`,
			"/v1/purchases?": `{"product_id":"p","amount":1,"customer_id":"c","region":` + string(encoded) + "}",
		} {
			code, answer := front.do(http.MethodPost, path, body, "Content-Type", "application/json")
			if !json.Valid([]byte(answer)) || code == http.StatusInternalServerError || code == http.StatusServiceUnavailable {
				t.Errorf("%s %q: %d %q", path, body, code, answer)
			}
		}
	})
}
