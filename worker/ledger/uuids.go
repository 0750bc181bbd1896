package ledger

import (
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// uuids is a parameter for a uuid[]. pgx would send uuid.UUID as text, which took a third of
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
