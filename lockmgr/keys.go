package lockmgr

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// keyspace is the prefix below which all locks live. It ends in one slash.
type keyspace string

func newKeyspace(prefix string) keyspace {
	return keyspace(strings.TrimRight(prefix, "/") + "/")
}

// queue returns the range that holds the keys of name, and of no other name.
func (k keyspace) queue(name string) string {
	return string(k) + url.PathEscape(name) + "/"
}

// key returns the key of one acquisition of name, which no other ever has.
func (k keyspace) key(name string, id clientv3.LeaseID, number uint64) string {
	return fmt.Sprintf("%s%016x-%x", k.queue(name), int64(id), number)
}

// parse is the inverse of key. It refuses keys that key would not have made,
// such as those of another keyspace nested below this one.
func (k keyspace) parse(key []byte) (name string, id clientv3.LeaseID, ok bool) {
	rest, ok := strings.CutPrefix(string(key), string(k))
	if !ok {
		return "", 0, false
	}
	escaped, rest, ok := strings.Cut(rest, "/")
	if !ok {
		return "", 0, false
	}
	hex, last, ok := strings.Cut(rest, "-")
	if !ok || len(hex) != 16 {
		return "", 0, false
	}
	name, err := url.PathUnescape(escaped)
	if err != nil {
		return "", 0, false
	}
	lease, err := strconv.ParseUint(hex, 16, 63)
	if err != nil {
		return "", 0, false
	}
	number, err := strconv.ParseUint(last, 16, 64)
	id = clientv3.LeaseID(lease)
	if err != nil || k.key(name, id, number) != string(key) {
		return "", 0, false
	}
	return name, id, true
}
