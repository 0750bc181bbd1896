package coordinator

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// The rules of the contract, as far as plain needs them. The contract has the say:
// what is not plain may be valid all the same.
const (
	maxIDBytes = 128
	maxAmount  = 1 << 53
	maxBatch   = 1000

	maxHoldSeconds = 1 << 30 // far less than a duration may have
)

// plain reports whether a request obviously keeps every rule of the contract, as nearly
// all purchases do. It takes a hundredth of the time of the validator, which decides
// about the others and says what is wrong with them.
func plain(req proto.Message) bool {
	switch req := req.(type) {
	case *holdfastv1.CreatePurchaseRequest:
		return plainPurchase(req)
	case *holdfastv1.BatchCreatePurchasesRequest:
		for _, r := range req.GetRequests() {
			if !plainPurchase(r) {
				return false
			}
		}
		return len(req.GetRequests()) >= 1 && len(req.GetRequests()) <= maxBatch
	}
	return false
}

func plainPurchase(r *holdfastv1.CreatePurchaseRequest) bool {
	return r.GetAmount() >= 1 && r.GetAmount() <= maxAmount &&
		r.GetProductId() != "" && plainText(r.GetProductId()) &&
		r.GetCustomerId() != "" && plainText(r.GetCustomerId()) &&
		plainText(r.GetRegion()) && plainText(r.GetPaymentMethod()) && plainText(r.GetRequestId()) &&
		plainHold(r.GetHold()) && r.GetUnitPrice() == nil
}

func plainHold(h *holdfastv1.Hold) bool {
	switch h.GetExpiration().(type) {
	case nil:
		return true
	case *holdfastv1.Hold_Duration:
		d := h.GetDuration()
		return d.GetSeconds() >= 1 && d.GetSeconds() < maxHoldSeconds && d.GetNanos() >= 0 && d.GetNanos() < 1e9
	}
	return false
}

// plainText reports whether a text is short and of printable ASCII, and so UTF-8.
func plainText(s string) bool {
	if len(s) > maxIDBytes {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// notUTF8 returns the path of the first field that holds a text that is not UTF-8, or
// "". The validator takes such a text for one with replacement characters.
func notUTF8(m protoreflect.Message, path string) string {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		name := path + string(field.Name())
		switch {
		case field.IsList() && field.Message() != nil:
			list := m.Get(field).List()
			for i := range list.Len() {
				if found := notUTF8(list.Get(i).Message(), fmt.Sprintf("%s[%d].", name, i)); found != "" {
					return found
				}
			}
		case field.Kind() == protoreflect.StringKind && !utf8.ValidString(m.Get(field).String()):
			return name
		}
	}
	return ""
}
