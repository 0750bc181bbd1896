package stripe

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// secret is the key of every test.
const secret = "sk_test_holdfast"

// fake is the part of Stripe that this package uses, with its states, and its memory for
// idempotency keys: it repeats what it has answered, refuses a key that comes with something
// else, and puts off a call while another one with the key is under way.
type fake struct {
	url string
	// hold, when it is set, is called while a call with an idempotency key is under way.
	hold func(key string)

	mu       sync.Mutex
	intents  []*fakeIntent
	refunds  []map[string]any
	saved    map[string]*saved // by idempotency key
	indexed  int               // how many intents a search finds
	replayed int
	putOff   int
	attempts int  // how often any card was asked
	closed   bool // whether the account makes no intents
}

type saved struct {
	request string
	status  int // 0 while it is under way
	body    any
}

type fakeIntent struct{ fields map[string]any }

// problem is an error as Stripe says it.
type problem struct {
	status                   int
	kind, code, decline, msg string
}

func newFake(t *testing.T) *fake {
	f := &fake{saved: map[string]*saved{}}
	mux := http.NewServeMux()
	for pattern, serve := range map[string]func(*http.Request) (any, *problem){
		"POST /v1/payment_intents":              f.create,
		"POST /v1/payment_intents/{id}/confirm": f.onIntent(f.confirm),
		"POST /v1/payment_intents/{id}/capture": f.onIntent(f.capture),
		"POST /v1/payment_intents/{id}/cancel":  f.onIntent(f.cancel),
		"GET /v1/payment_intents/{id}":          f.onIntent(f.read),
		"GET /v1/payment_intents/search":        f.search,
		"POST /v1/refunds":                      f.refund,
		"GET /v1/refunds":                       f.list,
	} {
		mux.HandleFunc(pattern, f.serve(serve))
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

// serve keeps idempotency keys around what a path does.
func (f *fake) serve(do func(*http.Request) (any, *problem)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+secret {
			say(w, &problem{status: 401, kind: "invalid_request_error", msg: "Invalid API Key provided"})
			return
		}
		if err := r.ParseForm(); err != nil {
			say(w, &problem{status: 400, kind: "invalid_request_error", msg: err.Error()})
			return
		}
		key := r.Header.Get("Idempotency-Key")
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.closed && r.URL.Path == "/v1/payment_intents" {
			say(w, &problem{status: 400, kind: "invalid_request_error", msg: "Your account cannot make charges"})
			return
		}
		if r.Method != http.MethodPost {
			body, wrong := do(r)
			reply(w, body, wrong)
			return
		}
		if f.recall(w, r, key) {
			return
		}
		entry := &saved{request: r.URL.Path + "?" + r.Form.Encode()}
		f.saved[key] = entry
		if hold := f.hold; hold != nil {
			f.mu.Unlock()
			hold(key)
			f.mu.Lock()
		}
		body, wrong := do(r)
		entry.status, entry.body = reply(w, body, wrong)
		if wrong != nil && wrong.code == "parameter_invalid" {
			delete(f.saved, key) // what fails validation is not saved
		}
	}
}

// recall answers a call whose key was used before.
func (f *fake) recall(w http.ResponseWriter, r *http.Request, key string) bool {
	before := f.saved[key]
	switch {
	case before == nil:
		return false
	case before.request != r.URL.Path+"?"+r.Form.Encode():
		say(w, &problem{status: 400, kind: "idempotency_error", msg: "Keys can only be used with the same parameters"})
	case before.status == 0:
		f.putOff++
		say(w, &problem{status: 409, kind: "idempotency_error", code: "idempotency_key_in_use", msg: "There is another request"})
	default:
		f.replayed++
		w.Header().Set("Idempotent-Replayed", "true")
		write(w, before.status, before.body)
	}
	return true
}

func (f *fake) create(r *http.Request) (any, *problem) {
	amount, err := strconv.ParseInt(r.Form.Get("amount"), 10, 64)
	if amount < 50 {
		return nil, &problem{status: 400, kind: "invalid_request_error", code: "amount_too_small", msg: "Too small"}
	}
	if err != nil || r.Form.Get("capture_method") != "manual" || r.Form.Get("payment_method_types[0]") != "card" {
		return nil, &problem{status: 400, kind: "invalid_request_error", code: "parameter_invalid", msg: "Invalid parameters"}
	}
	pi := &fakeIntent{fields: map[string]any{
		"object": "payment_intent", "id": fmt.Sprintf("pi_%d", len(f.intents)+1), "status": "requires_payment_method",
		"amount": amount, "amount_capturable": 0, "amount_received": 0, "currency": r.Form.Get("currency"),
		"metadata": metadata(r.Form), "client_secret": "pi_secret_of_the_intent",
	}}
	f.intents = append(f.intents, pi)
	return maps.Clone(pi.fields), nil
}

func (f *fake) onIntent(do func(*http.Request, *fakeIntent) *problem) func(*http.Request) (any, *problem) {
	return func(r *http.Request) (any, *problem) {
		for _, pi := range f.intents {
			if pi.fields["id"] == r.PathValue("id") {
				wrong := do(r, pi)
				return maps.Clone(pi.fields), wrong
			}
		}
		return nil, missing()
	}
}

func (f *fake) read(*http.Request, *fakeIntent) *problem { return nil }

func (f *fake) confirm(r *http.Request, pi *fakeIntent) *problem {
	if pi.fields["status"] != "requires_payment_method" {
		return unexpected(pi)
	}
	method := r.Form.Get("payment_method")
	f.attempts++
	switch method {
	case "pm_card_visa", "pm_card_error_500":
		maps.Copy(pi.fields, map[string]any{
			"status": "requires_capture", "amount_capturable": pi.fields["amount"], "latest_charge": "ch_1",
		})
	case "pm_card_authenticationRequired":
		pi.fields["status"] = "requires_action"
	case "pm_card_chargeDeclined":
		wrong := &problem{status: 402, kind: "card_error", code: "card_declined", decline: "generic_decline", msg: "Your card was declined."}
		pi.fields["last_payment_error"] = wrong.body(nil)
		pi.fields["latest_charge"] = "ch_1"
		return wrong
	default:
		f.attempts--
		return missing()
	}
	if method == "pm_card_error_500" {
		return &problem{status: 500, kind: "api_error", msg: "Sorry"}
	}
	return nil
}

func (f *fake) capture(r *http.Request, pi *fakeIntent) *problem {
	amount, _ := strconv.ParseInt(r.Form.Get("amount_to_capture"), 10, 64)
	if pi.fields["status"] != "requires_capture" {
		return unexpected(pi)
	}
	if amount > pi.fields["amount"].(int64) {
		return &problem{status: 400, kind: "invalid_request_error", code: "amount_too_large", msg: "Too much"}
	}
	maps.Copy(pi.fields, map[string]any{"status": "succeeded", "amount_capturable": 0, "amount_received": amount})
	return nil
}

func (f *fake) cancel(r *http.Request, pi *fakeIntent) *problem {
	if status := pi.fields["status"]; status == "succeeded" || status == "canceled" {
		return unexpected(pi)
	}
	maps.Copy(pi.fields, map[string]any{
		"status": "canceled", "amount_capturable": 0, "cancellation_reason": r.Form.Get("cancellation_reason"),
	})
	return nil
}

// search finds what index has seen.
func (f *fake) search(r *http.Request) (any, *problem) {
	found := []any{}
	for _, pi := range f.intents[:f.indexed] {
		if r.Form.Get("query") == fmt.Sprintf("metadata['holdfast_key']:'%s'", pi.fields["metadata"].(map[string]string)["holdfast_key"]) {
			found = append(found, maps.Clone(pi.fields))
		}
	}
	return map[string]any{"object": "search_result", "data": found, "has_more": false, "url": r.URL.Path}, nil
}

func (f *fake) refund(r *http.Request) (any, *problem) {
	amount, _ := strconv.ParseInt(r.Form.Get("amount"), 10, 64)
	id := r.Form.Get("payment_intent")
	at := slices.IndexFunc(f.intents, func(pi *fakeIntent) bool { return pi.fields["id"] == id })
	if at < 0 || f.intents[at].fields["status"] != "succeeded" {
		return nil, missing()
	}
	left := f.intents[at].fields["amount_received"].(int64)
	for _, made := range f.refunds {
		if made["payment_intent"] == id {
			left -= made["amount"].(int64)
		}
	}
	if amount <= 0 || amount > left {
		return nil, &problem{status: 400, kind: "invalid_request_error", msg: "Refund amount is greater than unrefunded amount"}
	}
	made := map[string]any{
		"object": "refund", "id": fmt.Sprintf("re_%d", len(f.refunds)+1), "payment_intent": id,
		"amount": amount, "status": "succeeded", "metadata": metadata(r.Form),
	}
	f.refunds = append(f.refunds, made)
	return made, nil
}

func (f *fake) list(r *http.Request) (any, *problem) {
	found := []any{}
	for _, made := range f.refunds {
		if made["payment_intent"] == r.Form.Get("payment_intent") {
			found = append(found, made)
		}
	}
	return map[string]any{"object": "list", "data": found, "has_more": false, "url": r.URL.Path}, nil
}

// forget is what Stripe does with keys after a day, when searches find everything.
func (f *fake) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.saved, f.indexed = map[string]*saved{}, len(f.intents)
}

