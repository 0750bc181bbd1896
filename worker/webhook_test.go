package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

const testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

var hasty = WebhookConfig{Attempts: 3, FirstRetry: 10 * time.Millisecond, Timeout: time.Second, Refresh: 10 * time.Millisecond}

// receiver is where events are sent.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	received []cloudEvent
	requests int
	answer   func(cloudEvent) int // the status; nil is 200
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		var e cloudEvent
		if err := json.Unmarshal(body, &e); err != nil {
			t.Errorf("%v: %s", err, body)
		}
		h := req.Header
		if want := sign(testSecret, h.Get("webhook-id"), h.Get("webhook-timestamp"), body); h.Get("webhook-signature") != want {
			t.Errorf("signature %q, want %q", h.Get("webhook-signature"), want)
		}
		if h.Get("webhook-id") != e.ID || e.SpecVersion != "1.0" || !strings.HasPrefix(h.Get("Content-Type"), "application/cloudevents+json") {
			t.Errorf("headers %v of %+v", h, e)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.requests++
		if r.answer != nil {
			if status := r.answer(e); status != http.StatusOK {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(status)
				return
			}
		}
		r.received = append(r.received, e)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) set(answer func(cloudEvent) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

// of returns the subjects of what was received of a product, without repetitions.
func (r *receiver) of(product string) (subjects []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.received {
		if e.PartitionKey == product && !slices.Contains(subjects, e.Subject) {
			subjects = append(subjects, e.Subject)
		}
	}
	return subjects
}

// await returns once so many events of a product were received.
func (r *receiver) await(t *testing.T, product string, n int) {
	t.Helper()
	for ctx := patient(t); len(r.of(product)) < n; pause(ctx, 5*time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("%d of %d events of %s received", len(r.of(product)), n, product)
		}
	}
}

func (n *node) hook(t *testing.T, r *receiver, product string) *holdfastv1.Webhook {
	t.Helper()
	h, err := n.CreateWebhook(t.Context(), &holdfastv1.CreateWebhookRequest{
		Url: r.URL, Secret: testSecret, RequestId: uuid.NewString(), ProductId: product,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, dsn := range regions { // the databases are those of other tests, too
			s := sharedShard(t, dsn)
			_ = s.DeleteWebhook(context.Background(), uuid.MustParse(h.GetWebhookId()))
			s.Close()
		}
	})
	return h
}

