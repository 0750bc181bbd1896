package holdfastv1_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

// A purchase id is what a customer holds in hand: it must lead back to the row,
// and nothing else may.
func FuzzPurchaseID(f *testing.F) {
	id := uuid.Must(uuid.NewV7())
	for _, seed := range []string{
		holdfastv1.PurchaseID("eu", id), holdfastv1.PurchaseID("us-east-1", id), holdfastv1.PurchaseID("", id), "", "-", "eu-", "eu",
		id.String(), strings.ToUpper(holdfastv1.PurchaseID("eu", id)), "eu-" + id.String(), holdfastv1.PurchaseID("eu", id) + "0",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		region, id, ok := holdfastv1.ParseID(text)
		if ok && holdfastv1.PurchaseID(region, id) != text {
			t.Errorf("%q is read as %q, %s", text, region, id)
		}
		if region = strings.ToValidUTF8(text, ""); region == "" {
			region = "eu"
		}
		gotRegion, gotID, ok := holdfastv1.ParseID(holdfastv1.PurchaseID(region, id))
		if !ok || gotRegion != region || gotID != id {
			t.Errorf("%q, %s came back as %q, %s, %t", region, id, gotRegion, gotID, ok)
		}
	})
}
