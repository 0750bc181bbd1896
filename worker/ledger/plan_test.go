package ledger

import (
	"context"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-io/holdfast/deploy/local/localtest"
)

// wholeIndex finds a scan of an index without a condition on it.
var wholeIndex = regexp.MustCompile(`Index (Only )?Scan using .*\n +[^ I]`)

// explained is a shard, and a connection like those that it uses, which tells the plan of
// each statement, also of those in triggers.
func explained(t *testing.T) (s *Shard, conn *pgx.Conn, plans *[]string) {
	t.Helper()
	s, err := Open(Config{Name: "eu", DSN: localtest.Databases(t, "eu")["eu"]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if _, err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	config := s.pool.Config().ConnConfig
	plans = new([]string)
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { *plans = append(*plans, n.Message) }
	if conn, err = pgx.ConnectConfig(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	for _, setting := range []string{
		"LOAD 'auto_explain'", "SET auto_explain.log_min_duration = 0",
		"SET auto_explain.log_nested_statements = on", "SET auto_explain.log_level = notice",
		"SET auto_explain.log_analyze = on", "SET auto_explain.log_timing = off",
	} {
		if _, err := conn.Exec(t.Context(), setting); err != nil {
			t.Fatal(err)
		}
	}
	return s, conn, plans
}

// removedByJoin finds how many pairs of rows a join has looked at for nothing.
var removedByJoin = regexp.MustCompile(`Rows Removed by Join Filter: (\d+)`)

// A trigger's plans are made for the first batch of a connection. When that is of one row,
// they must still do for a batch of hundreds.
func TestTriggersPlanForMoreThanTheFirstBatch(t *testing.T) {
	s, conn, plans := explained(t)
	f := Fence{ProductID: "p", Topology: 1, Token: 1, TenureID: uuid.New()}
	if _, err := s.Raise(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	const most = 200
	var purchases []*Purchase
	expires, price := time.Now().Add(time.Hour), int64(5)
	for i := range most {
		order := uuid.New()
		purchases = append(purchases, &Purchase{
			PurchaseID: uuid.New(), ProductID: "p", RequestID: strconv.Itoa(i), Amount: 2, Fence: &f,
			ExpireTime: &expires, OrderID: &order, UnitPrice: &price,
		})
	}
	if _, err := s.Commit(t.Context(), purchases); err != nil {
		t.Fatal(err)
	}
	for _, p := range purchases {
		if _, err := s.OpenOrder(t.Context(), Order{OrderID: *p.OrderID, PaymentMethod: "m", Currency: "EUR", Content: []byte{}}); err != nil {
			t.Fatal(err)
		}
		if o, err := s.CloseOrder(t.Context(), *p.OrderID, OrderPlaced, nil, true); err != nil || o.Payment == nil {
			t.Fatal(o, err)
		}
	}
	if _, err := conn.Exec(t.Context(), "UPDATE payments SET state = 'authorized'"); err != nil {
		t.Fatal(err)
	}
	changes := &changing{}
	for _, p := range purchases {
		after := *p
		after.State = Confirmed
		changes.made = append(changes.made, made{Change: Change{PurchaseID: p.PurchaseID, Action: Confirm}, after: after})
	}
	for _, batch := range [][]made{changes.made[:1], changes.made[1:2], changes.made[2:]} {
		*plans = nil
		if _, err := conn.Exec(t.Context(), storeChanges, (&changing{made: batch}).columns()); err != nil {
			t.Fatal(err)
		}
	}
	whole := strings.Join(*plans, "\n")
	if !strings.Contains(whole, "'capture'") {
		t.Fatalf("no payment was captured:\n%s", whole)
	}
	for _, removed := range removedByJoin.FindAllStringSubmatch(whole, -1) {
		if n, err := strconv.Atoi(removed[1]); err != nil || n > most {
			t.Errorf("%s pairs of rows were compared for nothing:\n%s", removed[1], whole)
		}
	}
	if strings.Contains(whole, "JIT:") || strings.Contains(whole, "Seq Scan on") {
		t.Errorf("a plan is compiled, or reads a table whole:\n%s", whole)
	}
}

// A plan that reads a table whole gets slower with each purchase, and nobody
// notices before the sale. The trigger's plans are told by auto_explain.
func TestStatementsOfASaleUseIndexes(t *testing.T) {
	s, conn, plans := explained(t)
	f := Fence{ProductID: "p", Topology: 1, Token: 1, TenureID: uuid.New()}
	if _, err := s.Raise(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if err := s.PutProduct(t.Context(), f, Product{ProductID: "p", AmountInStorage: 100, CreateTime: time.Now()}); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Minute)
	confirmed, expired := uuid.New(), uuid.New()
	if _, err := s.Commit(t.Context(), []*Purchase{
		{PurchaseID: confirmed, ProductID: "p", RequestID: "confirmed", Amount: 2, Fence: &f},
		{PurchaseID: expired, ProductID: "p", RequestID: "expired", Amount: 2, Fence: &f, ExpireTime: &past},
	}); err != nil {
		t.Fatal(err)
	}
	if n, err := s.ExpireDue(t.Context()); err != nil || n != 1 {
		t.Fatalf("%d expired: %v", n, err)
	}
	// Of tables of which Postgres knows that they have one row it would rather read all.
	if _, err := conn.Exec(t.Context(), "ANALYZE"); err != nil {
		t.Fatal(err)
	}
	purchase := func(request string) *batch {
		return newBatch([]*Purchase{{PurchaseID: uuid.New(), ProductID: "p", RequestID: request, Amount: 1, Fence: &f}})
	}
	args := pgx.NamedArgs{
		"product_id": "p", "product_ids": []string{"p"}, "distinct_ids": []string{"p"},
		"tenure_id": f.TenureID, "tenure_ids": uuids{f.TenureID}, "request_id": "r1", "request_ids": []string{"r1"},
		"purchase_id": uuid.New(), "purchase_ids": uuids{uuid.New()}, "limit": maxExpired,
		"states": []string{"confirmed"}, "released": []int64{0}, "expire_times": []*time.Time{nil},
		"change_id": uuid.New(), "change_ids": uuids{uuid.New()}, "changed_ids": uuids{uuid.New()},
		"actions": []string{"confirm"}, "amounts": []int64{0}, "new_states": []string{"confirmed"},
		"units": []int64{0}, "new_expire_times": []*time.Time{nil},
		"customer_id": "ann", "payment_method": "m", "currency": "EUR", "content": []byte{}, "to_be_paid": true,
		"amount": 1, "asked": 1, "delivery_id": uuid.New(), "create_time": time.Now(),
	}
	ask := func(sql string, changed ...any) func() error {
		mine := maps.Clone(args)
		for i := 0; i < len(changed); i += 2 {
			mine[changed[i].(string)] = changed[i+1]
		}
		return func() error { _, err := conn.Exec(t.Context(), sql, mine); return err }
	}
	for name, statement := range map[string]struct {
		run     func() error
		touches string
	}{
		"copy":            {func() error { return purchase("r1").copy(t.Context(), conn) }, "UPDATE fences"},
		"insert unstored": {func() error { return purchase("r2").insertUnstored(t.Context(), conn) }, "UPDATE fences"},
		"verify fences":   {ask(verifyFences), "fences"},
		"first outcomes":  {ask(firstOutcomes), "purchases"},
		"totals":          {ask(selectTotals), "fences"},
		"released":        {ask(selectReleased), "releases"},
		"lock purchases":  {ask(lockPurchases), "LockRows"},
		"earlier changes": {ask(earlierChanges), "changes"},
		"give back":       {ask(storeChanges, "purchase_ids", uuids{confirmed}, "released", []int64{1}), "INSERT INTO releases"},
		"place order":     {ask(placeNewOrder, "order_id", uuid.New()), "purchases_by_order"},
		"expire these":    {ask(expireDueOfProducts), "Index Scan using purchases_held"},
		"expire all":      {ask(expireDueOfAll), "Index Scan using purchases_due"},
		"readmit":         {ask(readmitPurchase, "purchase_id", expired), "UPDATE fences"},
		"take away":       {ask(insertMissing, "amount", -1, "delivery_id", uuid.New()), "UPDATE fences"},
		"deliver":         {ask(insertDelivery, "request_id", "r2"), "INSERT INTO releases"},
		"delivery":        {ask(selectDelivery), "deliveries"},
		"delivered":       {ask(selectDelivered), "deliveries"},
		"purchase":        {ask(selectPurchase), "purchases"},
		"overtaken": {func() error {
			_, err := conn.Exec(t.Context(), nowAndOvertaken, pgx.NamedArgs{"purchase_ids": uuids{uuid.New()}})
			return err
		}, "changes"},
		"events": {func() error {
			_, err := conn.Exec(t.Context(), selectEvents, pgx.NamedArgs{"xid": 1, "id": uuid.New(), "product_id": "p", "limit": 100})
			return err
		}, "deliveries_in_order"},
	} {
		*plans = nil
		if err := statement.run(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		whole := strings.Join(*plans, "\n")
		if !strings.Contains(whole, statement.touches) || !strings.Contains(whole, "Index") {
			t.Errorf("%s: no plan that uses an index:\n%s", name, whole)
		}
		if strings.Contains(whole, "Seq Scan on") || wholeIndex.MatchString(whole) {
			t.Errorf("%s reads a table whole:\n%s", name, whole)
		}
	}
}
