package client

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// A method that is added to the contract must be one that can be repeated, or be known here.
func TestEveryMethodOfTheContractCanBeRepeated(t *testing.T) {
	seen := 0
	for _, file := range []protoreflect.FileDescriptor{
		holdfastv1.File_holdfast_v1_product_proto, holdfastv1.File_holdfast_v1_purchase_proto,
		holdfastv1.File_holdfast_v1_order_proto, holdfastv1.File_holdfast_v1_event_proto,
		holdfastv1.File_holdfast_v1_webhook_proto,
	} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for m := range service.Methods().Len() {
				method := service.Methods().Get(m)
				if method.IsStreamingClient() || method.IsStreamingServer() || method.Name() == "BatchCreatePurchases" {
					continue
				}
				seen++
				kind, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
				if err != nil {
					t.Fatal(err)
				}
				full := "/" + string(service.FullName()) + "/" + string(method.Name())
				if !repeatable(full, withRequestIDs(kind.New().Interface())) {
					t.Errorf("%s is made once", full)
				}
			}
		}
	}
	if seen != 22 {
		t.Errorf("%d methods", seen)
	}
	if repeatable("/other/Delete", &holdfastv1.Purchase{}) || repeatable("/other/Delete", &holdfastv1.GetProductRequest{}) {
		t.Error("a method that is not known is made twice")
	}
}

func TestKeysReachEveryPart(t *testing.T) {
	given := &holdfastv1.CreatePurchaseRequest{RequestId: "mine"}
	for _, req := range []proto.Message{
		&holdfastv1.StreamPurchasesRequest{Purchase: &holdfastv1.CreatePurchaseRequest{ProductId: "p"}},
		&holdfastv1.BatchCreatePurchasesRequest{Requests: []*holdfastv1.CreatePurchaseRequest{{}, given, {}}},
		&holdfastv1.ConfirmPurchaseRequest{}, &holdfastv1.CancelPurchaseRequest{}, &holdfastv1.ReturnPurchaseRequest{},
		&holdfastv1.ExtendPurchaseRequest{Hold: &holdfastv1.Hold{}}, &holdfastv1.CreateDeliveryRequest{},
	} {
		before := proto.Clone(req)
		got := withRequestIDs(req)
		if !proto.Equal(req, before) {
			t.Errorf("%v was changed", before)
		}
		if fill(got.ProtoReflect(), false) {
			t.Errorf("%v lacks a key", got)
		}
		if again := withRequestIDs(got); again != got {
			t.Errorf("%v was copied for nothing", got)
		}
	}
	batch := withRequestIDs(&holdfastv1.BatchCreatePurchasesRequest{Requests: []*holdfastv1.CreatePurchaseRequest{{}, given, {}, nil}}).(*holdfastv1.BatchCreatePurchasesRequest)
	var keys []string
	for _, r := range batch.GetRequests() {
		keys = append(keys, r.GetRequestId())
	}
	if keys[1] != "mine" || len(slices.Compact(slices.Sorted(slices.Values(keys)))) != 4 || strings.Join(keys, "") == "mine" {
		t.Errorf("keys %q", keys)
	}
	read := &holdfastv1.GetProductRequest{ProductId: "p"}
	if withRequestIDs(read) != proto.Message(read) {
		t.Error("a read was copied")
	}
}

// However little time a caller has, every coordinator can be asked in it.
func TestShareOfAnAttempt(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		coordinators, attempts int
		left, want             time.Duration
	}{
		{1, 0, 10 * s, 10 * s}, {1, 5, s, s},
		{2, 0, 10 * s, 3 * s}, {2, 1, 7 * s, 3 * s}, {2, 2, 4 * s, 2 * s}, {2, 3, 2 * s, 2 * s},
		{2, 0, s, s / 2}, {2, 1, s / 2, s / 2},
		{3, 0, 3 * s, s}, {3, 3, 60 * s, 6 * s}, {3, 300, 90000 * s, 3 * 1024 * s},
		{2, 0, -s, -s / 2},
	} {
		c := &call{wire: &wire{attemptTimeout: 3 * s, conns: nil}, attempts: tt.attempts}
		c.conns = append(c.conns, make([]*grpc.ClientConn, tt.coordinators)...)
		if got := c.share(tt.left); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}
