package worker

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protojson"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// WebhookConfig says how events are delivered.
type WebhookConfig struct {
	Attempts   int           // 12; then an event is a dead letter
	FirstRetry time.Duration // 5 s; each pause is about two and a half times the one before, an hour at most
	Timeout    time.Duration // 10 s; for an answer
	Refresh    time.Duration // 1 s; between looks for webhooks that are new, and for what is due; negative: this worker delivers nothing
}

func (c *WebhookConfig) complete() {
	c.Attempts = cmp.Or(c.Attempts, 12)
	c.FirstRetry = cmp.Or(c.FirstRetry, 5*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 10*time.Second)
	c.Refresh = cmp.Or(c.Refresh, time.Second)
}

const (
	webhookPage   = 32              // events that are delivered before the place is stored
	webhookTurn   = 2 * time.Second // after which those of a slow page wait, so that others go on
	webhookAtOnce = 8               // deliveries of one webhook that are under way
	maxWaiting    = 10_000          // events of one webhook and shard that wait, before no more are read
	maxRetryPause = time.Hour
	maxReply      = 64 << 10 // bytes of a reply that are read
	idlePlace     = time.Minute
)

// wait is how long after so many attempts the next one is made.
func (c *WebhookConfig) wait(attempts int) time.Duration {
	wait := float64(c.FirstRetry)
	for range attempts - 1 {
		wait *= 2.5
	}
	return time.Duration(min(wait, float64(maxRetryPause)) * (0.75 + rand.Float64()/2))
}

// webhook delivers the events of one shard to one address. What it cannot deliver waits in
// the shard, with all that comes later of the same product; the rest goes on. Its place is
// stored after the deliveries, so that whoever does it next repeats some, and skips none.
type webhook struct {
	ledger.Webhook
	shard  *ledger.Shard
	tail   *tail
	client *http.Client
	cfg    WebhookConfig
	log    hclog.Logger

	mu      sync.Mutex
	waiting map[string]int64 // events that wait, by product
	total   int64
}

// run delivers until ctx ends.
func (h *webhook) run(ctx context.Context) {
	defer h.tail.join()()
	var at ledger.Cursor
	h.insist(ctx, "read its place", func(ctx context.Context) (err error) {
		at, h.waiting, err = h.shard.WebhookPlace(ctx, h.WebhookID)
		return err
	})
	for _, n := range h.waiting {
		h.total += n
	}
	var again sync.WaitGroup
	again.Go(func() { h.retry(ctx) })
	defer again.Wait()
	for stored := time.Now(); ctx.Err() == nil; {
		if h.full() {
			pause(ctx, h.cfg.Refresh)
			continue
		}
		page, err := h.tail.next(ctx, at, h.ProductID)
		if err != nil {
			pause(ctx, h.cfg.Refresh)
			continue
		}
		for events := page.Events; len(events) > 0 && ctx.Err() == nil; {
			n := min(len(events), webhookPage)
			h.store(ctx, events[n-1].Cursor, h.deliverAll(ctx, events[:n]))
			stored, events = time.Now(), events[n:]
		}
		if at = page.Next; time.Since(stored) > idlePlace {
			h.store(ctx, at, nil)
			stored = time.Now()
		}
	}
}

// insist does something until it succeeds or ctx ends.
func (h *webhook) insist(ctx context.Context, what string, do func(context.Context) error) {
	for ctx.Err() == nil {
		limited, cancel := context.WithTimeout(ctx, batchTimeout)
		err := do(limited)
		cancel()
		if err == nil {
			return
		}
		if ctx.Err() == nil {
			h.log.Warn("webhook cannot "+what, "webhook", h.WebhookID, "error", err)
		}
		pause(ctx, h.cfg.Refresh)
	}
}

func (h *webhook) store(ctx context.Context, to ledger.Cursor, waiting []ledger.Waiting) {
	h.insist(ctx, "store its place", func(ctx context.Context) error {
		return h.shard.AdvanceWebhook(ctx, h.WebhookID, to, waiting, h.cfg.wait(1))
	})
}

