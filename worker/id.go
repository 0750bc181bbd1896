package worker

import (
	"encoding/hex"
	"strings"

	"github.com/google/uuid"
)

// PurchaseID makes the purchase id that callers see. It begins with the shard, so
// that reading a purchase asks one database.
func PurchaseID(shard string, id uuid.UUID) string {
	return shard + "-" + hex.EncodeToString(id[:])
}

// parseID is the inverse of PurchaseID. Names of shards may hold dashes; the part
// after the last one is the row's id.
func parseID(purchaseID string) (shard string, id uuid.UUID, ok bool) {
	dash := strings.LastIndexByte(purchaseID, '-')
	if dash < 0 || len(purchaseID)-dash-1 != hex.EncodedLen(len(id)) {
		return "", id, false
	}
	if _, err := hex.Decode(id[:], []byte(purchaseID[dash+1:])); err != nil {
		return "", id, false
	}
	return purchaseID[:dash], id, PurchaseID(purchaseID[:dash], id) == purchaseID
}
