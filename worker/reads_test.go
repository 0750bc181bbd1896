package worker

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	holdfastv1 "github.com/holdfast-io/holdfast/api/holdfast/v1"
)

func TestPurchaseIDsThatAreNone(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a")
	p := a.create(t, 5)
	bought := a.mustBuy(t, p, "eu", "r1", 2)
	got, err := a.GetPurchase(t.Context(), &holdfastv1.GetPurchaseRequest{PurchaseId: bought.GetPurchaseId()})
	if err != nil || got.String() != bought.String() {
		t.Errorf("got %v, %v; want %v", got, err, bought)
	}
	id := strings.TrimPrefix(bought.GetPurchaseId(), "eu")
	for name, id := range map[string]string{
		"unknown": holdfastv1.PurchaseID("eu", uuid.New()), "of another shard": "us" + id,
		"of no shard": id, "upper case": strings.ToUpper(bought.GetPurchaseId()), "empty": "", "text": "hello",
	} {
		_, err := a.GetPurchase(t.Context(), &holdfastv1.GetPurchaseRequest{PurchaseId: id})
		if got := holdfastv1.Reason(err); got != holdfastv1.ReasonPurchaseNotFound {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// This worker may only not have heard of it: the coordinator asks another one.
	_, err = a.GetPurchase(t.Context(), &holdfastv1.GetPurchaseRequest{PurchaseId: "mars" + id})
	if got := holdfastv1.Reason(err); got != holdfastv1.ReasonUnknownRegion {
		t.Errorf("of an unknown shard: got %v", err)
	}
}

// Reads that skip or repeat a row at the border of a page, or of a shard, make
// every report wrong.
func TestPurchasesArePagedAcrossShards(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a")
	p := a.create(t, 100)
	want := map[string][]string{}
	for n := range 14 {
		region := regions[n%2]
		id := a.mustBuy(t, p, region, string(rune('a'+n)), 1).GetPurchaseId()
		want[region] = append(want[region], id)
		want[""] = slices.Concat(want["eu"], want["us"])
	}
	for _, size := range []int32{1, 3, 7, 14, 100} {
		for region, ids := range want {
			var got []string
			req := &holdfastv1.ListPurchasesRequest{ProductId: p, Region: region, PageSize: size}
			for pages := 0; pages < 20; pages++ {
				resp, err := a.ListPurchases(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				for _, bought := range resp.GetPurchases() {
					got = append(got, bought.GetPurchaseId())
				}
				req.PageToken = resp.GetNextPageToken()
				if req.GetPageToken() == "" {
					break
				}
			}
			if !slices.Equal(got, ids) {
				t.Errorf("region %q in pages of %d: %v, want %v", region, size, got, ids)
			}
		}
	}
}

func TestProductsArePaged(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a")
	want := map[string]int64{a.create(t, 5): 3, a.create(t, 6): 6}
	for p, left := range want {
		if left == 3 {
			a.mustBuy(t, p, "us", "r", 2)
		}
	}
	last := ""
	for req := (&holdfastv1.ListProductsRequest{PageSize: 1}); ; {
		resp, err := a.ListProducts(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range resp.GetProducts() {
			if p.GetProductId() <= last {
				t.Fatalf("%s after %s", p.GetProductId(), last)
			}
			last = p.GetProductId()
			if left, mine := want[last]; mine && p.GetAmountAvailableForPurchase() != left {
				t.Errorf("%v, want %d available", p, left)
			}
			delete(want, last)
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v", want)
	}
}

// A token that was made up, or is another listing's, is the caller's mistake. It
// must neither look like an outage nor leave out what was asked for.
func TestBadPageTokens(t *testing.T) {
	c := newCluster(t)
	a := c.start(t, "a")
	a.create(t, 5)
	encode := base64.RawURLEncoding.EncodeToString
	inEU := encodeToken(holdfastv1.PurchaseID("eu", uuid.New()))
	for name, req := range map[string]*holdfastv1.ListPurchasesRequest{
		"no base64":           {PageToken: "*"},
		"no id":               {PageToken: encode([]byte("hello"))},
		"of an unknown shard": {PageToken: encodeToken(holdfastv1.PurchaseID("mars", uuid.New()))},
		"of another region":   {PageToken: inEU, Region: "us"},
		"zero":                {PageToken: encode([]byte{0})},
		"of a later region":   {PageToken: encodeToken(holdfastv1.PurchaseID("us", uuid.New())), Region: "eu"},
		"of no shard":         {PageToken: encodeToken(holdfastv1.PurchaseID("", uuid.New()))},
	} {
		_, err := a.ListPurchases(t.Context(), req)
		if got := holdfastv1.Reason(err); got != holdfastv1.ReasonInvalidField {
			t.Errorf("purchases, %s: got %v", name, err)
		}
	}
	for name, token := range map[string]string{"no base64": "*", "zero": encode([]byte("a\x00")), "no UTF-8": encode([]byte{0xff})} {
		_, err := a.ListProducts(t.Context(), &holdfastv1.ListProductsRequest{PageToken: token})
		if got := holdfastv1.Reason(err); got != holdfastv1.ReasonInvalidField {
			t.Errorf("products, %s: got %v", name, err)
		}
	}
	_, err := a.ListPurchases(t.Context(), &holdfastv1.ListPurchasesRequest{Region: "mars"})
	wantReason(t, err, holdfastv1.ReasonUnknownRegion)
	_, err = a.buy(t.Context(), "p", "mars", "r", 1)
	wantReason(t, err, holdfastv1.ReasonUnknownRegion)
	_, err = a.buy(t.Context(), "no-such-product", "eu", "r", 1)
	wantReason(t, err, holdfastv1.ReasonProductNotFound)
}
