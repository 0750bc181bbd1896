package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holdfast-io/holdfast/api/client"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// sellTwo keeps two tickets for ann while she pays.
func sellTwo(ctx context.Context, shop *client.Client, pay func() error) error {
	held, err := shop.CreatePurchase(ctx, &holdfastv1.CreatePurchaseRequest{
		ProductId: "ticket", Amount: 2, CustomerId: "ann",
		Hold: &holdfastv1.Hold{Expiration: &holdfastv1.Hold_Duration{Duration: durationpb.New(5 * time.Minute)}},
	})
	var refused *client.Error
	switch {
	case errors.Is(err, client.ErrInsufficientStock) && errors.As(err, &refused):
		left, _ := refused.Available()
		return fmt.Errorf("only %d left", left)
	case err != nil:
		return err // it may be done all the same: client.Error has the RequestID to ask again
	}
	if err := pay(); err != nil {
		_, cancelled := shop.CancelPurchase(ctx, &holdfastv1.CancelPurchaseRequest{PurchaseId: held.GetPurchaseId()})
		return errors.Join(err, cancelled)
	}
	_, err = shop.ConfirmPurchase(ctx, &holdfastv1.ConfirmPurchaseRequest{PurchaseId: held.GetPurchaseId()})
	return err // client.ErrHoldExpired: paid too late, and somebody else has them
}

func Example() {
	coordinators, stop := serveExample()
	defer stop()
	shop, err := client.New(coordinators, client.Config{Credentials: insecure.NewCredentials()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = shop.Close() }()
	err = sellTwo(context.Background(), shop, func() error { fmt.Println("ann pays"); return nil })
	fmt.Println(err)

	_, err = shop.CreatePurchase(context.Background(), &holdfastv1.CreatePurchaseRequest{
		ProductId: "sold out", Amount: 2, CustomerId: "ben",
	})
	fmt.Println(errors.Is(err, client.ErrInsufficientStock))
	// Output:
	// ann pays
	// <nil>
	// true
}

// What the README shows is code that is compiled.
func TestREADMEShowsTheExample(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	snippets := strings.Split(string(readme), "```go\n")[1:]
	for _, s := range snippets {
		s, _, _ = strings.Cut(s, "```")
		if !strings.Contains(string(compiled), s) {
			t.Errorf("the README shows what is not in example_test.go:\n%s", s)
		}
	}
	if len(snippets) == 0 {
		t.Error("the README shows no Go")
	}
}