// held is how many intents hold money that nobody has taken.
func (f *fake) held() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	count := 0
	for _, pi := range f.intents {
		if pi.fields["status"] == "requires_capture" {
			count++
		}
	}
	return count
}

func metadata(form url.Values) map[string]string {
	all := map[string]string{}
	for name := range form {
		if inner, ok := strings.CutPrefix(name, "metadata["); ok {
			all[strings.TrimSuffix(inner, "]")] = form.Get(name)
		}
	}
	return all
}

func missing() *problem {
	return &problem{status: 404, kind: "invalid_request_error", code: "resource_missing", msg: "There is no such thing"}
}

func unexpected(pi *fakeIntent) *problem {
	return &problem{
		status: 400, kind: "invalid_request_error", code: "payment_intent_unexpected_state",
		msg: fmt.Sprintf("This PaymentIntent is %v", pi.fields["status"]),
	}
}

func (p *problem) body(pi any) map[string]any {
	body := map[string]any{"type": p.kind, "code": p.code, "decline_code": p.decline, "message": p.msg}
	if pi != nil {
		body["payment_intent"] = pi
	}
	return body
}

func say(w http.ResponseWriter, wrong *problem) { reply(w, nil, wrong) }

func reply(w http.ResponseWriter, body any, wrong *problem) (int, any) {
	status := http.StatusOK
	if wrong != nil {
		status, body = wrong.status, map[string]any{"error": wrong.body(body)}
	}
	write(w, status, body)
	return status, body
}

func write(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Request-Id", "req_1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
