package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc"
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
func watchPaths(serving context.Context, gateway *runtime.ServeMux, local *inProcess) error {
	return errors.Join(
		gateway.HandlePath(http.MethodGet, "/v1/events:watch",
			sse(serving, gateway, local, holdfastv1.EventService_WatchEvents_FullMethodName)),
		gateway.HandlePath(http.MethodGet, "/v1/products:watch",
			sse(serving, gateway, local, holdfastv1.ProductService_WatchProduct_FullMethodName)))
}

func sse(serving context.Context, gateway *runtime.ServeMux, local *inProcess, method string) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, _ map[string]string) {
		ctx, err := runtime.AnnotateIncomingContext(r.Context(), gateway, r, method)
		if err != nil {
			writeError(r.Context(), gateway, jsonForm, w, r, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(serving, cancel)()
		stream := &sseStream{ctx: ctx, r: r, w: w, control: http.NewResponseController(w)}
		_ = stream.control.SetReadDeadline(time.Time{}) // which is for requests, and would end the watch
		if err := local.serve(method, stream); err != nil && !stream.begun {
			writeError(ctx, gateway, jsonForm, w, r, err)
		}
	}
}

// sseStream is a watch's stream, told as events: a request and its answers, and none of gRPC's
// headers.
type sseStream struct {
	grpc.ServerStream // nil
	ctx               context.Context
	r                 *http.Request
	w                 http.ResponseWriter
	control           *http.ResponseController
	begun             bool // something was told, so that an error cannot be any more
}

func (s *sseStream) Context() context.Context { return s.ctx }

// RecvMsg reads the request.
func (s *sseStream) RecvMsg(m any) error {
	if err := fromQuery(m.(proto.Message), s.r); err != nil {
		return err
	}
	last := s.r.Header.Get("Last-Event-ID")
	if req, events := m.(*holdfastv1.WatchEventsRequest); events && last != "" {
		req.Cursor, req.FromNow = last, false
	}
	return nil
}

// SendMsg tells one event. Without a message it only tells the reader where he is.
func (s *sseStream) SendMsg(m any) error {
	id, told := "", m.(proto.Message)
	if of, events := m.(*holdfastv1.WatchEventsResponse); events {
		id, told = of.GetCursor(), nil
		if of.GetEvent() != nil {
			told = of.GetEvent()
		}
	}
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", "text/event-stream")
		s.w.Header().Set("Cache-Control", "no-store")
		s.w.Header().Set("X-Accel-Buffering", "no")
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(sseWrite))
	if errors.Join(writeSSE(s.w, id, told), s.control.Flush()) != nil {
		return errWatchStopped // the reader has gone
	}
	return nil
}

func fromQuery(req proto.Message, r *http.Request) error {
	if err := runtime.PopulateQueryParameters(req, r.URL.Query(), utilities.NewDoubleArray(nil)); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return nil
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
