package coordinator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	spb "google.golang.org/genproto/googleapis/rpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

var long = strings.Repeat("x", 129)

type change func(*holdfastv1.CreatePurchaseRequest)

func purchase(changes ...change) *holdfastv1.CreatePurchaseRequest {
	req := buy("p", 1)
	for _, change := range changes {
		change(req)
	}
	return req
}

func batchOf(n int, changes ...change) *holdfastv1.BatchCreatePurchasesRequest {
	req := &holdfastv1.BatchCreatePurchasesRequest{}
	for range n {
		req.Requests = append(req.Requests, purchase())
	}
	if len(changes) > 0 {
		req.Requests[3] = purchase(changes...)
	}
	return req
}

// A request that breaks a rule must cost no worker anything, and whoever wrote
// it must learn which field it was.
func TestBadRequestNamesItsFieldAndReachesNoWorker(t *testing.T) {
	type (
		create = holdfastv1.CreateProductRequest
		extend = holdfastv1.ExtendPurchaseRequest
	)
	amount := func(n int64) change { return func(r *holdfastv1.CreatePurchaseRequest) { r.Amount = n } }
	product := func(s string) change { return func(r *holdfastv1.CreatePurchaseRequest) { r.ProductId = s } }
	customer := func(s string) change { return func(r *holdfastv1.CreatePurchaseRequest) { r.CustomerId = s } }
	region := func(s string) change { return func(r *holdfastv1.CreatePurchaseRequest) { r.Region = s } }
	payment := func(s string) change { return func(r *holdfastv1.CreatePurchaseRequest) { r.PaymentMethod = s } }
	hold := func(h *holdfastv1.Hold) change { return func(r *holdfastv1.CreatePurchaseRequest) { r.Hold = h } }
	id := func(s string) change { return func(r *holdfastv1.CreatePurchaseRequest) { r.RequestId = s } }
	f := openFront(t, coordinator.Config{}, "w1")
	for _, tt := range []struct {
		name  string
		req   proto.Message
		field string
		why   string // in the description
	}{
		{"amount 0", purchase(amount(0)), "amount", "1"},
		{"amount negative", purchase(amount(-1)), "amount", "1"},
		{"amount over 2^53", purchase(amount(1<<53 + 1)), "amount", "9007199254740992"},
		{"amount the largest", purchase(amount(1<<63 - 1)), "amount", "9007199254740992"},
		{"product empty", purchase(product("")), "product_id", "1 character"},
		{"product 129 bytes", purchase(product(long)), "product_id", "128 bytes"},
		{"product 129 bytes in 43 characters", purchase(product(strings.Repeat("€", 43))), "product_id", "128 bytes"},
		{"product with NUL", purchase(product("a\x00")), "product_id", "control characters"},
		{"product with DEL", purchase(product("a\x7f")), "product_id", "control characters"},
		{"product with NEL", purchase(product("a\u0085b")), "product_id", "control characters"},
		{"product with a line break last", purchase(product("a\n")), "product_id", "control characters"},
		{"customer empty", purchase(customer("")), "customer_id", "1 character"},
		{"customer 129 bytes", purchase(customer(long)), "customer_id", "128 bytes"},
		{"customer with NUL", purchase(customer("\x00")), "customer_id", "control characters"},
		{"customer with NEL", purchase(customer("\u0085")), "customer_id", "control characters"},
		{"region unknown", purchase(region("asia")), "region", `no region "asia"; known are eu, us`},
		{"region in capitals", purchase(region("EU")), "region", "known are eu, us"},
		{"region 129 bytes", purchase(region(long)), "region", "128 bytes"},
		{"region with a line break", purchase(region("eu\n")), "region", "control characters"},
		{"request_id 129 bytes", purchase(id(long)), "request_id", "128 bytes"},
		{"request_id with DEL", purchase(id("\x7f")), "request_id", "control characters"},
		{"payment_method 129 bytes", purchase(payment(long)), "payment_method", "128 bytes"},
		{"payment_method with tab", purchase(payment("\t")), "payment_method", "control characters"},
		{"storage 0", &create{ProductId: "p"}, "amount_in_storage", "1"},
		{"storage negative", &create{ProductId: "p", AmountInStorage: -5}, "amount_in_storage", "1"},
		{"storage over 2^53", &create{ProductId: "p", AmountInStorage: 1<<53 + 1}, "amount_in_storage", "9007199254740992"},
		{"new product empty", &create{AmountInStorage: 1}, "product_id", "1 character"},
		{"new product 129 bytes", &create{ProductId: long, AmountInStorage: 1}, "product_id", "128 bytes"},
		{"read product 129 bytes", &holdfastv1.GetProductRequest{ProductId: long}, "product_id", "128 bytes"},
		{"read product with NEL", &holdfastv1.GetProductRequest{ProductId: "\u0085"}, "product_id", "control characters"},
		{"read purchase 129 bytes", &holdfastv1.GetPurchaseRequest{PurchaseId: long}, "purchase_id", "128 bytes"},
		{"products: page_size negative", &holdfastv1.ListProductsRequest{PageSize: -1}, "page_size", "0"},
		{"products: page_token", &holdfastv1.ListProductsRequest{PageToken: strings.Repeat("x", 1025)}, "page_token", "1024 bytes"},
		{"purchases: page_size negative", &holdfastv1.ListPurchasesRequest{PageSize: -1}, "page_size", "0"},
		{"purchases: page_token", &holdfastv1.ListPurchasesRequest{PageToken: strings.Repeat("x", 1025)}, "page_token", "1024 bytes"},
		{"purchases: product", &holdfastv1.ListPurchasesRequest{ProductId: "\n"}, "product_id", "control characters"},
		{"purchases: region", &holdfastv1.ListPurchasesRequest{Region: "asia"}, "region", "known are eu, us"},
		{"held until before 1970", purchase(hold(until(time.Unix(-60, 0)))), "hold.expire_time", "future"},
		{"held until 1970", purchase(hold(until(time.Unix(0, 0)))), "hold.expire_time", "future"},
		{"held for no time", purchase(hold(lasting(0))), "hold.duration", "0"},
		{"held for less than no time", purchase(hold(lasting(-time.Second))), "hold.duration", "0"},
		{"batch held until before 1970", batchOf(5, hold(until(time.Unix(-60, 0)))), "requests[3].hold.expire_time", "future"},
		{"batch held for no time", batchOf(5, hold(lasting(0))), "requests[3].hold.duration", "0"},
		{"extend until before 1970", &extend{PurchaseId: "eu-1", Hold: until(time.Unix(-60, 0))}, "hold.expire_time", "future"},
		{"extend by nothing", &extend{PurchaseId: "eu-1", Hold: lasting(0)}, "hold.duration", "0"},
		{"extend: purchase", &extend{PurchaseId: strings.Repeat("x", 257)}, "purchase_id", "256 bytes"},
		{"extend: request_id", &extend{PurchaseId: "eu-1", RequestId: long}, "request_id", "128 bytes"},
		{"confirm: amount", &holdfastv1.ConfirmPurchaseRequest{PurchaseId: "eu-1", Amount: -1}, "amount", "0"},
		{"confirm: amount over 2^53", &holdfastv1.ConfirmPurchaseRequest{PurchaseId: "eu-1", Amount: 1<<53 + 1}, "amount", "9007199254740992"},
		{"confirm: request_id", &holdfastv1.ConfirmPurchaseRequest{PurchaseId: "eu-1", RequestId: "\x00"}, "request_id", "control characters"},
		{"cancel: request_id", &holdfastv1.CancelPurchaseRequest{PurchaseId: "eu-1", RequestId: long}, "request_id", "128 bytes"},
		{"cancel: purchase", &holdfastv1.CancelPurchaseRequest{PurchaseId: "eu\n"}, "purchase_id", "control characters"},
		{"return: amount", &holdfastv1.ReturnPurchaseRequest{PurchaseId: "eu-1", Amount: -1}, "amount", "0"},
		{"return: request_id", &holdfastv1.ReturnPurchaseRequest{PurchaseId: "eu-1", RequestId: long}, "request_id", "128 bytes"},
		{"deliver nothing", &holdfastv1.CreateDeliveryRequest{ProductId: "p"}, "amount", "0"},
		{"deliver over 2^53", &holdfastv1.CreateDeliveryRequest{ProductId: "p", Amount: -1<<53 - 1}, "amount", "9007199254740992"},
		{"deliver no product", &holdfastv1.CreateDeliveryRequest{Amount: 1}, "product_id", "1 character"},
		{"deliver: request_id", &holdfastv1.CreateDeliveryRequest{ProductId: "p", Amount: 1, RequestId: "\n"}, "request_id", "control characters"},
		{"limit negative", &create{ProductId: "p", AmountInStorage: 1, MaxPerCustomer: -1}, "max_per_customer", "0"},
		{"batch of none", batchOf(0), "requests", "1 item"},
		{"batch of 1001", batchOf(1001), "requests", "1000 item"},
		{"batch with an amount", batchOf(5, amount(0)), "requests[3].amount", "1"},
		{"batch with a customer", batchOf(5, customer("")), "requests[3].customer_id", "1 character"},
		{"batch with a region", batchOf(5, region("asia")), "requests[3].region", "known are eu, us"},
	} {
		reason := holdfastv1.ReasonInvalidField
		if strings.Contains(tt.why, "known are") {
			reason = holdfastv1.ReasonUnknownRegion
		}
		t.Run(tt.name, func(t *testing.T) {
			overGRPC := status.Convert(f.send(tt.req))
			code, overHTTP := f.sendHTTP(t, tt.req)
			if code != http.StatusBadRequest {
				t.Errorf("HTTP status %d", code)
			}
			for way, st := range map[string]*status.Status{"gRPC": overGRPC, "HTTP": overHTTP} {
				checkBadField(t, way, st, reason, tt.field, tt.why)
			}
			if calls := f.shop.takeCalls(); len(calls) > 0 {
				t.Errorf("reached a worker: %v", calls)
			}
		})
	}
}