func (h *webhook) full() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total >= maxWaiting
}

// waits reports whether events of a product wait; more of it has to, too.
func (h *webhook) waits(product string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.waiting[product] > 0
}

func (h *webhook) count(product string, n int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.total += n
	if h.waiting[product] += n; h.waiting[product] <= 0 {
		delete(h.waiting, product)
	}
}

// deliverAll delivers some events, those of each product in their order, and returns those
// that have to wait.
func (h *webhook) deliverAll(ctx context.Context, events []ledger.Event) (waiting []ledger.Waiting) {
	byProduct := map[string][]*ledger.Event{}
	for i := range events {
		e := &events[i]
		byProduct[e.ProductID] = append(byProduct[e.ProductID], e)
	}
	var (
		mu    sync.Mutex
		g     errgroup.Group
		began = time.Now()
	)
	g.SetLimit(webhookAtOnce)
	for product, of := range byProduct {
		g.Go(func() error {
			for _, e := range of {
				w := ledger.Waiting{Cursor: e.Cursor, ProductID: product, Body: h.body(e)}
				if !h.waits(product) && time.Since(began) < webhookTurn {
					err := h.deliver(ctx, &w)
					if err == nil {
						continue
					}
					w.Attempts, w.LastError = 1, err.Error()
				}
				h.count(product, 1)
				mu.Lock()
				waiting = append(waiting, w)
				mu.Unlock()
			}
			return nil
		})
	}
	_ = g.Wait()
	return waiting
}

// retry delivers what waits when it is due, until ctx ends.
func (h *webhook) retry(ctx context.Context) {
	for ctx.Err() == nil {
		due, err := h.shard.DueForWebhook(ctx, h.WebhookID, webhookPage)
		if err != nil || len(due) == 0 {
			pause(ctx, h.cfg.Refresh)
			continue
		}
		var g errgroup.Group
		g.SetLimit(webhookAtOnce)
		for _, w := range due {
			g.Go(func() error { h.tryAgain(ctx, w); return nil })
		}
		_ = g.Wait()
	}
}

func (h *webhook) tryAgain(ctx context.Context, w ledger.Waiting) {
	err := h.deliver(ctx, &w)
	if ctx.Err() != nil {
		return // whoever does it next tries again
	}
	w.Attempts++
	dead := false
	h.insist(ctx, "store a delivery", func(ctx context.Context) error {
		if err == nil {
			return h.shard.WebhookDelivered(ctx, h.WebhookID, w)
		}
		w.LastError, dead = err.Error(), w.Attempts >= h.cfg.Attempts
		return h.shard.WebhookFailed(ctx, h.WebhookID, w, h.cfg.wait(w.Attempts), dead)
	})
	if dead {
		h.log.Warn("event not delivered; no more attempts", "webhook", h.WebhookID, "product", w.ProductID, "error", err)
	}
	if (err == nil || dead) && !w.Resent {
		h.count(w.ProductID, -1)
	}
}

