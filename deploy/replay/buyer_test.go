package replay

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

func TestPatienceEnds(t *testing.T) {
	shop := &shop{}
	config := shop.open(t)
	config.Orders = someOrders(40)
	config.Patience = 300 * time.Millisecond
	shop.createAll(t, config)
	shop.after = faults{1, codes.Unavailable}
	config.Products = alreadyCreated{}
	report, err := Run(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	verdict := mustJudge(t, shop, report)
	if verdict.Failed == 0 || verdict.Admitted != 0 || verdict.Unacknowledged == 0 {
		t.Errorf("%+v", verdict)
	}
	if failure := firstFailure(report); !strings.Contains(failure, "no outcome in") {
		t.Errorf("the failure does not say why: %q", failure)
	}
}

// What a buyer reports is what the shop said last, not that he gave up.
func TestFailureNamesTheLastAnswer(t *testing.T) {
	answers := 0
	_, err := insist(t.Context(), 100*time.Millisecond, func(ctx context.Context) error {
		if answers++; answers <= 2 {
			return status.Error(codes.Unavailable, fmt.Sprint("answer ", answers))
		}
		<-ctx.Done()
		return status.FromContextError(ctx.Err()).Err()
	})
	if err == nil || !strings.HasSuffix(err.Error(), "no outcome in 3 attempts: rpc error: code = Unavailable desc = answer 2") {
		t.Errorf("got %v", err)
	}
}

// alreadyCreated spares a run the creation of its products.
type alreadyCreated struct {
	holdfastv1.ProductServiceClient
}

func (alreadyCreated) CreateProduct(context.Context, *holdfastv1.CreateProductRequest, ...grpc.CallOption) (*holdfastv1.Product, error) {
	return &holdfastv1.Product{}, nil
}

func firstFailure(report *Report) string {
	for _, outcome := range report.Outcomes {
		if outcome.Answer == Failed {
			return outcome.Failure
		}
	}
	return ""
}
