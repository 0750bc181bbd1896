package coordinator

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// grpc-gateway does not stream from a service of its own process. The two watches are told
// as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html),
// which browsers and curl read, and begin again by themselves where they were.

// sseWrite is how long a reader may take for one event before he counts as gone.
const sseWrite = 30 * time.Second

// watchPaths serves the watches until serving ends.
func watchPaths(serving context.Context, gateway *runtime.ServeMux, s *service, e *edge) error {
	err := gateway.HandlePath(http.MethodGet, "/v1/events:watch", sse(serving, gateway, e,
		holdfastv1.EventService_WatchEvents_FullMethodName,
		func(ctx context.Context, r *http.Request, send sender) error {
			req := &holdfastv1.WatchEventsRequest{}
			if err := fromQuery(req, r); err != nil {
				return err
			}
			if last := r.Header.Get("Last-Event-ID"); last != "" {
				req.Cursor, req.FromNow = last, false
			}
			if err := e.allow(ctx, req); err != nil {
				return err
			}
			return s.watchEvents(ctx, req, func(m *holdfastv1.WatchEventsResponse) error {
				if m.GetEvent() == nil {
					return send(m.GetCursor(), nil)
				}
				return send(m.GetCursor(), m.GetEvent())
			})
		}))
	if err != nil {
		return err
	}
	return gateway.HandlePath(http.MethodGet, "/v1/products:watch", sse(serving, gateway, e,
		holdfastv1.ProductService_WatchProduct_FullMethodName,
		func(ctx context.Context, r *http.Request, send sender) error {
			req := &holdfastv1.WatchProductRequest{}
			if err := fromQuery(req, r); err != nil {
				return err
			}
			if err := e.allow(ctx, req); err != nil {
				return err
			}
			return s.watchProduct(ctx, req, func(p *holdfastv1.Product) error { return send("", p) })
		}))
}

func fromQuery(req proto.Message, r *http.Request) error {
	if err := runtime.PopulateQueryParameters(req, r.URL.Query(), utilities.NewDoubleArray(nil)); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return nil
}

// sender sends one event. Without a message it only tells the reader where he is.
type sender = func(id string, m proto.Message) error

func sse(
	serving context.Context, gateway *runtime.ServeMux, e *edge, method string,
	watch func(context.Context, *http.Request, sender) error,
) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, _ map[string]string) {
		ctx, err := runtime.AnnotateIncomingContext(r.Context(), gateway, r, method)
		if err == nil {
			ctx, err = e.enter(ctx)
		}
		if err != nil {
			writeError(ctx, gateway, jsonForm, w, r, err)
			return
		}
		ctx, cancel := whileValid(ctx)
		defer cancel()
		defer context.AfterFunc(serving, cancel)()
		control, begun := http.NewResponseController(w), false
		_ = control.SetReadDeadline(time.Time{}) // which is for requests, and would end the watch
		err = watch(ctx, r, func(id string, m proto.Message) error {
			if !begun {
				begun = true
				w.Header().Set("Content-Type", "text/event-stream")
				w.Header().Set("Cache-Control", "no-store")
				w.Header().Set("X-Accel-Buffering", "no")
			}
			_ = control.SetWriteDeadline(time.Now().Add(sseWrite))
			if err := writeSSE(w, id, m); err != nil {
				return err
			}
			return control.Flush()
		})
		if err != nil && !begun {
			writeError(ctx, gateway, jsonForm, w, r, err)
		}
	}
}

func writeSSE(w http.ResponseWriter, id string, m proto.Message) error {
	if id != "" {
		if _, err := fmt.Fprintf(w, "id: %s\n", id); err != nil {
			return err
		}
	}
	if m != nil {
		data, err := jsonForm.Marshal(m)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "data: %s\n", data); err != nil {
			return err
		}
	}
	_, err := fmt.Fprint(w, "\n")
	return err
}
