package main

import (
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/credentials/insecure"

	"github.com/holdfast-io/holdfast/api/client"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/deploy/local"
)

// step is a command; HELD in it stands for the purchase that was bought or held last.
type step struct {
	command string
	code    int
	want    string // in what is printed
}

// take runs commands one after the other.
func take(t *testing.T, s *local.Stack, steps ...step) {
	t.Helper()
	purchase := ""
	for _, step := range steps {
		args := strings.Fields(strings.ReplaceAll(step.command, "HELD", purchase))
		stdout, stderr, code := holdfast(t, s, args...)
		// Columns are as wide as their widest cell.
		if printed := strings.Join(strings.Fields(stdout+stderr), " "); code != step.code || !strings.Contains(printed, step.want) {
			t.Fatalf("holdfast %s: exit %d, want %d with %q in:\n%s%s", strings.Join(args, " "), code, step.code, step.want, stdout, stderr)
		}
		if lines := strings.Split(stdout, "\n"); args[0] == "buy" && code == 0 {
			purchase, _, _ = strings.Cut(lines[1], " ")
		}
	}
}

// The life of a purchase, from the command line, with the flags of an operator.
func TestLifeOfAPurchase(t *testing.T) {
	s := startStack(t, local.StackConfig{
		Workers: 2, Coordinators: 2, CoordinatorArgs: []string{"--default-hold", "7m"},
		WorkerArgs: []string{"--max-hold", "1h", "--sweep-interval", "0"},
	})
	take(
		t, s,
		step{"product create drop 10 --max-per-customer 4 --max-per-purchase 3", 0, "drop 10 0 10 4 3"},
		step{"product create drop 10 --max-per-customer 5 --max-per-purchase 3", exitFailed, "max_per_customer"},
		step{"buy drop --customer ann --amount 4", exitFailed, "amount:"},
		step{"buy drop --customer ann --amount 3 --hold-for 5m --request-id h1", 0, "drop 3 3 ann held"},
		step{"buy drop --customer ann --amount 3 --hold-for 5m --request-id h1", 0, "drop 3 3 ann held"},
		step{"buy drop --customer ann --hold-for 2h", exitUsage, "hold:"},
		step{"purchase extend HELD --for 2h", exitUsage, "hold:"},
		step{"purchase extend HELD --for 10m", 0, "drop 3 3 ann held"},
		step{"purchase return HELD", exitFailed, "cannot return a purchase that is held"},
		step{"purchase confirm HELD --amount 2 --request-id c1", 0, "drop 3 2 ann confirmed"},
		step{"purchase confirm HELD --amount 2 --request-id c1", 0, "drop 3 2 ann confirmed"},
		step{"purchase confirm HELD --amount 1 --request-id c1", exitUsage, "request_id"},
		step{"purchase cancel HELD", exitFailed, "cannot cancel a purchase that is confirmed"},
		step{"purchase return HELD --amount 1 --request-id r1", 0, "drop 3 1 ann confirmed"},
		step{"purchase return HELD", 0, "drop 3 0 ann returned"},
		step{"purchase get HELD", 0, "drop 3 0 ann returned"},
		step{"buy drop --customer ben --hold", 0, "drop 1 1 ben held"},
		step{"purchase cancel HELD", 0, "drop 1 0 ben cancelled"},
		step{"product deliver drop 5 --request-id d1", 0, "drop 5"},
		step{"product deliver drop 5 --request-id d1", 0, "drop 5"},
		step{"product deliver drop -- -3", 0, "drop -3"},
		step{"product deliver drop -- -13", exitRefused, "12"},
		step{"product get drop", 0, "drop 10 2 12 4 3"},
		step{"load --rate 50 --duration 1s --products 2 --region eu,us", 0, "0 refused, 0 failed"},
		step{"product create plenty 1000", 0, "plenty"},
		step{"load --rate 50 --duration 1s --product plenty", 0, "0 refused, 0 failed"},
		step{"load --rate 50 --duration 1s --product nothing", exitFailed, "nothing"},
		step{"load --rate 0", exitUsage, "Rate"},
		step{"load --products 0", exitUsage, "--products"},
		step{"audit", 0, "0 findings"},
	)
	checkHoldFlags(t, s)
	checkClientPassesOver(t, s)
}

// checkHoldFlags checks that holds last as the coordinators' flag says, and are not swept
// when the workers' flag says so.
func checkHoldFlags(t *testing.T, s *local.Stack) {
	t.Helper()
	hold := func(args ...string) *holdfastv1.Purchase {
		stdout, stderr, _ := holdfast(t, s, append([]string{"buy", "drop", "--customer", "kim", "--json"}, args...)...)
		var p struct {
			ID      string    `json:"purchase_id"`
			Expires time.Time `json:"expire_time"`
		}
		if err := json.Unmarshal([]byte(stdout), &p); err != nil {
			t.Fatalf("%v: %s%s", err, stdout, stderr)
		}
		if lasts := time.Until(p.Expires); len(args) == 1 && (lasts > 7*time.Minute || lasts < 6*time.Minute) {
			t.Errorf("a hold lasts %v by default", lasts)
		}
		return &holdfastv1.Purchase{PurchaseId: p.ID}
	}
	hold("--hold")
	short := hold("--hold-for", "1s")
	time.Sleep(3 * time.Second) // three times what sweeps come by default
	take(t, s, step{"purchase get " + short.GetPurchaseId(), 0, "kim held"})
	take(t, s, step{"purchase confirm " + short.GetPurchaseId(), 0, "kim confirmed"})
}

// checkClientPassesOver checks that a coordinator that is paused costs a caller one attempt.
func checkClientPassesOver(t *testing.T, s *local.Stack) {
	t.Helper()
	var targets []string
	for _, c := range s.Coordinators {
		targets = append(targets, c.GRPCAddress)
	}
	c, err := client.New(targets, client.Config{Credentials: insecure.NewCredentials(), AttemptTimeout: time.Second, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	for i, paused := range []os.Signal{nil, syscall.SIGSTOP, syscall.SIGSTOP} {
		at := s.Coordinators[i%2].Process
		if paused != nil {
			_ = at.Signal(paused)
		}
		p, err := c.CreatePurchase(t.Context(), &holdfastv1.CreatePurchaseRequest{
			ProductId: "drop", Amount: 1, CustomerId: "lea", Hold: &holdfastv1.Hold{},
		})
		if err == nil {
			p, err = c.CancelPurchase(t.Context(), &holdfastv1.CancelPurchaseRequest{PurchaseId: p.GetPurchaseId()})
		}
		if err != nil || p.GetState() != holdfastv1.PurchaseState_PURCHASE_STATE_CANCELLED {
			t.Errorf("with coordinator %d paused: %v, %v", i%2, p, err)
		}
		_ = at.Signal(syscall.SIGCONT)
	}
}
