package local

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
)

func TestFreePortsDiffer(t *testing.T) {
	seen := map[int]bool{}
	for range 100 {
		port, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if seen[port] || port < firstPort || port >= firstPort+portCount {
			t.Errorf("port %d, after %d others", port, len(seen))
		}
		seen[port] = true
	}
}

// Between the search for a free port and its use somebody may take it. Nobody
// should notice, unless it is the port that was asked for.
func TestOnlyAFreePortIsTriedAgain(t *testing.T) {
	taken := fmt.Errorf("listen: %w", syscall.EADDRINUSE)
	other := errors.New("disk full")
	cases := map[string]struct {
		wanted   int
		failures []error // of the first starts
		starts   int
		err      error
	}{
		"free at once":     {0, nil, 1, nil},
		"taken twice":      {0, []error{taken, taken}, 3, nil},
		"always taken":     {0, []error{taken, taken, taken, taken}, 3, taken},
		"other failure":    {0, []error{other}, 1, other},
		"named and taken":  {4711, []error{taken}, 1, taken},
		"named and not so": {4711, nil, 1, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var ports []int
			_, err := onPort(c.wanted, func(port int) (struct{}, error) {
				ports = append(ports, port)
				if len(ports) <= len(c.failures) {
					return struct{}{}, c.failures[len(ports)-1]
				}
				return struct{}{}, nil
			})
			if !errors.Is(err, c.err) || len(ports) != c.starts {
				t.Errorf("tried %v and got %v, want %d starts and %v", ports, err, c.starts, c.err)
			}
			if c.wanted != 0 && ports[0] != c.wanted {
				t.Errorf("tried %v, want %d", ports, c.wanted)
			}
		})
	}
}
