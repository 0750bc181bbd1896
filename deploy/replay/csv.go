package replay

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Why a line of the file is not replayed: the keys of Orders.Skipped.
const (
	CreditNote      = "credit note"      // goods came back: InvoiceNo starts with C
	StockCorrection = "stock correction" // the shop adjusted its books: no units were bought
	NotAProduct     = "not a product"    // postage, bank charges, manual entries
)

// Orders are the purchases of one file, in the order of the file.
type Orders struct {
	Lines   []Line
	Skipped map[string]int // lines of the file that are no purchases, by reason
}

// A Line is one product of one cart.
type Line struct {
	Number     int // of the line in the file; the header is line 1
	Invoice    string
	ProductID  string // the StockCode as written, upper and lower case
	Amount     int64  // units, at least 1
	CustomerID string // never empty: a guest is named after his invoice
	Country    string
	RequestID  string // unique for the line, and the same on every reading
}

//go:embed data/online-retail-2010-12.csv
var onlineRetail []byte

// RealOrders are the embedded orders of a real shop; data/README.md says whose.
func RealOrders() (*Orders, error) {
	return Read(bytes.NewReader(onlineRetail))
}

// Read reads a CSV of order lines, with or without a byte order mark, with
// either line ending. The columns are found by name; others are ignored. An
// error names the line and the column it was found in.
func Read(file io.Reader) (*Orders, error) {
	records := csv.NewReader(withoutMark(file))
	columns, err := readHeader(records)
	if err != nil {
		return nil, err
	}
	orders := &Orders{Skipped: make(map[string]int)}
	for {
		record, err := records.Read()
		if errors.Is(err, io.EOF) {
			return orders, nil
		}
		if err != nil {
			return nil, brokenRecord(err)
		}
		number, _ := records.FieldPos(0)
		line, skipped, err := columns.parse(number, record)
		switch {
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", number, err)
		case skipped != "":
			orders.Skipped[skipped]++
		default:
			orders.Lines = append(orders.Lines, line)
		}
	}
}

// Demand is the units ordered of each product.
func (o *Orders) Demand() map[string]int64 {
	demand := make(map[string]int64)
	for _, line := range o.Lines {
		demand[line.ProductID] += line.Amount
	}
	return demand
}

// withPrefix is the same orders of other products: a replay of its own.
func (o *Orders) withPrefix(prefix string) *Orders {
	lines := slices.Clone(o.Lines)
	for i := range lines {
		lines[i].ProductID = prefix + lines[i].ProductID
		lines[i].RequestID = prefix + lines[i].RequestID
	}
	return &Orders{Lines: lines, Skipped: o.Skipped}
}

// columns holds where each column that is read stands in a record.
type columns struct {
	invoice, product, quantity, customer, country int

	price int // -1 when there is none; only carts need it
}

var errNotOrders = errors.New("not a list of orders: it must be a CSV whose first line" +
	" names the columns InvoiceNo, StockCode, Quantity, CustomerID and Country")

func readHeader(records *csv.Reader) (columns, error) {
	names, err := records.Read()
	var malformed *csv.ParseError
	switch {
	case errors.Is(err, io.EOF), errors.As(err, &malformed):
		return columns{}, errNotOrders
	case err != nil:
		return columns{}, fmt.Errorf("read orders: %w", err)
	}
	found := columns{
		invoice:  slices.Index(names, "InvoiceNo"),
		product:  slices.Index(names, "StockCode"),
		quantity: slices.Index(names, "Quantity"),
		customer: slices.Index(names, "CustomerID"),
		country:  slices.Index(names, "Country"),
		price:    slices.Index(names, "UnitPrice"),
	}
	if min(found.invoice, found.product, found.quantity, found.customer, found.country) < 0 {
		return columns{}, errNotOrders
	}
	return found, nil
}

// productCode is what the shop's real products are called; the data set says
// five digits, and variants of one product append letters.
var productCode = regexp.MustCompile(`^[0-9]{5}[A-Za-z]*$`)

// parse makes a purchase of a record, or says why it is none.
func (c columns) parse(number int, record []string) (line Line, skipped string, err error) {
	invoice, product := record[c.invoice], record[c.product]
	if invoice == "" {
		return Line{}, "", errors.New("InvoiceNo: is empty")
	}
	amount, err := parseQuantity(record[c.quantity])
	if err != nil {
		return Line{}, "", fmt.Errorf("Quantity: %w", err) //nolint:staticcheck // the name of a column
	}
	switch {
	case strings.HasPrefix(invoice, "C"):
		return Line{}, CreditNote, nil
	case amount <= 0:
		return Line{}, StockCorrection, nil
	case !productCode.MatchString(product):
		return Line{}, NotAProduct, nil
	}
	customer := record[c.customer]
	if customer == "" {
		customer = "guest-" + invoice
	}
	return Line{
		Number:     number,
		Invoice:    invoice,
		ProductID:  product,
		Amount:     amount,
		CustomerID: customer,
		Country:    record[c.country],
		RequestID:  fmt.Sprintf("%s-%d", invoice, number),
	}, "", nil
}

// parseQuantity takes 32 bits, so that the demand for a product, a sum of
// lines, cannot overflow 64.
func parseQuantity(text string) (int64, error) {
	amount, err := strconv.ParseInt(text, 10, 32)
	if errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("%q is too large", text)
	}
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", text)
	}
	return amount, nil
}

// brokenRecord says where the CSV itself is broken, in the words of the other
// errors of Read.
func brokenRecord(err error) error {
	var malformed *csv.ParseError
	if !errors.As(err, &malformed) {
		return fmt.Errorf("read orders: %w", err)
	}
	return fmt.Errorf("line %d: %w", malformed.Line, malformed.Err)
}

// withoutMark drops the byte order mark that spreadsheets put before UTF-8.
func withoutMark(file io.Reader) io.Reader {
	const mark = "\xef\xbb\xbf"
	buffered := bufio.NewReader(file)
	if head, _ := buffered.Peek(len(mark)); string(head) == mark {
		_, _ = buffered.Discard(len(mark)) // what was peeked at is there
	}
	return buffered
}
