package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/deploy/local"
	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// asHoldfast makes the test binary be the holdfast executable, so that the tests
// run real processes of the code under test.
const asHoldfast = "TEST_BINARY_IS_HOLDFAST"

func TestMain(m *testing.M) {
	if os.Getenv(asHoldfast) != "" && !slices.Contains(os.Args, "-test.fuzzworker") {
		main()
		return
	}
	_ = os.Setenv(asHoldfast, "1") // for every child
	localtest.Main(m)
}

// holdfast runs a command against a stack (nil for none) and returns what it
// printed and its exit code.
func holdfast(t *testing.T, s *local.Stack, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append(os.Environ(), "HOLDFAST_CONFIG="+os.DevNull)
	if s != nil {
		cmd.Env = append(cmd.Env, s.Environment()...)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// startStack starts shards eu and us, and all else that cfg says.
func startStack(t *testing.T, cfg local.StackConfig) *local.Stack {
	t.Helper()
	dir, err := local.TempDir("holdfast-test-*")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cfg.Binary, cfg.Dir, cfg.Shards, cfg.Logger = self, dir, []string{"eu", "us"}, localtest.Logger(t)
	s, err := local.StartStack(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("logs are in %s", s.LogDir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	return s
}

func post(t *testing.T, s *local.Stack, path, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.HTTPAddress+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer func() { _ = resp.Body.Close() }()
	read, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(read)
}

// What a shop sees: a hundred tickets, three hundred buyers at once in two
// regions, and the books in order afterwards.
func TestHundredUnitsThreeHundredBuyers(t *testing.T) {
	s := startStack(t, local.StackConfig{
		Workers: 3, WorkerArgs: []string{"--region", "moon"}, CoordinatorArgs: []string{"--region", "moon"},
	})
	if status, answer := post(t, s, "/v1/products", `{"product_id":"ticket","amount_in_storage":100}`); status != http.StatusOK {
		t.Fatalf("create product: %d %s", status, answer)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for i := range 300 {
		wg.Go(func() {
			status, _ := post(t, s, "/v1/purchases", fmt.Sprintf(
				`{"product_id":"ticket","amount":1,"customer_id":"c%d","region":"%s"}`, i, s.Shards()[i%2]))
			mu.Lock()
			statuses[status]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if statuses[http.StatusOK] != 100 || statuses[http.StatusConflict] != 200 {
		t.Fatalf("statuses %v, want 100 of 200 and 200 of 409", statuses)
	}
	http.DefaultClient.CloseIdleConnections()
	var audit struct {
		Units, Oversold int64
		Clean           bool
	}
	stdout, stderr, code := holdfast(t, s, "audit", "--json")
	if err := json.Unmarshal([]byte(stdout), &audit); err != nil || code != 0 || !audit.Clean || audit.Units != 100 {
		t.Fatalf("audit: exit %d, %s%s (%v)", code, stdout, stderr, err)
	}
	checkCommands(t, s)
	checkReadme(t, s)
}

// checkReadme runs the commands that the README gives for a running stack.
func checkReadme(t *testing.T, s *local.Stack) {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The product of the README is sold out here.
	// And the benchmark is to show that it runs, not to take minutes.
	here := strings.NewReplacer("127.0.0.1:8080", s.HTTPAddress, "bin/holdfast", self, "curl -s", "curl -sf", `"ticket"`, `"readme"`,
		"--workload hot --svg charts", "--smoke --workload scarce --svg "+t.TempDir())
	ran := 0
	for line := range strings.Lines(string(readme)) {
		if !strings.HasPrefix(line, "curl ") && !strings.HasPrefix(line, "bin/holdfast ") {
			continue
		}
		ran++
		// A watch goes on until it is ended: that it is still there after a while is all.
		watches := strings.Contains(line, " watch ") || strings.Contains(line, ":watch")
		ctx, cancel := t.Context(), func() {}
		if watches {
			ctx, cancel = context.WithTimeout(ctx, 2*time.Second)
		}
		cmd := exec.CommandContext(ctx, "sh", "-c", "exec "+here.Replace(line))
		cmd.Env = append(os.Environ(), s.Environment()...)
		if out, err := cmd.CombinedOutput(); watches != (ctx.Err() != nil) || !watches && err != nil {
			t.Errorf("README: %s%v\n%s", line, err, out)
		}
		cancel()
	}
	if ran < 4 {
		t.Errorf("only %d commands found in the README", ran)
	}
}

// checkCommands runs the commands of a person against a stack that has sold out.
func checkCommands(t *testing.T, s *local.Stack) {
	t.Helper()
	stdout, _, _ := holdfast(t, s, "purchase", "list", "--limit", "1", "--json")
	var purchase struct {
		ID string `json:"purchase_id"`
	}
	if err := json.Unmarshal([]byte(stdout), &purchase); err != nil {
		t.Fatalf("purchase list: %q: %v", stdout, err)
	}
	csv := filepath.Join(t.TempDir(), "not.csv")
	if err := os.WriteFile(csv, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		want string // in what is printed
	}{
		{[]string{"product", "get", "ticket"}, 0, "ticket   100         0          0          -             -"},
		{[]string{"product", "list"}, 0, "ticket"},
		{[]string{"product", "create", "ticket", "100"}, 0, "ticket"},
		{[]string{"product", "create", "ticket", "101"}, exitFailed, "amount_in_storage"},
		{[]string{"product", "create", "other", "many"}, exitUsage, "AMOUNT"},
		{[]string{"purchase", "get", purchase.ID}, 0, purchase.ID},
		{[]string{"purchase", "get", "nowhere-1"}, exitFailed, "purchase_id"},
		{[]string{"buy", "ticket", "--customer", "ann"}, exitRefused, "not enough stock: 0 units available"},
		{[]string{"buy", "nothing", "--customer", "ann"}, exitFailed, "product_id"},
		{[]string{"buy", "ticket"}, exitUsage, "customer_id"},
		{[]string{"buy", "ticket", "--customer", "ann", "--amount", "0"}, exitUsage, "amount"},
		{[]string{"buy", "ticket", "--customer", "ann", "--region", "mars"}, exitUsage, "region"},
		{[]string{"status"}, 0, "worker-1  moon"},
		{[]string{"replay", csv}, exitUsage, "InvoiceNo"},
		{[]string{"migrate"}, 0, "0 migrations applied"},
	} {
		stdout, stderr, code := holdfast(t, s, tt.args...)
		if code != tt.code || !strings.Contains(stdout+stderr, tt.want) {
			t.Errorf("holdfast %s: exit %d, want %d with %q in:\n%s%s",
				strings.Join(tt.args, " "), code, tt.code, tt.want, stdout, stderr)
		}
	}
}

// The demo is the first thing that anybody sees, and its figures are the promise.
func TestDemoKeepsItsPromises(t *testing.T) {
	stdout, stderr, code := holdfast(t, nil, "demo", "--json")
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	var figures map[string]float64
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &figures); err != nil || code != 0 {
		t.Fatalf("exit %d, %v\n%s%s", code, err, stdout, stderr)
	}
	for _, zero := range []string{"oversold", "lost", "doubled", "false_refusals", "failed"} {
		if got, ok := figures[zero]; !ok || got != 0 {
			t.Errorf("%s: %v, want 0", zero, got)
		}
	}
	for _, some := range []string{
		"naive_oversold", "for_update_oversold", "lines_offered", "admitted", "refused", "skipped",
		"holders_killed", "longest_gap_ms", "purchases_per_second",
	} {
		if figures[some] <= 0 {
			t.Errorf("%s: %v, want more than 0", some, figures[some])
		}
	}
}

// Who has started nothing must be told what to start.
func TestMissingServersAreNamed(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		want []string
	}{
		{
			[]string{"buy", "x", "--customer", "ann", "--insecure", "--coordinator", "127.0.0.1:1", "--timeout", "1s"}, exitUnavailable,
			[]string{"127.0.0.1:1", "holdfast dev", "--request-id "},
		},
		{[]string{"buy", "x", "--customer", "ann", "--timeout", "0s"}, exitUsage, []string{"--timeout"}},
		{[]string{"buy", "x", "--customer", "ann", "--hold-for", "0s"}, exitUsage, []string{"--hold-for"}},
		{[]string{"purchase", "extend", "eu-1", "--for", "-1s"}, exitUsage, []string{"--for"}},
		{[]string{"product", "deliver", "x", "some"}, exitUsage, []string{"AMOUNT"}},
		{[]string{"status", "--insecure", "--etcd", "127.0.0.1:1"}, exitUnavailable, []string{"etcd at 127.0.0.1:1", "holdfast dev"}},
		{[]string{"audit"}, exitUsage, []string{"--shard name=DSN"}},
		{[]string{"audit", "--insecure", "--shard", "eu=postgres://127.0.0.1:1/x"}, exitUnavailable, []string{"shard eu"}},
		{[]string{"dev", "--postgres-bin", "/nowhere"}, exitFailed, []string{"/nowhere", "install"}},
		{[]string{"dev", "--workers", "0"}, exitUsage, []string{"--workers"}},
		{[]string{"nonsense"}, exitFailed, []string{"nonsense"}},
		{[]string{"buy", "--nonsense"}, exitUsage, []string{"nonsense", "--help"}},
	} {
		_, stderr, code := holdfast(t, nil, tt.args...)
		if code != tt.code {
			t.Errorf("holdfast %s: exit %d, want %d: %s", strings.Join(tt.args, " "), code, tt.code, stderr)
		}
		for _, want := range tt.want {
			if !strings.Contains(stderr, want) {
				t.Errorf("holdfast %s: no %q in %s", strings.Join(tt.args, " "), want, stderr)
			}
		}
	}
}

// Settings come from a file, the environment and flags, and the last one wins.
func TestSettingsOrder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "holdfast.yaml")
	err := os.WriteFile(file, []byte("coordinator: file:1\netcd: [a:1, b:2]\nshard:\n  eu: from-file\n  eu-west: from-file\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOLDFAST_CONFIG", file)
	t.Setenv("HOLDFAST_COORDINATOR", "env:1")
	t.Setenv("HOLDFAST_SHARD_EU_WEST", "from-env")
	cmd := newStatus()
	cmd.Flags().String("config", "", "")
	cmd.Flags().String("coordinator", "default:1", "")
	if err := applySettings(cmd); err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{
		"coordinator": "env:1", "etcd": "[a:1,b:2]", "shard": "[eu-west=from-env,eu=from-file]",
	} {
		if got := cmd.Flags().Lookup(flag).Value.String(); got != want {
			t.Errorf("%s: %q, want %q", flag, got, want)
		}
	}
	if err := cmd.Flags().Set("coordinator", "flag:1"); err != nil {
		t.Fatal(err)
	}
	if err := applySettings(cmd); err != nil {
		t.Fatal(err)
	}
	if got := cmd.Flags().Lookup("coordinator").Value.String(); got != "flag:1" {
		t.Errorf("flag lost to the environment: %q", got)
	}
}
