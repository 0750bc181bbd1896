package coordinator

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/coordinator/auth"
)

// While the issuer is away every call fails, and the log must not be full of that.
func TestIssuerThatIsAwayIsLoggedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		e, err := newEdge(Config{Logger: hclog.New(&hclog.LoggerOptions{Output: &logged})}, newMetrics(prometheus.NewRegistry()))
		if err != nil {
			t.Fatal(err)
		}
		for range 250 { // calls, in 25 seconds
			if err := e.refuse(t.Context(), auth.ErrUnavailable); holdfastv1.Reason(err) != holdfastv1.ReasonIssuerUnavailable {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if lines := strings.Count(logged.String(), "token not checked"); lines != 3 {
			t.Errorf("%d lines: %s", lines, logged.String())
		}
	})
}
