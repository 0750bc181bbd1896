package coordinator

import (
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// Parts of a request that are empty take two bytes each, and a thousand times as much memory until
// the request was decoded and found to have too many. So both ways in count them before.

// maxParts bounds the parts of a request's body. It is far above what requests may have, so that
// who has only miscounted is told which field is too long.
const maxParts = 10 * maxBatch

// frugal is gRPC's codec, which decodes no more parts of a request than tell that they are too many.
type frugal struct{ encoding.CodecV2 }

func newFrugal() frugal { return frugal{encoding.GetCodecV2(encodingproto.Name)} }

// Unmarshal is part of encoding.CodecV2.
func (c frugal) Unmarshal(data mem.BufferSlice, v any) error {
	switch v.(type) {
	case *holdfastv1.BatchCreatePurchasesRequest, *holdfastv1.CreateOrderRequest:
		data = mem.BufferSlice{mem.SliceBuffer(enough(data.Materialize()))}
	}
	return c.CodecV2.Unmarshal(data, v)
}

// partsField has the parts of the requests that have any.
const partsField = 1

// enough is a message up to the part that is one too many.
func enough(message []byte) []byte {
	parts := 0
	for at := 0; at < len(message); {
		number, kind, length := protowire.ConsumeField(message[at:])
		if length < 0 {
			return message // the codec says what is wrong
		}
		at += length
		if number == partsField && kind == protowire.BytesType {
			parts++
		}
		if parts > maxBatch {
			return message[:at]
		}
	}
	return message
}

// partsOf counts the values in the lists and objects of a JSON object, and not what is in these.
func partsOf(body []byte) (parts int) {
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{', c == '[':
			depth++
		case c == '}', c == ']':
			depth--
		case c == ',' && depth == 2:
			parts++
		}
	}
	return parts
}
