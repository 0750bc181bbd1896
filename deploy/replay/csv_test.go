package replay

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

const header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\r\n"

// The numbers that the documentation quotes.
func TestRealOrdersAreWhatTheyAreSaidToBe(t *testing.T) {
	orders, err := RealOrders()
	if err != nil {
		t.Fatal(err)
	}
	var units int64
	demand := orders.Demand()
	for _, amount := range demand {
		units += amount
	}
	if got := len(orders.Lines); got != 9833 {
		t.Errorf("%d purchases, want 9833", got)
	}
	if len(demand) != 1992 || units != 90387 {
		t.Errorf("%d units of %d products, want 90387 of 1992", units, len(demand))
	}
	for reason, want := range map[string]int{CreditNote: 100, StockCorrection: 30, NotAProduct: 36} {
		if got := orders.Skipped[reason]; got != want {
			t.Errorf("%s: %d lines, want %d", reason, got, want)
		}
	}
	requests := make(map[string]bool)
	for _, line := range orders.Lines {
		requests[line.RequestID] = true
	}
	if len(requests) != len(orders.Lines) {
		t.Errorf("%d request ids for %d lines", len(requests), len(orders.Lines))
	}
}

func TestReadKeepsPurchasesAndCountsTheRest(t *testing.T) {
	file := "\xef\xbb\xbf" + header +
		"536365,85123A,\"HEART, WHITE\",6,1/12/2010,2.55,17850,United Kingdom\r\n" +
		"C536379,22556,PLASTERS,-12,1/12/2010,1.65,17548,United Kingdom\r\n" +
		"536589,21777,,-10,1/12/2010,0,,United Kingdom\r\n" +
		"536370,POST,POSTAGE,3,1/12/2010,18,12583,France\r\n" +
		"536544,21773,ROSE,1,1/12/2010,2.51,,United Kingdom\r\n"
	orders, err := Read(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	want := []Line{
		{2, "536365", "85123A", 6, "17850", "United Kingdom", "536365-2"},
		{6, "536544", "21773", 1, "guest-536544", "United Kingdom", "536544-6"},
	}
	if len(orders.Lines) != len(want) {
		t.Fatalf("kept %v, want %v", orders.Lines, want)
	}
	for i := range want {
		if orders.Lines[i] != want[i] {
			t.Errorf("kept %+v, want %+v", orders.Lines[i], want[i])
		}
	}
	for _, reason := range []string{CreditNote, StockCorrection, NotAProduct} {
		if orders.Skipped[reason] != 1 {
			t.Errorf("%s: skipped %d, want 1", reason, orders.Skipped[reason])
		}
	}
}

func TestColumnsAreFoundByName(t *testing.T) {
	orders, err := Read(strings.NewReader("Country,Quantity,Colour,StockCode,CustomerID,InvoiceNo\nNorway,7,red,12345,9,1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Line{2, "1", "12345", 7, "9", "Norway", "1-2"}); len(orders.Lines) != 1 || orders.Lines[0] != want {
		t.Errorf("read %+v, want %+v", orders.Lines, want)
	}
}

// Whoever brings a file of his own is told what is wrong with it, and where.
func TestReadSaysWhatIsWrong(t *testing.T) {
	const good = "1,12345,x,1,d,1,c,Norway\r\n"
	for name, test := range map[string]struct{ file, want string }{
		"empty":          {"", errNotOrders.Error()},
		"only a mark":    {"\xef\xbb\xbf", errNotOrders.Error()},
		"binary":         {"\x7fELF\x02\x01\x01\x00\x00\"\n\"", errNotOrders.Error()},
		"no header":      {good, errNotOrders.Error()},
		"missing column": {strings.Replace(header, "Quantity", "Qty", 1) + good, errNotOrders.Error()},
		"word":           {header + good + strings.Replace(good, ",1,", ",x,", 1), `line 3: Quantity: "x" is not a whole number`},
		"fraction":       {header + strings.Replace(good, ",1,", ",1.5,", 1), `line 2: Quantity: "1.5" is not a whole number`},
		"too large":      {header + strings.Replace(good, ",1,", ",99999999999,", 1), `line 2: Quantity: "99999999999" is too large`},
		"no invoice":     {header + good[1:], "line 2: InvoiceNo: is empty"},
		"short record":   {header + good + "1,12345\r\n", "line 3: wrong number of fields"},
		"open quote":     {header + good + "1,\"12345\r\n", `line 3: extraneous or missing " in quoted-field`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(strings.NewReader(test.file))
			if err == nil || err.Error() != test.want {
				t.Errorf("got error %v\nwant      %s", err, test.want)
			}
		})
	}
}

func TestReadPassesOnFailuresOfTheFile(t *testing.T) {
	broken := errors.New("disk on fire")
	for name, before := range map[string]string{"in the header": "Invoice", "after it": header} {
		t.Run(name, func(t *testing.T) {
			file := io.MultiReader(strings.NewReader(before), iotest.ErrReader(broken))
			if _, err := Read(file); !errors.Is(err, broken) {
				t.Errorf("got %v, want %v", err, broken)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(header + "536365,85123A,HEART,6,1/12/2010,2.55,17850,United Kingdom\r\n"))
	f.Add(onlineRetail[:2000])
	f.Add([]byte("\xef\xbb\xbf" + header + "C1,POST,\"a\nb\",-1,,,,\n\n1,12345,,2,,,,\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		orders, err := Read(bytes.NewReader(file))
		if err != nil {
			return
		}
		handled := len(orders.Lines)
		for _, lines := range orders.Skipped {
			handled += lines
		}
		records, err := csv.NewReader(bytes.NewReader(file)).ReadAll()
		if err == nil && handled != len(records)-1 {
			t.Errorf("handled %d lines of %d", handled, len(records)-1)
		}
		requests := make(map[string]bool)
		for _, line := range orders.Lines {
			if line.Amount <= 0 || line.CustomerID == "" || requests[line.RequestID] {
				t.Errorf("kept %+v", line)
			}
			requests[line.RequestID] = true
		}
	})
}
