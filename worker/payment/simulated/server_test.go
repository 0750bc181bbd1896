package simulated

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/worker/payment"
)

// A test that reads the ledger must be able to tell "not tried" from "prevented".
func TestEveryAttemptToMoveMoneyTwiceIsCounted(t *testing.T) {
	_, client := open(t, Faults{})
	p := pay("eu-1", "ok")
	_, _ = client.Authorize(t.Context(), p)
	for _, amount := range []int64{600, 600, 700} {
		_ = client.Capture(t.Context(), p, amount)
	}
	for _, amount := range []int64{100, 100, 200, 900} {
		_ = client.Refund(t.Context(), p, "r1", amount)
	}
	_ = client.Void(t.Context(), p)
	_, _ = client.LookUp(t.Context(), p)

	all := entries(t, client)
	if len(all) != 1 {
		t.Fatalf("got %+v", all)
	}
	got := fmt.Sprintf("%+v", all[0])
	want := fmt.Sprintf("%+v", Entry{
		Number: 1, Key: "eu-1", Method: "ok", Currency: "EUR", MinorUnits: 1000, State: payment.Captured,
		Authorized: 1000, Captured: 600, Voided: 400, Refunded: 100, Refunds: map[string]int64{"r1": 100},
		Calls:          Calls{Authorize: 1, Capture: 3, Void: 1, Refund: 4, LookUp: 1},
		DoubleCaptures: 2, DoubleRefunds: 3, Refused: 4,
	})
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestCheckSeesWhatCannotBe(t *testing.T) {
	for name, e := range map[string]Entry{
		"captured more":        {MinorUnits: 5, State: payment.Captured, Authorized: 5, Captured: 6},
		"refunded more":        {MinorUnits: 5, State: payment.Captured, Authorized: 5, Captured: 5, Refunded: 6, Refunds: map[string]int64{"r": 6}},
		"refunds do not add":   {MinorUnits: 5, State: payment.Captured, Authorized: 5, Captured: 5, Refunded: 1},
		"authorized more":      {MinorUnits: 5, State: payment.Authorized, Authorized: 6},
		"held after a void":    {MinorUnits: 5, State: payment.Voided, Authorized: 5},
		"held after a capture": {MinorUnits: 5, State: payment.Captured, Authorized: 5, Captured: 1},
		"captured and voided":  {MinorUnits: 5, State: payment.Voided, Authorized: 5, Captured: 5},
	} {
		if e.Check() == nil {
			t.Errorf("%s: passed", name)
		}
	}
}

func TestLedgerIsReadInPages(t *testing.T) {
	server, client := open(t, Faults{})
	for i := range 2*maxPage + 1 {
		c := call{Key: fmt.Sprintf("eu-%d", i), Currency: "EUR", MinorUnits: 1}
		server.ledger.arrive(authorize, c)
		_, _ = server.ledger.apply(authorize, c, false)
	}
	_, _ = client.LookUp(t.Context(), pay("only looked up", ""))
	for i, e := range entries(t, client) {
		if e.Number != int64(i+1) || e.Key != fmt.Sprintf("eu-%d", i) {
			t.Fatalf("entry %d is %+v", i, e)
		}
	}
	if all := entries(t, client); len(all) != 2*maxPage+1 {
		t.Errorf("got %d entries", len(all))
	}
	for _, err := range client.Ledger(t.Context()) {
		if err != nil {
			t.Error(err)
		}
		break // may be left early
	}
}

// Demos and tests choose by the method what happens.
func TestTokenDecides(t *testing.T) {
	_, client := open(t, Faults{Delay: time.Hour / 120, Timeout: time.Hour / 120})
	for token, want := range map[string]struct {
		first func(error) bool
		state payment.State
	}{
		"":        {succeeded, payment.Authorized},
		"ok":      {succeeded, payment.Authorized},
		"decline": {declined, payment.Declined},
		"slow":    {unknown, payment.Authorized},
		"timeout": {unknown, payment.Authorized},
		"lost":    {unknown, payment.Authorized},
		"other":   {refused, payment.Nothing},
	} {
		p := pay("eu-"+token, token)
		_, err := client.Authorize(soon(t, token), p)
		if !want.first(err) {
			t.Errorf("%q: got %v", token, err)
		}
		if token == "slow" { // it arrives when the server has seen that nobody waits
			await(t, client, p, payment.Authorized)
		}
		if status, err := client.LookUp(t.Context(), p); status.State != want.state || err != nil {
			t.Errorf("%q: got %+v, %v", token, status, err)
		}
		if _, err := client.Authorize(soon(t, token), p); want.state == payment.Authorized && token != "slow" && err != nil {
			t.Errorf("%q: repeated: got %v", token, err)
		}
		if err := client.Void(t.Context(), p); err != nil {
			t.Errorf("%q: void: got %v", token, err)
		}
	}
}

// soon ends at once for tokens that make the caller wait; the server waits 30 s.
func soon(t *testing.T, token string) context.Context {
	limit := time.Minute
	if token == "slow" || token == "timeout" {
		limit = 200 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func await(t *testing.T, c *Client, p payment.Payment, state payment.State) {
	t.Helper()
	for {
		status, err := c.LookUp(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if status.State == state {
			return
		}
	}
}

func succeeded(err error) bool { return err == nil }
func unknown(err error) bool   { return errors.Is(err, payment.ErrUnknown) }

func declined(err error) bool {
	_, ok := errors.AsType[*payment.DeclinedError](err)
	return ok
}

func refused(err error) bool {
	_, ok := errors.AsType[*payment.RefusedError](err)
	return ok
}

// Each kind of fault is done or not, and unknown to the caller, as it says.
func TestFaultsAreWhatTheySay(t *testing.T) {
	wait := 10 * time.Millisecond
	for name, row := range map[string]struct {
		faults Faults
		first  func(error) bool
		state  payment.State
	}{
		"none":            {Faults{}, succeeded, payment.Authorized},
		"declined":        {Faults{Decline: 1}, declined, payment.Declined},
		"request lost":    {Faults{LostRequest: 1}, unknown, payment.Nothing},
		"reply lost":      {Faults{LostReply: 1}, unknown, payment.Authorized},
		"timeout, undone": {Faults{TimeoutUndone: 1, Timeout: wait}, unknown, payment.Nothing},
		"timeout, done":   {Faults{TimeoutDone: 1, Timeout: wait}, succeeded, payment.Authorized},
		"slow":            {Faults{Slow: 1, Delay: wait}, succeeded, payment.Authorized},
	} {
		_, client := open(t, Faults{})
		if err := client.SetFaults(t.Context(), row.faults); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Authorize(t.Context(), pay("eu-1", "ok")); !row.first(err) {
			t.Errorf("%s: got %v", name, err)
		}
		if err := client.SetFaults(t.Context(), Faults{}); err != nil {
			t.Fatal(err)
		}
		status, err := client.LookUp(t.Context(), pay("eu-1", "ok"))
		if err != nil || status.State != row.state {
			t.Errorf("%s: got %+v, %v", name, status, err)
		}
	}
}

// A run with a seed is repeated by the same seed, in whatever order its calls arrive.
func TestFaultsFollowFromTheSeed(t *testing.T) {
	faults := Faults{Seed: 7, Decline: 0.1, LostRequest: 0.1, LostReply: 0.1, TimeoutUndone: 0.1, TimeoutDone: 0.1, Slow: 0.1}
	counts := map[fate]int{}
	declines := 0
	for i := range 10000 {
		c := call{Key: fmt.Sprintf("eu-%d", i)}
		fate := faults.fate(capture, c, 1)
		counts[fate]++
		if fate != faults.fate(capture, c, 1) {
			t.Fatal("a call has two fates")
		}
		if faults.declines(c) {
			declines++
		}
	}
	counts[fine] -= 4000
	for fate := fine; fate <= slow; fate++ {
		if counts[fate] < 900 || counts[fate] > 1100 {
			t.Errorf("fate %d has %d of 10000 calls", fate, counts[fate])
		}
	}
	if declines < 900 || declines > 1100 {
		t.Errorf("%d of 10000 are declined", declines)
	}
}

func TestImpossibleFaultsAreRefused(t *testing.T) {
	_, client := open(t, Faults{})
	for _, faults := range []Faults{
		{Decline: 1.1}, {Decline: -1}, {LostReply: -0.1}, {LostReply: 0.6, LostRequest: 0.6},
		{Delay: -1}, {Timeout: maxWait + 1},
	} {
		if err := client.SetFaults(t.Context(), faults); !refused(err) {
			t.Errorf("%+v: got %v", faults, err)
		}
		if _, err := NewServer(faults); err == nil {
			t.Errorf("%+v: a server begins with it", faults)
		}
	}
}

// Whatever is sent, the answer is JSON that says what is wrong.
func TestWhatCannotBeReadIsAnsweredInJSON(t *testing.T) {
	_, client := open(t, Faults{})
	for _, row := range []struct {
		method, path, body string
		status             int
	}{
		{"POST", "/payments/authorize", "", 400},
		{"POST", "/payments/authorize", "{}{}", 400},
		{"POST", "/payments/authorize", `{"key":"k","currency":"EUR","minor_units":1,"misspelt":1}`, 400},
		{"POST", "/payments/authorize", `{"key":"` + strings.Repeat("k", maxBody) + `"}`, 400},
		{"POST", "/payments/authorize", `{"key":"a b","currency":"EUR","minor_units":1}`, 400},
		{"POST", "/payments/capture", `{"key":"k","currency":"EUR","minor_units":1,"amount":-1}`, 400},
		{"POST", "/payments/refund", `{"key":"k","currency":"EUR","minor_units":1,"amount":1}`, 400},
		{"POST", "/payments/steal", "{}", 404},
		{"GET", "/ledger?limit=0", "", 400},
		{"GET", "/ledger?after=x", "", 400},
		{"PUT", "/faults", `{"seed":"x"}`, 400},
	} {
		request, _ := http.NewRequestWithContext(t.Context(), row.method, client.base.String()+row.path, strings.NewReader(row.body))
		response, err := client.http.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		var got answer
		if err := json.Unmarshal(body, &got); err != nil || got.Error == nil || response.StatusCode != row.status {
			t.Errorf("%s %s %.60s: got %d %s", row.method, row.path, row.body, response.StatusCode, body)
		}
	}
	if all := entries(t, client); len(all) != 0 {
		t.Errorf("ledger has %+v", all)
	}
}

// What a proxy says does not tell what the provider has done.
func TestForeignAnswerIsUnknown(t *testing.T) {
	for status, body := range map[int]string{502: "<html>", 200: "<html>", 404: "{}", 409: ""} {
		if err := understand(status, []byte(body), &answer{}); !unknown(err) {
			t.Errorf("HTTP %d %q: got %v", status, body, err)
		}
	}
	if err := understand(200, []byte("{}"), &answer{}); err != nil {
		t.Error(err)
	}
}

func TestServerRunsUntilItIsTold(t *testing.T) {
	server, err := NewServer(Faults{})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- server.Run(ctx, listener) }()
	client := connect(t, "http://"+listener.Addr().String()+"/", &http.Transport{DisableKeepAlives: true})
	if _, err := client.Authorize(t.Context(), pay("eu-1", "ok")); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestClientNeedsAnURL(t *testing.T) {
	for _, url := range []string{"", "127.0.0.1:80", "ftp://a", "http://"} {
		if _, err := NewClient(Config{URL: url}); err == nil {
			t.Errorf("%q is taken", url)
		}
	}
}
