package client

import (
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// keyField is the field of a request that holds its idempotency key.
const keyField = protoreflect.Name("request_id")

// withRequestIDs gives a request, and each request in it, a key where it has none. What is
// changed is a copy: a caller may use his message again for something else.
func withRequestIDs(req proto.Message) proto.Message {
	if !fill(req.ProtoReflect(), false) {
		return req
	}
	keyed := proto.Clone(req)
	fill(keyed.ProtoReflect(), true)
	return keyed
}

// fill reports whether a key is missing, and makes those that are, if it is to.
func fill(m protoreflect.Message, really bool) (missing bool) {
	if key := keyOf(m); key != nil && m.Get(key).String() == "" {
		if missing = true; really {
			m.Set(key, protoreflect.ValueOfString(uuid.NewString()))
		}
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Message() == nil || field.IsMap():
		case field.IsList():
			for i := range value.List().Len() {
				missing = fill(value.List().Get(i).Message(), really) || missing
			}
		default:
			missing = fill(value.Message(), really) || missing
		}
		return true
	})
	return missing
}

// requestID is the key of a whole request, or "".
func requestID(req proto.Message) string {
	if key := keyOf(req.ProtoReflect()); key != nil {
		return req.ProtoReflect().Get(key).String()
	}
	return ""
}

func keyOf(m protoreflect.Message) protoreflect.FieldDescriptor {
	key := m.Descriptor().Fields().ByName(keyField)
	if key == nil || key.Kind() != protoreflect.StringKind || key.IsList() {
		return nil
	}
	return key
}
