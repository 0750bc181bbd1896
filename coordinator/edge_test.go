package coordinator_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator"
	"github.com/holdfast-io/holdfast/coordinator/auth"
)

// guarded is a coordinator that takes the tokens ops, view, ann and bob.
func guarded(t *testing.T, cfg coordinator.Config) *front {
	t.Helper()
	var file strings.Builder
	for name, role := range map[string]string{
		"ops": "operator", "view": "viewer", "ann": "buyer, customer_id: ann", "bob": "buyer, customer_id: bob",
	} {
		hash := sha256.Sum256([]byte(name))
		fmt.Fprintf(&file, "- {name: %s, sha256: %s, role: %s}\n", name, hex.EncodeToString(hash[:]), role)
	}
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if cfg.Authenticator, err = auth.New(auth.Config{TokensFile: path}); err != nil {
		t.Fatal(err)
	}
	f := newShops(t, "w1").front(cfg)
	if _, err := f.products.ListProducts(as(t, "ops"), &holdfastv1.ListProductsRequest{}); err != nil {
		t.Fatal(err)
	}
	f.shop.takeCalls()
	return f
}

// as is the context of a caller with a token.
func as(t *testing.T, token string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
}

// methods are the full names of the contract's methods, with an empty request of each.
func methods(t *testing.T) map[string]proto.Message {
	t.Helper()
	all := map[string]proto.Message{}
	for _, file := range []protoreflect.FileDescriptor{
		holdfastv1.File_holdfast_v1_product_proto, holdfastv1.File_holdfast_v1_purchase_proto,
		holdfastv1.File_holdfast_v1_order_proto, holdfastv1.File_holdfast_v1_event_proto,
		holdfastv1.File_holdfast_v1_webhook_proto,
	} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for m := range service.Methods().Len() {
				kind, err := protoregistry.GlobalTypes.FindMessageByName(service.Methods().Get(m).Input().FullName())
				if err != nil {
					t.Fatal(err)
				}
				all[fmt.Sprintf("/%s/%s", service.FullName(), service.Methods().Get(m).Name())] = kind.New().Interface()
			}
		}
	}
	return all
}

// A method that forgets to ask who calls must not be served to everybody.
func TestNoMethodIsServedWithoutAToken(t *testing.T) {
	f := guarded(t, coordinator.Config{})
	seen := 0
	for method, req := range methods(t) {
		seen++
		stream, err := f.conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
		if err == nil {
			if err = stream.SendMsg(req); err == nil || errors.Is(err, io.EOF) {
				_ = stream.CloseSend()
				err = stream.RecvMsg(&holdfastv1.Purchase{})
			}
		}
		if holdfastv1.Reason(err) != holdfastv1.ReasonTokenMissing || status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: %v", method, err)
		}
	}
	if seen < 25 {
		t.Errorf("%d methods", seen)
	}
	for _, path := range []string{
		"GET /v1/products", "GET /v1/products/x", "GET /v1/products/a/b", "POST /v1/products", "POST /v1/purchases", "GET /v1/purchases",
		"POST /v1/orders", "GET /v1/events:watch", "GET /v1/products:watch?product_id=x", "POST /v1/webhooks", "GET /v1/movements",
	} {
		method, target, _ := strings.Cut(path, " ")
		if code, body := f.http(t, method, target, "", `{}`); code != http.StatusUnauthorized || !strings.Contains(body, "TOKEN_MISSING") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	for _, open := range []string{"/healthz", "/readyz", "/openapi.json"} {
		if code, _ := f.http(t, http.MethodGet, open, "", ""); code != http.StatusOK {
			t.Errorf("%s: %d", open, code)
		}
	}
	if calls := f.shop.takeCalls(); len(calls) != 0 {
		t.Errorf("a worker was asked: %v", calls)
	}
}

func (f *front) http(t *testing.T, method, target, token, body string) (code int, answer string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, f.url+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(content)
}

// By gRPC and HTTP, one by one, in batches and in streams: a buyer has what is his and no more.
func TestBuyerHasOnlyWhatIsHis(t *testing.T) {
	f := guarded(t, coordinator.Config{})
	create := func(token string) error {
		_, err := f.products.CreateProduct(as(t, token), &holdfastv1.CreateProductRequest{ProductId: "p", AmountInStorage: 100})
		return err
	}
	if err := create("ann"); holdfastv1.Reason(err) != holdfastv1.ReasonRoleMissing || status.Code(err) != codes.PermissionDenied {
		t.Errorf("a buyer creates: %v", err)
	}
	if err := create("ops"); err != nil {
		t.Fatal(err)
	}
	buy := func(token, customer string) (*holdfastv1.Purchase, error) {
		return f.purchases.CreatePurchase(as(t, token), &holdfastv1.CreatePurchaseRequest{ProductId: "p", Amount: 1, CustomerId: customer})
	}
	anns, err := buy("ann", "ann")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := buy("ann", "bob"); holdfastv1.Reason(err) != holdfastv1.ReasonOtherCustomer {
		t.Errorf("for another: %v", err)
	}
	if code, body := f.http(t, http.MethodPost, "/v1/purchases", "ann", `{"product_id":"p","amount":1,"customer_id":"ann"}`); code != http.StatusOK {
		t.Errorf("by HTTP: %d %s", code, body)
	}
	if code, body := f.http(t, http.MethodPost, "/v1/purchases", "ann", `{"product_id":"p","amount":1,"customer_id":"bob"}`); code != http.StatusForbidden {
		t.Errorf("by HTTP, for another: %d %s", code, body)
	}
	both := []*holdfastv1.CreatePurchaseRequest{{ProductId: "p", Amount: 1, CustomerId: "ann"}, {ProductId: "p", Amount: 1, CustomerId: "bob"}}
	if _, err := f.purchases.BatchCreatePurchases(as(t, "ann"), &holdfastv1.BatchCreatePurchasesRequest{Requests: both}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("in a batch: %v", err)
	}
	stream, err := f.purchases.StreamPurchases(as(t, "ann"))
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]string{}
	for i, req := range both {
		req.RequestId = fmt.Sprint(i)
		if err := stream.Send(&holdfastv1.StreamPurchasesRequest{Purchase: req}); err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		reasons[resp.GetRequestId()] = holdfastv1.Reason(status.FromProto(resp.GetError()).Err())
	}
	if reasons["0"] != "" || reasons["1"] != holdfastv1.ReasonOtherCustomer {
		t.Errorf("in a stream: %v", reasons)
	}
	read := func(token, id string) error {
		_, err := f.purchases.GetPurchase(as(t, token), &holdfastv1.GetPurchaseRequest{PurchaseId: id})
		return err
	}
	if err := errors.Join(read("ann", anns.GetPurchaseId()), read("view", anns.GetPurchaseId())); err != nil {
		t.Error(err)
	}
	unknown, others := read("bob", "eu-unknown"), read("bob", anns.GetPurchaseId())
	if status.Code(unknown) != codes.NotFound || status.Code(others) != codes.NotFound || holdfastv1.Reason(unknown) != holdfastv1.Reason(others) {
		t.Errorf("another's is not to be told from one that is not there: %v, %v", unknown, others)
	}
	if got := f.shop.stored("p"); len(got) != 3 {
		t.Errorf("%d purchases", len(got))
	}
}

