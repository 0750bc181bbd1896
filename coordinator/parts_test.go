package coordinator_test

import (
	"bytes"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator"
)

// What is refused must not cost a hundred times the memory of what was sent: some calls of that
// kind at once would end the coordinator.
func TestManyPartsTakeLittleMemory(t *testing.T) {
	f := openFront(t, coordinator.Config{}, "w1")
	parts := &emptypb.Empty{} // as it is on the wire: empty parts of two bytes each
	parts.ProtoReflect().SetUnknown(bytes.Repeat([]byte{1<<3 | 2, 0}, 500_000))
	body := func(list string) string { return `{"` + list + `":[` + strings.Repeat("{},", 340_000) + `{}]}` }
	byGRPC := func(method string) func() bool {
		return func() bool {
			err := f.conn.Invoke(t.Context(), method, parts, &emptypb.Empty{})
			return status.Code(err) == codes.InvalidArgument && holdfastv1.Reason(err) == holdfastv1.ReasonInvalidField
		}
	}
	byHTTP := func(path, body string) func() bool {
		return func() bool {
			code, answer := f.do(http.MethodPost, path, body)
			return code == http.StatusRequestEntityTooLarge && strings.Contains(answer, holdfastv1.ReasonMalformedRequest)
		}
	}
	for name, refused := range map[string]func() bool{
		"a batch":          byGRPC(holdfastv1.PurchaseService_BatchCreatePurchases_FullMethodName),
		"an order":         byGRPC(holdfastv1.OrderService_CreateOrder_FullMethodName),
		"a batch by HTTP":  byHTTP("/v1/purchases:batchCreate", body("requests")),
		"an order by HTTP": byHTTP("/v1/orders", body("lines")),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if !refused() {
			t.Errorf("%s: not refused as it should be", name)
		}
		runtime.ReadMemStats(&after)
		took := (after.TotalAlloc - before.TotalAlloc) >> 20
		t.Logf("%s: %d MiB", name, took)
		if took > 20 {
			t.Errorf("%s takes %d MiB", name, took)
		}
	}
}
