package coordinator

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/url"
	"strings"

	"google.golang.org/protobuf/proto"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

const secretPrefix = "whsec_"

// CreateWebhook fills in the secret, so that a repetition has the same one.
func (s *service) CreateWebhook(ctx context.Context, req *holdfastv1.CreateWebhookRequest) (*holdfastv1.Webhook, error) {
	if err := s.check(req); err != nil {
		return nil, err
	}
	if why := wrongAddress(req.GetUrl()); why != "" {
		return nil, holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "url", why)
	}
	req = proto.CloneOf(req)
	fillRequestID(&req.RequestId)
	if req.GetSecret() == "" {
		req.Secret = newSecret()
	}
	if key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(req.GetSecret(), secretPrefix)); err != nil ||
		!strings.HasPrefix(req.GetSecret(), secretPrefix) || len(key) < 24 || len(key) > 64 {
		return nil, holdfastv1.FieldError(holdfastv1.ReasonInvalidField, "secret",
			`must be "whsec_" and the base64 of 24 to 64 bytes`)
	}
	return ask(ctx, s, req.GetRequestId(), req,
		holdfastv1.NewWebhookServiceClient, holdfastv1.WebhookServiceClient.CreateWebhook)
}

// wrongAddress says why events cannot be sent to an address, or "".
func wrongAddress(address string) string {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return "is not a URL"
	case u.Scheme != "http" && u.Scheme != "https":
		return "must begin with http:// or https://"
	case u.Hostname() == "":
		return "must have a host"
	case u.User != nil:
		return "must not hold a user or a password"
	}
	return ""
}

func newSecret() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

func (s *service) ListWebhooks(ctx context.Context, req *holdfastv1.ListWebhooksRequest) (*holdfastv1.ListWebhooksResponse, error) {
	return ask(ctx, s, "", req, holdfastv1.NewWebhookServiceClient, holdfastv1.WebhookServiceClient.ListWebhooks)
}

func (s *service) DeleteWebhook(ctx context.Context, req *holdfastv1.DeleteWebhookRequest) (*holdfastv1.DeleteWebhookResponse, error) {
	return ask(ctx, s, req.GetWebhookId(), req,
		holdfastv1.NewWebhookServiceClient, holdfastv1.WebhookServiceClient.DeleteWebhook)
}

func (s *service) ListDeadLetters(ctx context.Context, req *holdfastv1.ListDeadLettersRequest) (*holdfastv1.ListDeadLettersResponse, error) {
	return ask(ctx, s, req.GetWebhookId(), req,
		holdfastv1.NewWebhookServiceClient, holdfastv1.WebhookServiceClient.ListDeadLetters)
}

func (s *service) ResendDeadLetters(ctx context.Context, req *holdfastv1.ResendDeadLettersRequest) (*holdfastv1.ResendDeadLettersResponse, error) {
	return ask(ctx, s, req.GetWebhookId(), req,
		holdfastv1.NewWebhookServiceClient, holdfastv1.WebhookServiceClient.ResendDeadLetters)
}
