package ledger

import (
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// uuids is a uuid[], as a parameter or as an answer. pgx would send uuid.UUID as text, which took a third of
// a worker's time.
type uuids []uuid.UUID

// Dimensions is part of pgtype.ArrayGetter, as are the others.
func (u uuids) Dimensions() []pgtype.ArrayDimension {
	if u == nil {
		return nil
	}
	return []pgtype.ArrayDimension{{Length: int32(len(u)), LowerBound: 1}}
}

// Index returns an element.
func (u uuids) Index(i int) any { return pgtype.UUID{Bytes: u[i], Valid: true} }

// IndexType returns an element of the type that Index returns.
func (u uuids) IndexType() any { return pgtype.UUID{} }

// SetDimensions is part of pgtype.ArraySetter, as are the others.
func (u *uuids) SetDimensions(dimensions []pgtype.ArrayDimension) error {
	*u = nil
	if len(dimensions) > 0 {
		*u = make(uuids, dimensions[0].Length)
	}
	return nil
}

// ScanIndex returns where an element goes.
func (u uuids) ScanIndex(i int) any { return (*[16]byte)(&u[i]) }

// ScanIndexType returns something of the type that ScanIndex returns.
func (u uuids) ScanIndexType() any { return (*[16]byte)(nil) }

func (u uuids) set() map[uuid.UUID]bool {
	set := make(map[uuid.UUID]bool, len(u))
	for _, id := range u {
		set[id] = true
	}
	return set
}
