package replay

import (
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// history is one run of three buyers over the two units of one product: a and b
// got one each, c was refused. Each test bends it.
type history struct {
	report *Report
	stock  map[string]int64
	rows   []Row
}

func goodHistory() *history {
	line := func(number int, request string) Line {
		return Line{Number: number, ProductID: "p", Amount: 1, RequestID: request}
	}
	return &history{
		report: &Report{
			Stock: map[string]int64{"p": 2},
			Outcomes: []Outcome{
				{Line: line(2, "a"), Answer: Admitted, PurchaseID: "eu-1"},
				{Line: line(3, "b"), Answer: Admitted, PurchaseID: "us-1"},
				{Line: line(4, "c"), Answer: Refused},
			},
			Skipped: 7,
			Elapsed: 4 * time.Second,
		},
		stock: map[string]int64{"p": 2},
		rows:  []Row{{"eu-1", "p", "a", 1}, {"us-1", "p", "b", 1}},
	}
}

func (h *history) judge() (Verdict, error) {
	return Judge(h.report, h.stock, withoutError(h.rows))
}

func withoutError(rows []Row) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for _, row := range rows {
			if !yield(row, nil) {
				return
			}
		}
	}
}

// A judge that acquits everybody is worth nothing: each bad history must be
// found guilty of what is wrong with it, and of nothing else.
func TestJudgeConvictsBadHistories(t *testing.T) {
	for name, test := range map[string]struct {
		bend func(*history)
		want func(*Verdict)
	}{
		"nothing wrong": {
			func(*history) {},
			func(*Verdict) {}},
		"oversold by one sale too many": {
			func(h *history) { h.rows = append(h.rows, Row{"eu-2", "p", "x", 3}) },
			func(v *Verdict) { v.Oversold, v.Unacknowledged = 3, 1 }},
		"oversold against the real stock, not the planned one": {
			func(h *history) { h.stock["p"] = 1 },
			func(v *Verdict) { v.Oversold = 1 }},
		"oversold is not made up for by another product": {
			func(h *history) { h.stock["p"], h.stock["q"] = 1, 9 },
			func(v *Verdict) { v.Oversold = 1 }},
		"lost, and the units with it": {
			func(h *history) { h.rows = h.rows[:1]; h.stock["p"] = 1 },
			func(v *Verdict) { v.Lost = 1 }},
		"lost: the row is of another amount": {
			func(h *history) { h.rows[0].Amount = 2; h.stock["p"] = 3 },
			func(v *Verdict) { v.Lost, v.Unacknowledged = 1, 1 }},
		"lost: two buyers were told the same purchase": {
			func(h *history) { h.report.Outcomes[1].PurchaseID = "eu-1" },
			func(v *Verdict) { v.Lost, v.Unacknowledged = 1, 1 }},
		"doubled on the other shard": {
			func(h *history) { h.rows = append(h.rows, Row{"us-2", "p", "a", 1}); h.stock["p"] = 3 },
			func(v *Verdict) { v.Doubled, v.Unacknowledged = 1, 1 }},
		"doubled under one purchase id": {
			func(h *history) { h.rows = append(h.rows, h.rows[0]); h.stock["p"] = 3 },
			func(v *Verdict) { v.Doubled = 1 }},
		"refused although a unit is left": {
			func(h *history) { h.stock["p"] = 3 },
			func(v *Verdict) { v.FalseRefusals = 1 }},
		"refused although it is his": {
			func(h *history) { h.rows[1].RequestID = "c"; h.report.Outcomes[1].Answer = Unasked },
			func(v *Verdict) { v.FalseRefusals, v.Unacknowledged, v.Offered, v.Admitted = 1, 1, 2, 1 }},
		"told no outcome": {
			func(h *history) { h.report.Outcomes[2].Answer = Failed },
			func(v *Verdict) { v.Failed, v.Refused = 1, 0 }},
		"told no outcome, but sold: allowed, and counted": {
			func(h *history) { h.report.Outcomes[1].Answer = Unasked },
			func(v *Verdict) { v.Unacknowledged, v.Offered, v.Admitted = 1, 2, 1 }},
		"another replay's rows are not judged": {
			func(h *history) { h.rows = append(h.rows, Row{"eu-9", "other", "a", 100}) },
			func(*Verdict) {}},
	} {
		t.Run(name, func(t *testing.T) {
			h := goodHistory()
			want := Verdict{Offered: 3, Admitted: 2, Refused: 1, Skipped: 7}
			test.bend(h)
			test.want(&want)
			want.PurchasesPerSecond = float64(want.Admitted) / 4
			got, err := h.judge()
			if err != nil {
				t.Fatal(err)
			}
			guilty := want.Oversold > 0 || want.Lost+want.Doubled+want.FalseRefusals+want.Failed > 0
			if guilty != (got.Err() != nil) || guilty != (len(got.Evidence) > 0) {
				t.Errorf("guilty is %v: error %v, evidence %q", guilty, got.Err(), got.Evidence)
			}
			if got.Evidence = nil; !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestJudgeDoesNotGuess(t *testing.T) {
	h := goodHistory()
	unreadable := errors.New("shard us is gone")
	_, err := Judge(h.report, h.stock, func(yield func(Row, error) bool) { yield(Row{}, unreadable) })
	if !errors.Is(err, unreadable) {
		t.Errorf("unreadable rows: got %v", err)
	}
	if _, err := Judge(h.report, map[string]int64{"q": 1}, withoutError(h.rows)); err == nil {
		t.Error("judged a product without knowing its stock")
	}
}

func TestEvidenceIsShort(t *testing.T) {
	h := goodHistory()
	h.rows = slices.Repeat(h.rows, 1000)
	verdict, err := h.judge()
	if err != nil {
		t.Fatal(err)
	}
	if got := len(verdict.Evidence); got > 10 {
		t.Errorf("%d pieces of evidence", got)
	}
	if err := verdict.Err(); !strings.Contains(err.Error(), "1998 purchases doubled") {
		t.Errorf("got %v", err)
	}
}

func TestLongestGap(t *testing.T) {
	kill := time.Now()
	call := func(product string, start, end time.Duration) Outcome {
		return Outcome{Line: Line{ProductID: product}, Start: kill.Add(start), End: kill.Add(end)}
	}
	report := &Report{Outcomes: []Outcome{
		call("p", -9*time.Second, -time.Second),       // before the kill
		call("p", -time.Second, time.Second),          // across it
		call("p", time.Second, 2500*time.Millisecond), // after it
		call("q", time.Second, 8*time.Second),         // of another product
		{Line: Line{ProductID: "p"}},                  // never asked
	}}
	if got := LongestGap(report, map[string]bool{"p": true}, kill); got != 2*time.Second {
		t.Errorf("got %v, want 2s", got)
	}
	if got := LongestGap(report, map[string]bool{"z": true}, kill); got != 0 {
		t.Errorf("nobody bought: got %v", got)
	}
}

// honestHistory is a shop that sells one line after the other, forgets to
// answer some of its buyers, and refuses what does not fit.
func honestHistory(t *rapid.T) *history {
	products := rapid.IntRange(1, 4).Draw(t, "products")
	h := &history{report: &Report{Elapsed: time.Second}, stock: make(map[string]int64)}
	left := make(map[string]int64)
	for i := range products {
		product := fmt.Sprint("p", i)
		h.stock[product] = rapid.Int64Range(1, 20).Draw(t, "stock")
		left[product] = h.stock[product]
	}
	h.report.Stock = h.stock
	for i := range rapid.IntRange(0, 40).Draw(t, "lines") {
		line := Line{
			Number:    i + 2,
			ProductID: fmt.Sprint("p", rapid.IntRange(0, products-1).Draw(t, "product")),
			Amount:    rapid.Int64Range(1, 6).Draw(t, "amount"),
			RequestID: fmt.Sprint("r", i),
		}
		outcome := Outcome{Line: line, Answer: Refused}
		if line.Amount <= left[line.ProductID] {
			left[line.ProductID] -= line.Amount
			row := Row{fmt.Sprint("eu-", i), line.ProductID, line.RequestID, line.Amount}
			h.rows = append(h.rows, row)
			outcome.Answer, outcome.PurchaseID = Admitted, row.PurchaseID
			if rapid.IntRange(0, 9).Draw(t, "forgotten") == 0 {
				outcome.Answer, outcome.PurchaseID = Unasked, ""
			}
		}
		h.report.Outcomes = append(h.report.Outcomes, outcome)
	}
	h.rows = rapid.Permutation(h.rows).Draw(t, "order of rows")
	return h
}

func TestHonestHistoriesAreAcquittedAndEveryLieIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := honestHistory(t)
		verdict, err := h.judge()
		if err != nil || verdict.Err() != nil {
			t.Fatalf("an honest history: %v, %v: %v", err, verdict.Err(), verdict.Evidence)
		}
		if len(h.rows) != verdict.Admitted+verdict.Unacknowledged {
			t.Fatalf("%d rows, %+v", len(h.rows), verdict)
		}
		if len(h.rows) == 0 {
			return
		}
		victim := rapid.IntRange(0, len(h.rows)-1).Draw(t, "victim")
		row := h.rows[victim]
		told := slices.ContainsFunc(h.report.Outcomes, func(o Outcome) bool { return o.PurchaseID == row.PurchaseID })

		lost := *h
		lost.rows = slices.Delete(slices.Clone(h.rows), victim, victim+1)
		if verdict, _ := lost.judge(); told != (verdict.Lost == 1) {
			t.Fatalf("a row is gone, told %v: %+v", told, verdict)
		}
		doubled := *h
		doubled.rows = append(slices.Clone(h.rows), Row{"us-0", row.ProductID, row.RequestID, row.Amount})
		if verdict, _ := doubled.judge(); verdict.Doubled != 1 {
			t.Fatalf("a row is doubled: %+v", verdict)
		}
		oversold := *h
		oversold.rows = append(slices.Clone(h.rows), Row{"us-0", row.ProductID, "new", h.stock[row.ProductID]})
		if verdict, _ := oversold.judge(); verdict.Oversold != row.Amount+soldBeside(h, row) {
			t.Fatalf("the stock is sold twice: %+v", verdict)
		}
	})
}

// soldBeside is the units of the row's product that other rows took.
func soldBeside(h *history, row Row) int64 {
	var units int64
	for _, other := range h.rows {
		if other.ProductID == row.ProductID && other != row {
			units += other.Amount
		}
	}
	return units
}
