package carts

import (
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/deploy/books"
)

// Figures are what a run came to.
type Figures struct {
	Carts          int `json:"carts"`
	Products       int `json:"products"`
	ScarceProducts int `json:"scarce_products"` // with four fifths of their demand in storage
	Orders         int `json:"orders"`
	Lines          int `json:"lines"`
	Confirmed      int `json:"confirmed"`
	ConfirmedLines int `json:"confirmed_lines"`
	Declined       int `json:"declined"`
	FailedForStock int `json:"failed_for_stock"`
	// FailedOtherwise are orders of which a line could not be had for another reason, as
	// that its hold had expired before all others were held.
	FailedOtherwise int            `json:"failed_otherwise"`
	OtherReasons    map[string]int `json:"other_reasons,omitempty"` // orders, by the reason of a line
	Expired         int            `json:"expired"`

	Untold int `json:"untold"` // who had no answer in three minutes

	CreditNoteLines         int   `json:"credit_note_lines"`
	CreditNoteLinesReturned int   `json:"credit_note_lines_returned"`
	CreditNoteLinesInPart   int   `json:"credit_note_lines_in_part"`
	ReturnedUnits           int64 `json:"returned_units"`
	// CreditNotesUnmatched are what customers gave back that they had not bought before, in
	// the file and in this run.
	CreditNotesUnmatched []Unmatched `json:"credit_notes_unmatched"`

	Skipped        map[string]int `json:"skipped"` // lines of the file, by reason
	Kills          int            `json:"kills"`
	Seconds        float64        `json:"seconds"`
	SettledSeconds float64        `json:"settled_seconds"` // from the last answer on
	Books          *books.Report  `json:"books"`
	Differences    int            `json:"differences"`
	AuditFindings  int            `json:"audit_findings"`
	// Wrong is what customers were told that is not so.
	Wrong []string `json:"wrong"`
}

// Unmatched is a line of a credit note, and how many of its units have no purchase.
type Unmatched struct {
	CreditNote string `json:"credit_note"`
	Line       int    `json:"line"` // of the file
	ProductID  string `json:"product_id"`
	Units      int64  `json:"units"`
}

func (f *Figures) wrong(format string, args ...any) {
	f.Wrong = append(f.Wrong, fmt.Sprintf(format, args...))
}

// err is nil when nothing is wrong.
func (f *Figures) err() error {
	err := f.Books.Err()
	if f.AuditFindings > 0 {
		err = errors.Join(err, fmt.Errorf("audit: %d findings", f.AuditFindings))
	}
	if f.Untold > 0 {
		err = errors.Join(err, fmt.Errorf("%d orders had no answer in %v", f.Untold, patience))
	}
	if len(f.Wrong) > 0 {
		err = errors.Join(err, fmt.Errorf("%d customers were told what is not so, the first: %s", len(f.Wrong), f.Wrong[0]))
	}
	return err
}
