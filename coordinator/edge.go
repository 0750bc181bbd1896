package coordinator

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/time/rate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
	"github.com/holdfast-io/holdfast/api/traces"
	"github.com/holdfast-io/holdfast/coordinator/auth"
)

// edge is what every call passes on its way in, by gRPC or HTTP: it is measured, it is found out
// whose it is and whether he may make it, and what operators change is logged. With a nil
// authenticator everybody may do everything.
type edge struct {
	authenticator *auth.Authenticator
	limiter       *auth.Limiter
	streams       *auth.Streams
	metrics       *metrics
	audit         hclog.Logger
	unchecked     rate.Sometimes // for what each call would log while the issuer is away
	ownerOf       func(context.Context, auth.Owned) (customerID string, err error)
}

// sayUnchecked is how often it is logged that the issuer does not answer.
const sayUnchecked = 10 * time.Second

func newEdge(cfg Config, m *metrics) (*edge, error) {
	limiter, err := auth.NewLimiter(cfg.Rates)
	return &edge{
		authenticator: cfg.Authenticator, limiter: limiter, streams: auth.NewStreams(cfg.MaxStreamsPerBuyer),
		metrics: m, audit: cfg.Logger.Named("audit"), unchecked: rate.Sometimes{Interval: sayUnchecked},
	}, err
}

// unary is for calls with one request.
func (e *edge) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return e.metrics.unary(ctx, req, info, func(ctx context.Context, req any) (any, error) {
		if !ofContract(info.FullMethod) {
			return handler(ctx, req)
		}
		if err := e.allow(ctx, req.(proto.Message)); err != nil {
			return nil, err
		}
		resp, err := handler(ctx, req)
		e.note(ctx, req.(proto.Message), err)
		return resp, err
	})
}

// stream is for streams and watches. They end when the caller's token expires, and are then
// begun anew with another one.
func (e *edge) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return e.metrics.stream(srv, stream, info, func(srv any, stream grpc.ServerStream) error {
		if !ofContract(info.FullMethod) {
			return handler(srv, stream)
		}
		ctx, err := e.enter(stream.Context())
		if err != nil {
			return err
		}
		if c := auth.FromContext(ctx); c != nil {
			closed, ok := e.streams.Open(c)
			if !ok {
				return e.tooMany(info)
			}
			defer closed()
		}
		ctx, cancel := whileValid(ctx)
		defer cancel()
		return handler(srv, &allowedStream{ServerStream: stream, ctx: ctx, edge: e})
	})
}

