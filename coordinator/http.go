package coordinator

import (
	"context"
	"errors"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holdfast-io/holdfast/api"
	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// maxBody bounds a request's body and a gRPC message: about a thousand purchases
// with the longest ids.
const maxBody = 1 << 20

// httpHandler serves the service as HTTP/JSON, its OpenAPI document, and whether
// it lives (/healthz) and knows a worker (/readyz). Watches end with ctx.
func httpHandler(ctx context.Context, s *service, e *edge) (http.Handler, error) {
	gateway := runtime.NewServeMux(
		// A product id may hold a slash, which a path carries escaped.
		runtime.WithUnescapingMode(runtime.UnescapingModeAllCharacters),
		runtime.WithErrorHandler(writeError),
		runtime.WithRoutingErrorHandler(writeRoutingError),
		runtime.WithMarshalerOption(runtime.MIMEWildcard, jsonForm),
	)
	local := newInProcess(e.unary, e.stream)
	register(entering{local, e}, s)
	if err := gateway.HandlePath(http.MethodGet, "/v1/products/{product_id=**}", getProduct(gateway, local)); err != nil {
		return nil, err
	}
	if err := errors.Join(
		holdfastv1.RegisterProductServiceHandlerClient(ctx, gateway, holdfastv1.NewProductServiceClient(local)),
		holdfastv1.RegisterPurchaseServiceHandlerClient(ctx, gateway, holdfastv1.NewPurchaseServiceClient(local)),
		holdfastv1.RegisterOrderServiceHandlerClient(ctx, gateway, holdfastv1.NewOrderServiceClient(local)),
		holdfastv1.RegisterEventServiceHandlerClient(ctx, gateway, holdfastv1.NewEventServiceClient(local)),
		holdfastv1.RegisterWebhookServiceHandlerClient(ctx, gateway, holdfastv1.NewWebhookServiceClient(local)),
		watchPaths(ctx, gateway, local), // after the contract's own, and so before them
	); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/v1/", wellFormed(gateway, e))
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", mimeJSON)
		_, _ = w.Write(api.OpenAPI)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.router.ready() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	return mux, nil
}

// getProduct reads products whose ids hold slashes. The contract's own path is
// one segment, and grpc-gateway takes also an escaped slash for its end.
func getProduct(gateway *runtime.ServeMux, local *inProcess) runtime.HandlerFunc {
	client := holdfastv1.NewProductServiceClient(local)
	return func(w http.ResponseWriter, r *http.Request, path map[string]string) {
		ctx, err := runtime.AnnotateContext(r.Context(), gateway, r, holdfastv1.ProductService_GetProduct_FullMethodName)
		if err != nil {
			writeError(r.Context(), gateway, jsonForm, w, r, err)
			return
		}
		product, err := client.GetProduct(ctx, &holdfastv1.GetProductRequest{ProductId: path["product_id"]})
		if err != nil {
			writeError(ctx, gateway, jsonForm, w, r, err)
			return
		}
		runtime.ForwardResponseMessage(ctx, gateway, jsonForm, w, r, product)
	}
}

// writeError is grpc-gateway's, but for what a worker will not do as things are: that is
// a conflict with what others bought, a limit, or what became of the purchase, where
// gRPC's code maps to a bad request. And what grpc-gateway refused by itself gets a reason.
func writeError(
	ctx context.Context, mux *runtime.ServeMux, m runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error,
) {
	switch reason := holdfastv1.Reason(err); {
	case reason != "" && status.Code(err) == codes.FailedPrecondition:
		err = &runtime.HTTPStatusError{HTTPStatus: http.StatusConflict, Err: err}
	case reason == "" && status.Code(err) == codes.InvalidArgument:
		err = malformed(status.Convert(err).Message())
	}
	runtime.DefaultHTTPErrorHandler(ctx, mux, m, w, r, err)
}

// writeRoutingError is grpc-gateway's, which says 501 of a method that a path
// does not have.
func writeRoutingError(
	ctx context.Context, mux *runtime.ServeMux, m runtime.Marshaler, w http.ResponseWriter, r *http.Request, httpStatus int,
) {
	if httpStatus == http.StatusMethodNotAllowed {
		err := status.Error(codes.Unimplemented, http.StatusText(httpStatus))
		writeError(ctx, mux, m, w, r, &runtime.HTTPStatusError{HTTPStatus: httpStatus, Err: err})
		return
	}
	runtime.DefaultRoutingErrorHandler(ctx, mux, m, w, r, httpStatus)
}