// cloudEvent is the JSON format of CloudEvents 1.0, with the extensions partitionkey and
// sequence (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md).
type cloudEvent struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject"`
	Time            string          `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	PartitionKey    string          `json:"partitionkey"`
	Sequence        string          `json:"sequence"`
	Data            json.RawMessage `json:"data"`
}

func (h *webhook) body(e *ledger.Event) []byte {
	told := event(h.shard.Name(), e)
	subject, of := told.GetPurchaseId(), "purchase"
	if subject == "" {
		subject, of = told.GetEventId(), "delivery"
	}
	data, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(told)
	if err == nil {
		data, err = json.Marshal(cloudEvent{
			SpecVersion: "1.0", ID: told.GetEventId(), Source: "/holdfast/regions/" + h.shard.Name(),
			Type: "io.holdfast." + of + "." + string(e.Kind), Subject: subject, Time: e.CreateTime.UTC().Format(time.RFC3339Nano),
			DataContentType: "application/json", PartitionKey: e.ProductID,
			Sequence: fmt.Sprintf("%016x%x", e.Cursor.XID, e.Cursor.ID[:]), Data: data,
		})
	}
	if err != nil {
		h.log.Error("event not encoded", "event", told.GetEventId(), "error", err) // ids are UTF-8, so it can be
	}
	return data
}

// deliver posts one event, signed by the Standard Webhooks specification. It succeeds with a
// status of 2xx; redirects are not followed: the address was checked, and no other was.
func (h *webhook) deliver(ctx context.Context, w *ledger.Waiting) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, bytes.NewReader(w.Body))
	if err != nil {
		return err
	}
	id, at := holdfastv1.PurchaseID(h.shard.Name(), w.Cursor.ID), strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/cloudevents+json; charset=UTF-8")
	req.Header.Set("User-Agent", "holdfast")
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", at)
	req.Header.Set("webhook-signature", sign(h.Secret, id, at, w.Body))
	resp, err := h.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, maxReply) // so that the connection can be used again
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("answered with status %d", resp.StatusCode)
	}
	return nil
}

// sign makes a signature (https://www.standardwebhooks.com, version 1).
func sign(secret, id, timestamp string, body []byte) string {
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%s.", id, timestamp)
	_, _ = mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// sendWebhooks delivers the events of one shard, as long as it is this worker's duty.
func (w *Worker) sendWebhooks(ctx context.Context, t *term, shard int) {
	transport := &http.Transport{
		MaxIdleConnsPerHost: webhookAtOnce, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: w.cfg.Webhooks.Timeout,
		MaxResponseHeaderBytes: maxReply,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport: transport, Timeout: w.cfg.Webhooks.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	s, log := t.shards[shard], w.log.With("shard", t.shards[shard].Name())
	running := map[uuid.UUID]context.CancelFunc{}
	var all sync.WaitGroup
	defer all.Wait()
	for ; ctx.Err() == nil; pause(ctx, w.cfg.Webhooks.Refresh) {
		list, err := reconcile(ctx, t.shards[0], s)
		if err != nil {
			if ctx.Err() == nil {
				log.Warn("webhooks not read", "error", err)
			}
			continue
		}
		listed := map[uuid.UUID]bool{}
		for _, of := range list {
			listed[of.WebhookID] = true
			if running[of.WebhookID] != nil {
				continue
			}
			h := &webhook{Webhook: of, shard: s, tail: t.service.watches.tails[shard], client: client, cfg: w.cfg.Webhooks, log: log}
			sending, stop := context.WithCancel(ctx)
			running[of.WebhookID] = stop
			all.Go(func() { defer stop(); h.run(sending) })
		}
		for id, stop := range running {
			if !listed[id] {
				stop()
				delete(running, id)
			}
		}
	}
}

// reconcile brings a shard's webhooks in line with those of the first shard, which may be
// the same, and returns them.
func reconcile(ctx context.Context, first, s *ledger.Shard) ([]ledger.Webhook, error) {
	ctx, cancel := context.WithTimeout(ctx, batchTimeout)
	defer cancel()
	own, err := s.Webhooks(ctx)
	if err != nil || s == first {
		return own, err
	}
	list, err := first.Webhooks(ctx)
	if err != nil {
		return own, nil //nolint:nilerr // what the shard knows itself goes on
	}
	known := map[uuid.UUID]bool{}
	for _, w := range own {
		known[w.WebhookID] = true
	}
	for _, w := range list {
		if began, ok := decodeCursors(w.Began); ok && !known[w.WebhookID] {
			if _, err := s.PutWebhook(ctx, w, began[s.Name()]); err != nil {
				return nil, err
			}
		}
		delete(known, w.WebhookID)
	}
	for id := range known {
		if err := s.DeleteWebhook(ctx, id); err != nil {
			return nil, err
		}
	}
	return list, nil
}