// tooMany refuses one more stream of a buyer.
func (e *edge) tooMany(info *grpc.StreamServerInfo) error {
	e.metrics.refuse("rate")
	reason := holdfastv1.ReasonTooManyWatches
	if info.IsClientStream {
		reason = holdfastv1.ReasonRateExceeded
	}
	return holdfastv1.Error(codes.ResourceExhausted, reason, "the caller has as many watches and streams open as he may; repeat later",
		nil, &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
}

// allowedStream hands on requests that the caller may make.
type allowedStream struct {
	grpc.ServerStream
	ctx  context.Context
	edge *edge
}

func (s *allowedStream) Context() context.Context { return s.ctx }

func (s *allowedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if _, many := m.(*holdfastv1.StreamPurchasesRequest); many {
		return nil // each purchase has an answer of its own
	}
	return s.edge.allow(s.ctx, m.(proto.Message))
}

// ofContract tells the methods of the public contract from those that tell whether the
// coordinator is healthy, which everybody may ask.
func ofContract(fullMethod string) bool { return strings.HasPrefix(fullMethod, "/holdfast.") }

// enter finds out who makes a call.
func (e *edge) enter(ctx context.Context) (context.Context, error) {
	if e.authenticator == nil {
		return ctx, nil
	}
	header := ""
	if values := metadata.ValueFromIncomingContext(ctx, "authorization"); len(values) > 0 {
		header = values[0]
	}
	c, err := e.identify(ctx, header)
	if err != nil {
		return ctx, err
	}
	return auth.NewContext(ctx, c), nil
}

// identify finds out whose an Authorization header is; nobody's where everybody may do everything.
func (e *edge) identify(ctx context.Context, header string) (*auth.Caller, error) {
	if e.authenticator == nil {
		return nil, nil
	}
	c, err := e.authenticator.Authenticate(ctx, header)
	if err != nil {
		return nil, e.refuse(ctx, err)
	}
	return c, nil
}

// entering has those who call a service found out before what they say is decoded: that is work
// which strangers are not worth.
type entering struct {
	grpc.ServiceRegistrar
	edge *edge
}

// RegisterService is part of grpc.ServiceRegistrar.
func (r entering) RegisterService(desc *grpc.ServiceDesc, service any) {
	own := *desc
	own.Methods = nil
	for _, m := range desc.Methods {
		own.Methods = append(own.Methods, grpc.MethodDesc{MethodName: m.MethodName, Handler: func(
			srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor,
		) (any, error) {
			ctx, err := r.edge.enter(ctx)
			if err != nil {
				return nil, err
			}
			return m.Handler(srv, ctx, decode, intercept)
		}})
	}
	r.ServiceRegistrar.RegisterService(&own, service)
}

// longestStay is after how long the caller of a stream is asked again who he is, if his token has
// no end of its own: it may have been taken out of the file.
const longestStay = 15 * time.Minute

// whileValid is a context of a call that ends with the token.
func whileValid(ctx context.Context) (context.Context, context.CancelFunc) {
	c := auth.FromContext(ctx)
	switch {
	case c == nil:
		return context.WithCancel(ctx)
	case c.Expires.IsZero():
		return context.WithTimeout(ctx, longestStay)
	}
	return context.WithDeadline(ctx, c.Expires)
}

// allow decides whether whoever makes a call may make this request, and makes it now.
func (e *edge) allow(ctx context.Context, req proto.Message) error {
	if e.authenticator == nil {
		return nil
	}
	c := auth.FromContext(ctx)
	if c == nil {
		return e.refuse(ctx, auth.ErrNoToken)
	}
	if ok, wait := e.limiter.Allow(c, callsIn(req)); !ok {
		e.metrics.refuse("rate")
		return holdfastv1.Error(codes.ResourceExhausted, holdfastv1.ReasonRateExceeded,
			"the caller makes too many calls; repeat later", nil, &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	}
	own, err := auth.Allow(c, req)
	if err != nil {
		return e.refuse(ctx, err)
	}
	if own == (auth.Owned{}) {
		return nil
	}
	customerID, err := e.ownerOf(ctx, own)
	switch {
	case err != nil:
		return err
	case c.Owns(customerID):
		return nil
	}
	e.metrics.refuse("customer")
	return notThere(own) // whether it is there is none of his business
}

// callsIn is how many calls a request counts for.
func callsIn(req proto.Message) int {
	if batch, ok := req.(*holdfastv1.BatchCreatePurchasesRequest); ok {
		return max(1, len(batch.GetRequests()))
	}
	return 1
}

func notThere(own auth.Owned) error {
	if own.OrderID != "" {
		return holdfastv1.OrderNotFound(own.OrderID)
	}
	return holdfastv1.PurchaseNotFound(own.PurchaseID)
}

// refuse counts a refusal and says it in the contract's words.
func (e *edge) refuse(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, auth.ErrNoToken):
		e.metrics.refuse("no_token")
		return holdfastv1.Error(codes.Unauthenticated, holdfastv1.ReasonTokenMissing,
			"the call needs a token: Authorization: Bearer …", nil)
	case errors.Is(err, auth.ErrExpired):
		e.metrics.refuse("expired")
		return holdfastv1.Error(codes.Unauthenticated, holdfastv1.ReasonTokenExpired, "the token has expired", nil)
	case errors.Is(err, auth.ErrUnavailable):
		e.unchecked.Do(func() { traces.Log(ctx, e.audit).Warn("token not checked", "error", err) })
		return holdfastv1.Error(codes.Unavailable, holdfastv1.ReasonIssuerUnavailable,
			"whoever issues the tokens does not answer; repeat later", nil)
	case errors.Is(err, auth.ErrCustomer):
		e.metrics.refuse("customer")
		return holdfastv1.Error(codes.PermissionDenied, holdfastv1.ReasonOtherCustomer,
			"customer_id: a buyer acts only for the customer of the token", map[string]string{"field": "customer_id"})
	case errors.Is(err, auth.ErrRole):
		e.metrics.refuse("role")
		return holdfastv1.Error(codes.PermissionDenied, holdfastv1.ReasonRoleMissing, err.Error(), nil)
	}
	e.metrics.refuse("foreign")
	return holdfastv1.Error(codes.Unauthenticated, holdfastv1.ReasonTokenInvalid,
		"the token is not one of those that are taken here", nil)
}

// note logs what an operator has changed, or tried to; sales are rows of the shards anyway.
func (e *edge) note(ctx context.Context, req proto.Message, err error) {
	c := auth.FromContext(ctx)
	if c == nil || !auth.IsAudited(c, req) {
		return
	}
	args := []any{"caller", c.Name, "request", string(req.ProtoReflect().Descriptor().Name()), "code", status.Code(err).String()}
	for _, field := range auth.AuditedFields(req) {
		args = append(args, field.Name, field.Value)
	}
	if reason := holdfastv1.Reason(err); reason != "" {
		args = append(args, "reason", reason)
	}
	traces.Log(ctx, e.audit).Info("operator", args...)
}
