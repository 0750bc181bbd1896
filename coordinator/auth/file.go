package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.yaml.in/yaml/v3"
)

// entry is a token of the file. It is kept as a hash: whoever reads the file cannot call.
type entry struct {
	Name       string `yaml:"name"`
	SHA256     string `yaml:"sha256"` // of the token, in hex
	Role       string `yaml:"role"`
	CustomerID string `yaml:"customer_id"` // of a buyer
}

// reread is how often the file is looked at.
const reread = 10 * time.Second

// file is a file of tokens, as it is at the moment.
type file struct {
	path    string
	log     hclog.Logger
	callers atomic.Pointer[map[[sha256.Size]byte]*Caller] // as they were read last

	reading sync.Mutex // held by whoever looks at the file; nobody waits for him
	looked  time.Time
	content []byte
}

func openFile(path string, log hclog.Logger) (*file, error) {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	f := &file{path: path, log: log}
	return f, f.read(time.Now())
}

// find returns whose token has the hash, or nil.
func (f *file) find(hash [sha256.Size]byte) *Caller {
	if f.reading.TryLock() {
		if now := time.Now(); now.Sub(f.looked) > reread {
			if err := f.read(now); err != nil {
				f.log.Error("tokens not read again; the former ones stay valid", "error", err)
			}
		}
		f.reading.Unlock()
	}
	return (*f.callers.Load())[hash]
}

// read reads the file. The caller holds reading, or is alone.
func (f *file) read(now time.Time) error {
	f.looked = now
	content, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("tokens-file: %w", err)
	}
	if f.callers.Load() != nil && bytes.Equal(content, f.content) {
		return nil
	}
	callers, err := parse(content)
	if err != nil {
		return fmt.Errorf("tokens-file: %s: %w", f.path, err)
	}
	f.content = content
	f.callers.Store(&callers)
	return nil
}

// parse reads the tokens of a file. Its errors name the entry, and never what is in it but its
// name.
func parse(content []byte) (map[[sha256.Size]byte]*Caller, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	var entries []entry
	if err := decoder.Decode(&entries); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New("not a YAML list of name, sha256, role and customer_id")
	}
	callers, names := map[[sha256.Size]byte]*Caller{}, map[string]bool{}
	for i, e := range entries {
		c, hash, err := e.caller()
		switch {
		case err != nil:
			return nil, fmt.Errorf("[%d] %q: %w", i, e.Name, err)
		case names[e.Name]:
			return nil, fmt.Errorf("[%d] %q: the name is there twice", i, e.Name)
		case callers[hash] != nil:
			return nil, fmt.Errorf("[%d] %q: has the token of %q", i, e.Name, callers[hash].Name)
		}
		callers[hash], names[e.Name] = c, true
	}
	return callers, nil
}

func (e *entry) caller() (c *Caller, hash [sha256.Size]byte, err error) {
	decoded, err := hex.DecodeString(e.SHA256)
	switch {
	case e.Name == "":
		return nil, hash, errors.New("name is required")
	case err != nil || copy(hash[:], decoded) != sha256.Size || len(decoded) != sha256.Size:
		return nil, hash, errors.New("sha256 must be 64 hex digits")
	case roleNames[e.Role] == 0:
		return nil, hash, errors.New("role must be buyer, operator or viewer")
	case (roleNames[e.Role] == Buyer) != (e.CustomerID != ""):
		return nil, hash, errors.New("customer_id is required of a buyer, and nobody else has one")
	}
	return &Caller{Name: "token:" + e.Name, Roles: roleNames[e.Role], CustomerID: e.CustomerID}, hash, nil
}
