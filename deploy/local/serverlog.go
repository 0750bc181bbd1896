package local

import (
	"bytes"
	"fmt"
	"os"
	"sync"
)

// tailBytes is how much of a server's log goes into an error at most.
const tailBytes = 2000

// serverLog is the log file of one run of a program, which remembers the last
// lines. It is deliberately not an *os.File for the process that writes to it:
// so the output goes through a pipe, and the process counts as ended only when
// its children, who hold that pipe too, have ended.
type serverLog struct {
	path string

	mu   sync.Mutex
	file *os.File
	tail []byte
}

// openLog continues the file, if there is one.
func openLog(path string) (*serverLog, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return &serverLog{path: path, file: file}, nil
}

// Write implements io.Writer.
func (l *serverLog) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, text...)
	l.tail = l.tail[max(0, len(l.tail)-tailBytes):]
	return l.file.Write(text)
}

// lastLines returns the end of what was written.
func (l *serverLog) lastLines() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.TrimSpace(bytes.Clone(l.tail))
}

// explain adds the last lines to the error.
func (l *serverLog) explain(err error) error {
	return fmt.Errorf("%w; %s ends with:\n%s", err, l.path, l.lastLines())
}

func (l *serverLog) close() error { return l.file.Close() }
