package coordinator

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

func malformed(message string) error {
	message = strings.ToValidUTF8(message, "\ufffd") // it may quote the request
	return holdfastv1.Error(codes.InvalidArgument, holdfastv1.ReasonMalformedRequest, message, nil)
}

// wellFormed refuses what cannot be a request of the contract, and reads bodies
// ahead: what is wrong with one is not to be told from grpc-gateway's errors.
func wellFormed(gateway *runtime.ServeMux, e *edge) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := e.identify(r.Context(), r.Header.Get("Authorization")); err != nil {
			writeError(r.Context(), gateway, jsonForm, w, r, err)
			return
		}
		httpStatus, message := readBody(w, r)
		if query, err := url.QueryUnescape(r.URL.RawQuery); err != nil || !utf8.ValidString(r.URL.Path) || !utf8.ValidString(query) {
			httpStatus, message = http.StatusBadRequest, "the URL is not UTF-8, or not escaped as a URL must be"
		}
		if message == "" {
			gateway.ServeHTTP(w, r)
			return
		}
		err := &runtime.HTTPStatusError{HTTPStatus: httpStatus, Err: malformed(message)}
		writeError(r.Context(), gateway, jsonForm, w, r, err)
	})
}

// readBody makes the body readable without errors, or says what is wrong. A body
// counts as JSON whatever its type, as curl's does, unless a page in a browser
// sent it: pages may send other types to any address without asking it first.
func readBody(w http.ResponseWriter, r *http.Request) (httpStatus int, wrong string) {
	if r.Method != http.MethodPost {
		r.Body = http.NoBody
		return 0, ""
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind != mimeJSON && r.Header.Get("Origin") != "" {
		return http.StatusUnsupportedMediaType, "a page must send the body with Content-Type: " + mimeJSON
	}
	r.Header.Set("Content-Type", mimeJSON)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)
	case err != nil:
		return http.StatusBadRequest, "the body did not arrive whole"
	case len(bytes.TrimSpace(body)) == 0:
		return http.StatusBadRequest, "the body is empty; a JSON object is needed"
	case partsOf(body) > maxParts:
		return http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has a list of more than %d", maxParts)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return 0, ""
}

const mimeJSON = "application/json"

// jsonForm is how requests are read and answers written.
var jsonForm = &strictJSON{runtime.JSONPb{
	MarshalOptions: protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true},
	// A misspelt field is an error, not a purchase without it.
	UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
}}

// strictJSON reads bodies whole: what follows the first value is an error too.
type strictJSON struct{ runtime.JSONPb }

func (s *strictJSON) NewDecoder(r io.Reader) runtime.Decoder {
	return runtime.DecoderFunc(func(v any) error {
		req, ok := v.(proto.Message)
		if !ok {
			return fmt.Errorf("%T is not a message", v)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if err := s.UnmarshalOptions.Unmarshal(body, req); err != nil {
			// The package writes its name with one space or another, at random.
			why := strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\u00a0", " "), "proto: ")
			return fmt.Errorf("the body is not the JSON of a %s: %s", req.ProtoReflect().Descriptor().Name(), why)
		}
		return nil
	})
}
