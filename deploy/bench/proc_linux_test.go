package bench

import (
	"os"
	"testing"
)

// A name with blanks and parentheses must not shift the columns.
func TestStatOfAProcessWithAStrangeName(t *testing.T) {
	const line = "42 (po) st (gres) S 7 42 42 0 -1 4194560 1000 2000 0 0 150 50 1000 200 20 0 1 0 100 1000 10"
	s := parseStat([]byte(line))
	if s.parent != 7 || s.own != 2 || s.children != 12 {
		t.Errorf("parent %d, own %v s, children %v s; want 7, 2, 12", s.parent, s.own, s.children)
	}
	if s := parseStat(nil); s != (stat{}) {
		t.Errorf("a process that is gone has used %v", s)
	}
}

func TestOwnProcessUsesMemory(t *testing.T) {
	if got := residentBytes(os.Getpid()); got < 1<<20 {
		t.Errorf("%d bytes, want more than 1 MB", got)
	}
}
