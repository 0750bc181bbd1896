package lockmgr

import (
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Names come from outside. If the range of one name held a key of another, the two
// would lock each other out, or share an owner.
func FuzzKeysOfTwoNamesNeverMix(f *testing.F) {
	names := []string{"", "a", "a/", "a/b", "a%2Fb", "/", "//", "%", ".", "..", " ", "ä", "\x00", "\xff\xfe", strings.Repeat("x/", 200)}
	for i, one := range names {
		for _, other := range names[i:] {
			f.Add(one, other, int64(1), uint64(2))
		}
	}
	keys := newKeyspace("/locks")
	f.Fuzz(func(t *testing.T, one, other string, id int64, number uint64) {
		if id <= 0 {
			t.Skip("etcd gives positive ids")
		}
		lease := clientv3.LeaseID(id)
		key := keys.key(one, lease, number)
		gotName, gotLease, ok := keys.parse([]byte(key))
		if !ok || gotName != one || gotLease != lease {
			t.Errorf("parse(%q) = %q, %x, %v, want %q, %x", key, gotName, gotLease, ok, one, id)
		}
		if inRange := strings.HasPrefix(key, keys.queue(other)); inRange != (one == other) {
			t.Errorf("key of %q in the queue of %q: %v", one, other, inRange)
		}
	})
}

func TestForeignKeysAreNoLocks(t *testing.T) {
	keys := newKeyspace("/locks///")
	if keys != "/locks/" {
		t.Fatalf("keyspace is %q", keys)
	}
	for _, key := range []string{
		"/locks/",
		"/locks/a",
		"/locks/a/",
		"/locks/a/1",
		"/locks/a/000000000000000f",
		"/locks/a/000000000000000f-",
		"/locks/a/000000000000000f-01",
		"/locks/a/000000000000000f-G",
		"/locks/a/000000000000000g-1",
		"/locks/a/+00000000000000f-1",
		"/locks/a/-00000000000000f-1",
		"/locks/%zz/000000000000000f-1",
		"/locks/a%62/000000000000000f-1",
		"/locks/nested/a/000000000000000f-1",
		"/other/a/000000000000000f-1",
	} {
		if name, id, ok := keys.parse([]byte(key)); ok {
			t.Errorf("parse(%q) = %q, %x, want a refusal", key, name, int64(id))
		}
	}
}
