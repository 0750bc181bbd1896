package worker

import (
	"encoding/base64"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/holdfast-io/holdfast/worker/ledger"
)

// cursors are a place in the events of every shard, by the shard's name. A shard without one
// is at its beginning: it came to the topology later.
type cursors map[string]ledger.Cursor

// cursorVersion is the first byte of a cursor that callers see.
const cursorVersion = 1

// encode makes the opaque text: base64url of the version, and for each shard, in order of
// name, the length of its name, the name, the transaction and the id.
func (c cursors) encode() string {
	data := append(make([]byte, 0, 1+len(c)*40), cursorVersion)
	for _, shard := range slices.Sorted(maps.Keys(c)) {
		data = append(binary.AppendUvarint(data, uint64(len(shard))), shard...)
		data = binary.BigEndian.AppendUint64(data, c[shard].XID)
		id := c[shard].ID
		data = append(data, id[:]...)
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// decodeCursors is the inverse of encode; the empty text is the beginning of all shards.
func decodeCursors(text string) (c cursors, ok bool) {
	c = cursors{}
	if text == "" {
		return c, true
	}
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(data) == 0 || data[0] != cursorVersion {
		return nil, false
	}
	const place = 8 + len(uuid.UUID{})
	for data = data[1:]; len(data) > 0; {
		size, n := binary.Uvarint(data)
		if n <= 0 || size > uint64(len(data)) || len(data) < n+int(size)+place {
			return nil, false
		}
		shard := string(data[n : n+int(size)])
		data = data[n+int(size):]
		c[shard] = ledger.Cursor{XID: binary.BigEndian.Uint64(data), ID: uuid.UUID(data[8:place])}
		data = data[place:]
	}
	return c, c.encode() == text
}
