package holdfastv1

import (
	"encoding/hex"
	"strings"

	"github.com/google/uuid"
)

// PurchaseID makes the id of a purchase, or of an order, that callers see. It begins with the
// region, so that reading it asks one database.
func PurchaseID(region string, id uuid.UUID) string {
	return region + "-" + hex.EncodeToString(id[:])
}

// ParseID is the inverse of PurchaseID. Names of regions may hold dashes; the part
// after the last one is the row's id.
func ParseID(purchaseID string) (region string, id uuid.UUID, ok bool) {
	dash := strings.LastIndexByte(purchaseID, '-')
	if dash <= 0 || len(purchaseID)-dash-1 != hex.EncodedLen(len(id)) {
		return "", id, false
	}
	if _, err := hex.Decode(id[:], []byte(purchaseID[dash+1:])); err != nil {
		return "", id, false
	}
	return purchaseID[:dash], id, PurchaseID(purchaseID[:dash], id) == purchaseID
}