func sharedShard(t *testing.T, name string) *ledger.Shard {
	t.Helper()
	dsns, _ := sharedDSNs()
	s, err := ledger.Open(ledger.Config{Name: name, DSN: dsns[name], ClusterID: clusterID})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (n *node) buyMany(t *testing.T, product, prefix string, count int) (ids []string) {
	t.Helper()
	for i := range count {
		ids = append(ids, n.mustBuy(t, product, "eu", fmt.Sprint(prefix, i), 1).GetPurchaseId())
	}
	return ids
}

// Whoever is sent events acts on them: they must be genuine, all of them, and in order.
func TestWebhookReceivesEachEventSignedAndInOrder(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a", func(cfg *Config) { cfg.Webhooks = hasty })
	r, p, other := newReceiver(t), a.create(t, 1000), a.create(t, 1000)
	a.buyMany(t, p, "before", 3)
	a.hook(t, r, p)
	want := a.buyMany(t, p, "r", 20)
	a.mustBuy(t, other, "eu", "r", 1)
	us := a.mustBuy(t, p, "us", "us", 1).GetPurchaseId()
	r.await(t, p, 21)
	got := slices.DeleteFunc(r.of(p), func(id string) bool { return id == us })
	if !slices.Equal(got, want) {
		t.Errorf("received %v, want %v", got, want)
	}
	if len(r.of(other)) > 0 {
		t.Errorf("received of another product: %v", r.of(other))
	}
}

// One product that a receiver chokes on must not stop the others, and its own order must
// hold when the receiver has recovered.
func TestFailingDeliveryHoldsBackItsOwnProductOnly(t *testing.T) {
	c := newCluster(t)
	patientHook := hasty
	patientHook.Attempts, patientHook.FirstRetry = 1000, time.Millisecond
	a := c.start(t, "a", func(cfg *Config) { cfg.Webhooks = patientHook })
	r, p, other := newReceiver(t), a.create(t, 1000), a.create(t, 1000)
	a.hook(t, r, "")
	r.set(func(e cloudEvent) int {
		if e.PartitionKey == p {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	want := a.buyMany(t, p, "r", 8)
	a.buyMany(t, other, "r", 8)
	r.await(t, other, 8)
	if got := r.of(p); len(got) > 0 {
		t.Errorf("received %v", got)
	}
	r.set(nil)
	want = append(want, a.buyMany(t, p, "later", 4)...)
	r.await(t, p, 12)
	if got := r.of(p); !slices.Equal(got, want) {
		t.Errorf("received %v, want %v", got, want)
	}
}

// What nobody takes must not stand in the way for ever, nor be lost.
func TestEventThatIsNeverTakenBecomesADeadLetter(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a", func(cfg *Config) { cfg.Webhooks = hasty })
	r, p := newReceiver(t), a.create(t, 1000)
	hook := a.hook(t, r, p)
	var bad string
	r.set(func(e cloudEvent) int {
		if bad == "" {
			bad = e.Subject
		}
		if e.Subject == bad {
			return http.StatusFound // is not followed
		}
		return http.StatusOK
	})
	ids := a.buyMany(t, p, "r", 3)
	r.await(t, p, 2)
	if got := r.of(p); !slices.Equal(got, ids[1:]) {
		t.Errorf("received %v, want %v", got, ids[1:])
	}
	dead, err := a.ListDeadLetters(t.Context(), &holdfastv1.ListDeadLettersRequest{WebhookId: hook.GetWebhookId(), PageSize: 1})
	if err != nil || len(dead.GetDeadLetters()) != 1 {
		t.Fatalf("dead letters %v, %v", dead, err)
	}
	if d := dead.GetDeadLetters()[0]; d.GetAttempts() != 3 || d.GetEventId() != ids[0] || !strings.Contains(d.GetLastError(), "302") {
		t.Errorf("dead letter %v", d)
	}
	r.set(nil)
	resent, err := a.ResendDeadLetters(t.Context(), &holdfastv1.ResendDeadLettersRequest{WebhookId: hook.GetWebhookId()})
	if err != nil || resent.GetResent() != 1 {
		t.Errorf("resent %v, %v", resent, err)
	}
	r.await(t, p, 3)
	_, err = a.ListDeadLetters(t.Context(), &holdfastv1.ListDeadLettersRequest{WebhookId: uuid.NewString()})
	wantReason(t, err, holdfastv1.ReasonWebhookNotFound)
}

// A worker can be killed between any two steps. Some events are sent again then, and none
// is left out.
func TestKilledWorkerLosesNoEvent(t *testing.T) {
	c := newCluster(t)
	idle := hasty
	idle.Refresh = -1 // what sends is what the test kills
	a := c.start(t, "a", func(cfg *Config) { cfg.Webhooks = idle })
	r := newReceiver(t)
	var products []string
	want := map[string][]string{}
	for range 4 {
		products = append(products, a.create(t, 1000))
	}
	hook := a.hook(t, r, "")
	id := uuid.MustParse(hook.GetWebhookId())
	const n = 30
	for i := range n {
		for _, p := range products {
			want[p] = append(want[p], a.mustBuy(t, p, "eu", fmt.Sprint(i), 1).GetPurchaseId())
		}
	}
	failing := 0
	s := sharedShard(t, "eu")
	defer s.Close()
	patientHook := hasty
	patientHook.Attempts = 1000
	for life := 0; len(r.of(products[0]))+len(r.of(products[1]))+len(r.of(products[2]))+len(r.of(products[3])) < 4*n; life++ {
		if life > 300 {
			t.Fatal("does not get on")
		}
		ctx, kill := context.WithCancel(t.Context())
		taken := 0
		r.set(func(cloudEvent) int {
			if taken++; taken == 5+life*13%60 {
				kill()
			}
			if failing++; failing%5 == 3 {
				return http.StatusServiceUnavailable
			}
			return http.StatusOK
		})
		u := newUses()
		h := &webhook{
			Webhook: ledger.Webhook{WebhookID: id, URL: r.URL, Secret: testSecret}, shard: s,
			tail: newTail(ctx, s, u, hclog.NewNullLogger()), client: &http.Client{Timeout: time.Second}, cfg: patientHook, log: hclog.NewNullLogger(),
		}
		time.AfterFunc(200*time.Millisecond, kill)
		h.run(ctx)
		h.client.CloseIdleConnections()
		u.close()
	}
	for _, p := range products {
		if got := r.of(p); !slices.Equal(got, want[p]) {
			t.Errorf("received %v\nwant %v", got, want[p])
		}
	}
}

// A repetition of the call must not send everything twice.
func TestWebhookIsCreatedOnce(t *testing.T) {
	c := newCluster(t)
	a, b := c.start(t, "a"), c.start(t, "b")
	req := &holdfastv1.CreateWebhookRequest{Url: "http://localhost:1/", Secret: testSecret, RequestId: uuid.NewString()}
	first, err := a.CreateWebhook(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.CreateWebhook(t.Context(), req)
	if err != nil || again.GetWebhookId() != first.GetWebhookId() || again.GetSecret() != testSecret {
		t.Errorf("again: %v, %v", again, err)
	}
	req.Url = "http://localhost:2/"
	_, err = b.CreateWebhook(t.Context(), req)
	wantReason(t, err, holdfastv1.ReasonRequestIDReused)
	list, err := b.ListWebhooks(t.Context(), &holdfastv1.ListWebhooksRequest{})
	if err != nil || len(list.GetWebhooks()) != 1 || list.GetWebhooks()[0].GetSecret() != "" {
		t.Errorf("list %v, %v", list, err)
	}
	for range 2 {
		if _, err := b.DeleteWebhook(t.Context(), &holdfastv1.DeleteWebhookRequest{WebhookId: first.GetWebhookId()}); err != nil {
			t.Error(err)
		}
	}
	if list, err := a.ListWebhooks(t.Context(), &holdfastv1.ListWebhooksRequest{}); err != nil || len(list.GetWebhooks()) != 0 {
		t.Errorf("list %v, %v", list, err)
	}
}

// The example of the specification, so that its libraries verify what is sent.
func TestSignatureIsThatOfTheSpecification(t *testing.T) {
	got := sign(testSecret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