func checkBadField(t *testing.T, way string, st *status.Status, reason, field, why string) {
	t.Helper()
	if st.Code() != codes.InvalidArgument {
		t.Errorf("%s: code %v: %s", way, st.Code(), st.Message())
	}
	if got := holdfastv1.Reason(st.Err()); got != reason {
		t.Errorf("%s: reason %q, want %q", way, got, reason)
	}
	v := badField(st)
	if v.GetField() != field || !strings.Contains(v.GetDescription(), why) {
		t.Errorf("%s: BadRequest says %q of field %q, want %q of %q", way, v.GetDescription(), v.GetField(), why, field)
	}
	if !strings.HasPrefix(st.Message(), field+": ") {
		t.Errorf("%s: message %q does not begin with the field", way, st.Message())
	}
}

// badField returns the one field violation of a status.
func badField(st *status.Status) *errdetails.BadRequest_FieldViolation {
	for _, detail := range st.Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok && len(bad.GetFieldViolations()) == 1 {
			return bad.GetFieldViolations()[0]
		}
	}
	return nil
}

// send sends a request over gRPC.
func (f *front) send(req proto.Message) (err error) {
	ctx := context.Background()
	switch req := req.(type) {
	case *holdfastv1.CreateProductRequest:
		_, err = f.products.CreateProduct(ctx, req)
	case *holdfastv1.GetProductRequest:
		_, err = f.products.GetProduct(ctx, req)
	case *holdfastv1.ListProductsRequest:
		_, err = f.products.ListProducts(ctx, req)
	case *holdfastv1.CreatePurchaseRequest:
		_, err = f.purchases.CreatePurchase(ctx, req)
	case *holdfastv1.BatchCreatePurchasesRequest:
		_, err = f.purchases.BatchCreatePurchases(ctx, req)
	case *holdfastv1.GetPurchaseRequest:
		_, err = f.purchases.GetPurchase(ctx, req)
	case *holdfastv1.ListPurchasesRequest:
		_, err = f.purchases.ListPurchases(ctx, req)
	default:
		_, err = f.change(ctx, req)
	}
	return err
}

