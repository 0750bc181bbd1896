package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/worker/ledger"
)

// webhookIDs is the space in which request ids become webhook ids: a repetition finds the
// first one by it.
var webhookIDs = uuid.MustParse("8d0a4c3e-5b0f-4f0e-9f0e-6d1c2f7a9b11")

// CreateWebhook stores a webhook in the first shard, whose rows count, and then in the
// others. What it does not reach there, the worker on duty brings in line.
func (s *service) CreateWebhook(ctx context.Context, req *holdfastv1.CreateWebhookRequest) (*holdfastv1.Webhook, error) {
	began, err := s.ends(ctx)
	if err != nil {
		return nil, s.status(ctx, "", err)
	}
	asked := ledger.Webhook{
		WebhookID: uuid.NewSHA1(webhookIDs, []byte(req.GetRequestId())), URL: req.GetUrl(), Secret: req.GetSecret(),
		ProductID: req.GetProductId(), Began: began.encode(), CreateTime: time.Now().UTC().Truncate(time.Microsecond),
	}
	stored := &asked
	for i, sh := range s.shards {
		began, _ := decodeCursors(stored.Began)
		first, err := sh.PutWebhook(ctx, *stored, began[sh.Name()])
		if err != nil {
			return nil, s.status(ctx, "", &ShardError{Shard: sh.Name(), cause: err})
		}
		if i == 0 {
			stored = first
		}
		if first.URL != asked.URL || first.ProductID != asked.ProductID {
			return nil, holdfastv1.FieldError(holdfastv1.ReasonRequestIDReused, "request_id", errRequestIDReused.Error())
		}
	}
	answer := webhookOf(stored)
	answer.Secret = stored.Secret
	return answer, nil
}

func webhookOf(w *ledger.Webhook) *holdfastv1.Webhook {
	return &holdfastv1.Webhook{
		WebhookId: w.WebhookID.String(), Url: w.URL, ProductId: w.ProductID, CreateTime: timestamppb.New(w.CreateTime),
	}
}

func (s *service) ListWebhooks(ctx context.Context, _ *holdfastv1.ListWebhooksRequest) (*holdfastv1.ListWebhooksResponse, error) {
	list, err := s.webhooks(ctx)
	if err != nil {
		return nil, err
	}
	resp := &holdfastv1.ListWebhooksResponse{}
	for _, w := range list {
		resp.Webhooks = append(resp.Webhooks, webhookOf(&w))
	}
	return resp, nil
}

func (s *service) webhooks(ctx context.Context) ([]ledger.Webhook, error) {
	list, err := s.shards[0].Webhooks(ctx)
	if err != nil {
		return nil, s.status(ctx, "", &ShardError{Shard: s.shards[0].Name(), cause: err})
	}
	return list, nil
}

// DeleteWebhook begins with the first shard: from then on the others follow.
func (s *service) DeleteWebhook(ctx context.Context, req *holdfastv1.DeleteWebhookRequest) (*holdfastv1.DeleteWebhookResponse, error) {
	id, err := parseWebhookID(req.GetWebhookId())
	if err != nil {
		return nil, err
	}
	for _, sh := range s.shards {
		if err := sh.DeleteWebhook(ctx, id); err != nil {
			return nil, s.status(ctx, "", &ShardError{Shard: sh.Name(), cause: err})
		}
	}
	return &holdfastv1.DeleteWebhookResponse{}, nil
}

func parseWebhookID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return id, holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "webhook_id", "is not the id of a webhook")
	}
	return id, nil
}

// findWebhook returns the id of a webhook that there is.
func (s *service) findWebhook(ctx context.Context, text string) (uuid.UUID, error) {
	id, err := parseWebhookID(text)
	if err != nil {
		return id, err
	}
	list, err := s.webhooks(ctx)
	if err != nil {
		return id, err
	}
	for _, w := range list {
		if w.WebhookID == id {
			return id, nil
		}
	}
	return id, holdfastv1.Error(codes.NotFound, holdfastv1.ReasonWebhookNotFound,
		fmt.Sprintf("webhook_id: there is no webhook %q", text), map[string]string{"webhook_id": text})
}

// ListDeadLetters reads the shards one after the other, like ListMovements.
func (s *service) ListDeadLetters(ctx context.Context, req *holdfastv1.ListDeadLettersRequest) (*holdfastv1.ListDeadLettersResponse, error) {
	id, err := s.findWebhook(ctx, req.GetWebhookId())
	if err != nil {
		return nil, err
	}
	at, shards, err := s.movementsFrom(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	size, resp := pageSize(req.GetPageSize()), &holdfastv1.ListDeadLettersResponse{}
	for _, sh := range shards {
		dead, err := sh.DeadLetters(ctx, id, at, size-len(resp.DeadLetters))
		if err != nil {
			return nil, s.status(ctx, "", &ShardError{Shard: sh.Name(), cause: err})
		}
		for _, w := range dead {
			resp.DeadLetters = append(resp.DeadLetters, &holdfastv1.DeadLetter{
				EventId: holdfastv1.PurchaseID(sh.Name(), w.Cursor.ID), ProductId: w.ProductID, Attempts: int32(w.Attempts),
				LastError: w.LastError, DeadTime: timestamppb.New(*w.DeadTime), Body: string(w.Body),
			})
			at = w.Cursor
		}
		if len(resp.DeadLetters) == size {
			resp.NextPageToken = cursors{sh.Name(): at}.encode()
			break
		}
		at = ledger.Cursor{}
	}
	return resp, nil
}

func (s *service) ResendDeadLetters(ctx context.Context, req *holdfastv1.ResendDeadLettersRequest) (*holdfastv1.ResendDeadLettersResponse, error) {
	id, err := s.findWebhook(ctx, req.GetWebhookId())
	if err != nil {
		return nil, err
	}
	resp := &holdfastv1.ResendDeadLettersResponse{}
	for _, sh := range s.shards {
		n, err := sh.ResendDeadLetters(ctx, id)
		if err != nil {
			return nil, s.status(ctx, "", &ShardError{Shard: sh.Name(), cause: err})
		}
		resp.Resent += n
	}
	return resp, nil
}