// Too many calls are refused with the time to wait; a client that waits loses none.
func TestCallerIsKeptToHisRate(t *testing.T) {
	f := guarded(t, coordinator.Config{Rates: auth.Rates{PerBuyer: 5}})
	if _, err := f.products.CreateProduct(as(t, "ops"), &holdfastv1.CreateProductRequest{ProductId: "p", AmountInStorage: 100}); err != nil {
		t.Fatal(err)
	}
	buy := func(token string) error {
		_, err := f.purchases.CreatePurchase(as(t, token), &holdfastv1.CreatePurchaseRequest{ProductId: "p", Amount: 1, CustomerId: token})
		return err
	}
	var err error
	for calls := 0; err == nil && calls < 100; calls++ {
		err = buy("ann")
	}
	st := status.Convert(err)
	if st.Code() != codes.ResourceExhausted || holdfastv1.Reason(err) != holdfastv1.ReasonRateExceeded || retryDelay(err) <= 0 {
		t.Errorf("%v %v", err, st.Details())
	}
	if err := buy("bob"); err != nil {
		t.Errorf("another buyer: %v", err)
	}
	if code, _ := f.http(t, http.MethodPost, "/v1/purchases", "ann", `{"product_id":"p","amount":1,"customer_id":"ann"}`); code != http.StatusTooManyRequests {
		t.Errorf("by HTTP: %d", code)
	}
	if delay := retryDelay(err); delay > 0 {
		time.Sleep(delay) // as a client does
		if err := buy("ann"); err != nil {
			t.Errorf("after the wait: %v", err)
		}
	}
}

func retryDelay(err error) time.Duration {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// One buyer must not take the watches of all others, by whatever way he comes.
func TestBuyerHasSoManyStreams(t *testing.T) {
	f := guarded(t, coordinator.Config{MaxStreamsPerBuyer: 2})
	if _, err := f.products.CreateProduct(as(t, "ops"), &holdfastv1.CreateProductRequest{ProductId: "p", AmountInStorage: 100}); err != nil {
		t.Fatal(err)
	}
	watch := func(token string) (end func(), err error) {
		ctx, cancel := context.WithCancel(as(t, token))
		stream, err := f.products.WatchProduct(ctx, &holdfastv1.WatchProductRequest{ProductId: "p"})
		if err == nil {
			_, err = stream.Recv()
		}
		return cancel, err
	}
	end, err := watch("ann")
	if err != nil {
		t.Fatal(err)
	}
	const path = "/v1/products:watch?product_id=p"
	f.read(t, path, "", "Authorization", "Bearer ann").next()
	if _, err := watch("ann"); holdfastv1.Reason(err) != holdfastv1.ReasonTooManyWatches ||
		status.Code(err) != codes.ResourceExhausted || retryDelay(err) <= 0 {
		t.Errorf("a third: %v", err)
	}
	if code, body := f.http(t, http.MethodGet, path, "ann", ""); code != http.StatusTooManyRequests || !strings.Contains(body, "TOO_MANY_WATCHES") {
		t.Errorf("a third by HTTP: %d %s", code, body)
	}
	stream, err := f.purchases.StreamPurchases(as(t, "ann"))
	if err == nil {
		_, err = stream.Recv()
	}
	if holdfastv1.Reason(err) != holdfastv1.ReasonRateExceeded || retryDelay(err) <= 0 {
		t.Errorf("a third, of purchases: %v", err)
	}
	for _, other := range []string{"bob", "bob", "view", "view", "view"} {
		if _, err := watch(other); err != nil {
			t.Errorf("%s: %v", other, err)
		}
	}
	end()
	begun := time.Now()
	for _, err = watch("ann"); err != nil && time.Since(begun) < patience; _, err = watch("ann") {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}

func TestHeadersHaveALimit(t *testing.T) {
	f := guarded(t, coordinator.Config{})
	long := strings.Repeat("x", 64<<10)
	if _, err := f.products.ListProducts(as(t, long), &holdfastv1.ListProductsRequest{}); err == nil {
		t.Error("64 KiB of metadata by gRPC")
	}
	if code, _ := f.http(t, http.MethodGet, "/v1/products", long, ""); code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("64 KiB of headers by HTTP: %d", code)
	}
}
