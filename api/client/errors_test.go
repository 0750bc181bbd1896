package client_test

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-io/holdfast/api/client"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

var sentinels = []client.Reason{
	client.ErrInsufficientStock, client.ErrLimitExceeded, client.ErrPurchaseHeld, client.ErrPurchaseConfirmed,
	client.ErrPurchaseCancelled, client.ErrHoldExpired, client.ErrPurchaseReturned, client.ErrAmountExceeded, client.ErrHoldTooLong,
	client.ErrProductExists, client.ErrProductNotFound, client.ErrPurchaseNotFound,
	client.ErrInvalidField, client.ErrUnknownRegion, client.ErrRegionDraining, client.ErrRequestIDReused,
	client.ErrNoWorker, client.ErrShardUnavailable, client.ErrLockUnavailable, client.ErrTopologyUnavailable,
	client.ErrOverloaded, client.ErrFenced,
	client.ErrPurchaseInOrder, client.ErrOrderFailed, client.ErrOrderNotPlaced, client.ErrOrderNotFound,
	client.ErrPaymentDeclined, client.ErrPaymentPending, client.ErrTooManyWatches, client.ErrWebhookNotFound,
	client.ErrTokenMissing, client.ErrTokenExpired, client.ErrTokenInvalid, client.ErrIssuerUnavailable,
	client.ErrRoleMissing, client.ErrOtherCustomer, client.ErrRateExceeded,
}

// No caller of this package sees these.
var unseen = map[string]string{
	holdfastv1.ReasonMalformedRequest: "is of HTTP",
	holdfastv1.ReasonToReadmit:        "is between workers and coordinators",
	holdfastv1.ReasonWorkerDraining:   "is between workers and coordinators",
}

// Each reason of the contract is found by its sentinel, and by no other.
func TestEachReasonHasItsError(t *testing.T) {
	known := map[string]bool{}
	for _, s := range sentinels {
		known[string(s)] = true
	}
	for _, reason := range reasons(t) {
		if known[reason] == (unseen[reason] != "") {
			t.Errorf("%s: is there a sentinel: %v; no caller sees it: %q", reason, known[reason], unseen[reason])
		}
		_, c := open(t, 1, quick, answer(holdfastv1.Error(codes.FailedPrecondition, reason, "why", map[string]string{"a": "b"})))
		_, err := c.CreatePurchase(t.Context(), order())
		err = fmt.Errorf("buy: %w", err)
		for _, s := range sentinels {
			if errors.Is(err, s) != (string(s) == reason) {
				t.Errorf("%s is %s: %v", reason, s, errors.Is(err, s))
			}
		}
		var e *client.Error
		if !errors.As(err, &e) || string(e.Reason) != reason || e.Message != "why" || e.Metadata["a"] != "b" || e.Code != codes.FailedPrecondition {
			t.Errorf("%s: %#v", reason, e)
		}
		if st, ok := status.FromError(err); !ok || st.Code() != codes.FailedPrecondition || holdfastv1.Reason(st.Err()) != reason {
			t.Errorf("%s: gRPC sees %v", reason, st)
		}
	}
}

// reasons reads all reasons of the contract from its source.
func reasons(t *testing.T) (all []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../holdfast/v1/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 && spec.Names[0].Name != "Domain" {
			reason, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, reason)
		}
		return true
	})
	if len(all) < len(sentinels) {
		t.Fatalf("only %d reasons found", len(all))
	}
	return all
}

func TestErrorTellsWhatToDo(t *testing.T) {
	fail := func(err error) *client.Error {
		var e *client.Error
		errors.As(client.FromStatus(status.Convert(err).Proto()), &e)
		return e
	}
	stock := fail(holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonInsufficientStock, "no", map[string]string{"available": "3"}))
	if n, ok := stock.Available(); n != 3 || !ok {
		t.Errorf("available %d, %v", n, ok)
	}
	if _, ok := stock.Has(); ok {
		t.Error("knows what the customer has")
	}
	if has, ok := fail(holdfastv1.Error(codes.FailedPrecondition, holdfastv1.ReasonAmountExceeded, "no", map[string]string{"has": "2"})).Has(); has != 2 || !ok {
		t.Errorf("has %d, %v", has, ok)
	}
	if field := fail(holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "requests[2].amount", "is 0")).Field; field != "requests[2].amount" {
		t.Errorf("field %q", field)
	}
	network := fail(status.Error(codes.DeadlineExceeded, "late"))
	if network.Reason != "" || errors.Is(network, client.Reason("")) || !errors.Is(network, context.DeadlineExceeded) || errors.Is(network, context.Canceled) {
		t.Errorf("%#v", network)
	}
	if err := client.FromStatus(nil); err != nil {
		t.Errorf("no error is %v", err)
	}
}
