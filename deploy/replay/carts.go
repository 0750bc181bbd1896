package replay

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Carts are the invoices and credit notes of one file, in the order of the file.
type Carts struct {
	Carts   []Cart
	Skipped map[string]int // lines of the file that are no products of a cart, by reason
}

// A Cart is what one customer bought in one go, or gave back.
type Cart struct {
	Invoice    string
	CustomerID string // never empty: a guest is named after his invoice
	Country    string
	Return     bool // it is a credit note
	Lines      []CartLine
}

// A CartLine is one line of a cart.
type CartLine struct {
	Number    int // of the line in the file; the header is line 1
	ProductID string
	Amount    int64 // units, at least 1
	UnitPrice int64 // pence; 0 is a gift
}

// RealCarts are the embedded carts of a real shop; data/README.md says whose.
func RealCarts() (*Carts, error) { return ReadCarts(bytes.NewReader(onlineRetail)) }

// ReadCarts reads the same files as Read, which must have the column UnitPrice too.
func ReadCarts(file io.Reader) (*Carts, error) {
	records := csv.NewReader(withoutMark(file))
	columns, err := readHeader(records)
	if err != nil {
		return nil, err
	}
	if columns.price < 0 {
		return nil, errors.New("carts have prices: the column UnitPrice is missing")
	}
	carts, byInvoice := &Carts{Skipped: map[string]int{}}, map[string]int{}
	for {
		record, err := records.Read()
		if errors.Is(err, io.EOF) {
			return carts, nil
		}
		if err != nil {
			return nil, brokenRecord(err)
		}
		number, _ := records.FieldPos(0)
		if err := carts.add(byInvoice, columns, number, record); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
}

func (c *Carts) add(byInvoice map[string]int, columns columns, number int, record []string) error {
	invoice := record[columns.invoice]
	isReturn := strings.HasPrefix(invoice, "C")
	amount, err := parseQuantity(record[columns.quantity])
	if err != nil {
		return fmt.Errorf("Quantity: %w", err) //nolint:staticcheck // the name of a column
	}
	price, err := parsePrice(record[columns.price])
	if err != nil {
		return fmt.Errorf("column UnitPrice: %w", err)
	}
	if isReturn {
		amount = -amount
	}
	switch {
	case !productCode.MatchString(record[columns.product]):
		c.Skipped[NotAProduct]++
		return nil
	case amount <= 0:
		c.Skipped[StockCorrection]++
		return nil
	}
	at, known := byInvoice[invoice]
	if !known {
		at = len(c.Carts)
		byInvoice[invoice] = at
		customer := record[columns.customer]
		if customer == "" {
			customer = "guest-" + invoice
		}
		c.Carts = append(c.Carts, Cart{Invoice: invoice, CustomerID: customer, Country: record[columns.country], Return: isReturn})
	}
	c.Carts[at].Lines = append(c.Carts[at].Lines, CartLine{number, record[columns.product], amount, price})
	return nil
}

// Demand is the units that carts buy of each product.
func (c *Carts) Demand() map[string]int64 {
	demand := map[string]int64{}
	for _, cart := range c.Carts {
		for _, line := range cart.Lines {
			if !cart.Return {
				demand[line.ProductID] += line.Amount
			}
		}
	}
	return demand
}

// First is the first carts of them.
func (c *Carts) First(n int) *Carts { return &Carts{c.Carts[:min(n, len(c.Carts))], c.Skipped} }

// Split makes orders of a cart's lines: of each product one line, with the sum of its
// amounts, and at most so many lines in one order. A product that the cart has at several
// prices comes in as many orders, since an order has one price for a product.
func (c *Cart) Split(most int) [][]CartLine {
	var orders [][]CartLine
	for _, line := range c.Lines {
		same := func(l CartLine) bool { return l.ProductID == line.ProductID }
		if !slices.ContainsFunc(orders, func(order []CartLine) bool { // one that takes the line
			i := slices.IndexFunc(order, same)
			if i < 0 || order[i].UnitPrice != line.UnitPrice {
				return false
			}
			order[i].Amount += line.Amount
			return true
		}) {
			at := slices.IndexFunc(orders, func(order []CartLine) bool {
				return len(order) < most && !slices.ContainsFunc(order, same)
			})
			if at < 0 {
				at, orders = len(orders), append(orders, nil)
			}
			orders[at] = append(orders[at], line)
		}
	}
	return orders
}

// parsePrice makes pence of pounds with up to three decimals; what is less than a penny is
// rounded up, as a price of nothing is a gift.
func parsePrice(text string) (pence int64, err error) {
	pounds, rest, _ := strings.Cut(text, ".")
	whole, err := strconv.ParseInt(pounds, 10, 32)
	if err != nil || whole < 0 {
		return 0, fmt.Errorf("%q is not a price", text)
	}
	thousandths, err := strconv.ParseInt((rest + "000")[:3], 10, 32)
	if err != nil || thousandths < 0 || len(rest) > 3 {
		return 0, fmt.Errorf("%q is not a price", text)
	}
	return whole*100 + (thousandths+9)/10, nil
}
