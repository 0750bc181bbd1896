package ledger

import (
	"encoding/binary"
	"time"
)

// The binary format of COPY: a header, each row as the count of its columns and each column
// as its length and bytes, and a count of -1 at the end
// (https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format").
const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" // no flags, no extension
	copyTrailer = "\xff\xff"
	copyNull    = "\xff\xff\xff\xff"
	copyColumns = 14
	copyRowSize = 2 + copyColumns*4 + 4*16 + 6*8 // without its texts
)

// postgresEpoch is what a timestamptz counts its microseconds from.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func sincePostgresEpoch(t time.Time) int64 { return t.Sub(postgresEpoch).Microseconds() }

// encode makes of the rows what COPY reads: insertedColumns, in that order.
func (b *batch) encode() []byte {
	size := len(copyHeader) + len(copyTrailer)
	for _, p := range b.rows {
		size += copyRowSize + len(p.ProductID) + len(p.RequestID) + len(p.CustomerID) + len(p.PaymentMethod) + len(p.firstState())
	}
	at := sincePostgresEpoch(b.at)
	data := append(make([]byte, 0, size), copyHeader...)
	for _, p := range b.rows {
		data = binary.BigEndian.AppendUint16(data, copyColumns)
		data = appendBytes(data, p.PurchaseID[:])
		data = appendBytes(data, p.ProductID)
		data = appendBytes(data, p.RequestID)
		data = appendInt64(data, p.Amount)
		data = appendBytes(data, p.CustomerID)
		data = appendBytes(data, p.PaymentMethod)
		data = appendBytes(data, p.firstState())
		data = appendInt64(data, at)
		if p.ExpireTime == nil {
			data = append(data, copyNull...)
		} else {
			data = appendInt64(data, sincePostgresEpoch(*p.ExpireTime))
		}
		if p.OrderID == nil {
			data = append(data, copyNull...)
		} else {
			data = appendBytes(data, p.OrderID[:])
		}
		if p.UnitPrice == nil {
			data = append(data, copyNull...)
		} else {
			data = appendInt64(data, *p.UnitPrice)
		}
		data = appendInt64(data, p.Fence.Topology)
		data = appendInt64(data, p.Fence.Token)
		data = appendBytes(data, p.Fence.TenureID[:])
	}
	return append(data, copyTrailer...)
}

func appendBytes[T ~string | ~[]byte](data []byte, column T) []byte {
	return append(binary.BigEndian.AppendUint32(data, uint32(len(column))), column...)
}

func appendInt64(data []byte, column int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(data, 8), uint64(column))
}