// change has something done to a purchase, or a product, over gRPC.
func (f *front) change(ctx context.Context, req proto.Message) (proto.Message, error) {
	switch req := req.(type) {
	case *holdfastv1.ExtendPurchaseRequest:
		return f.purchases.ExtendPurchase(ctx, req)
	case *holdfastv1.ConfirmPurchaseRequest:
		return f.purchases.ConfirmPurchase(ctx, req)
	case *holdfastv1.CancelPurchaseRequest:
		return f.purchases.CancelPurchase(ctx, req)
	case *holdfastv1.ReturnPurchaseRequest:
		return f.purchases.ReturnPurchase(ctx, req)
	case *holdfastv1.CreateDeliveryRequest:
		return f.products.CreateDelivery(ctx, req)
	case *holdfastv1.PayOrderRequest:
		return f.orders.PayOrder(ctx, req)
	}
	panic(fmt.Sprintf("no call has a %T", req))
}

// sendHTTP sends a request over HTTP, and returns the status in it.
func (f *front) sendHTTP(t *testing.T, req proto.Message) (int, *status.Status) {
	t.Helper()
	method, path := http.MethodGet, ""
	switch req := req.(type) {
	case *holdfastv1.CreateProductRequest:
		method, path = http.MethodPost, "/v1/products"
	case *holdfastv1.GetProductRequest:
		path = "/v1/products/" + url.PathEscape(req.GetProductId())
	case *holdfastv1.ListProductsRequest:
		path = "/v1/products?page_size=" + strconv.Itoa(int(req.GetPageSize())) + "&page_token=" + req.GetPageToken()
	case *holdfastv1.CreatePurchaseRequest:
		method, path = http.MethodPost, "/v1/purchases"
	case *holdfastv1.BatchCreatePurchasesRequest:
		method, path = http.MethodPost, "/v1/purchases:batchCreate"
	case *holdfastv1.GetPurchaseRequest:
		path = "/v1/purchases/" + url.PathEscape(req.GetPurchaseId())
	case *holdfastv1.ListPurchasesRequest:
		path = "/v1/purchases?page_size=" + strconv.Itoa(int(req.GetPageSize())) +
			"&page_token=" + req.GetPageToken() + "&product_id=" + url.QueryEscape(req.GetProductId()) + "&region=" + req.GetRegion()
	default:
		method, path = http.MethodPost, changePath(req)
	}
	var body []byte
	if method == http.MethodPost {
		var err error
		if body, err = (protojson.MarshalOptions{UseProtoNames: true}).Marshal(req); err != nil {
			t.Fatal(err)
		}
	}
	code, answer := f.do(method, path, string(body))
	return code, httpStatus(t, answer)
}

func changePath(req proto.Message) string {
	purchase := func(id, verb string) string { return "/v1/purchases/" + url.PathEscape(id) + ":" + verb }
	switch req := req.(type) {
	case *holdfastv1.ExtendPurchaseRequest:
		return purchase(req.GetPurchaseId(), "extend")
	case *holdfastv1.ConfirmPurchaseRequest:
		return purchase(req.GetPurchaseId(), "confirm")
	case *holdfastv1.CancelPurchaseRequest:
		return purchase(req.GetPurchaseId(), "cancel")
	case *holdfastv1.ReturnPurchaseRequest:
		return purchase(req.GetPurchaseId(), "return")
	}
	return "/v1/deliveries"
}

// httpStatus decodes the body of an error.
func httpStatus(t *testing.T, body string) *status.Status {
	t.Helper()
	if !json.Valid([]byte(body)) {
		t.Fatalf("not JSON: %q", body)
	}
	var st spb.Status
	if err := protojson.Unmarshal([]byte(body), &st); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return status.FromProto(&st)
}
