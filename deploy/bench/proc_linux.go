package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ticksPerSecond is the unit of times in /proc: USER_HZ, 100 on every Linux that
// Go runs on.
const ticksPerSecond = 100

// stat is what /proc/<pid>/stat says of a process.
type stat struct {
	parent        int
	own, children float64 // CPU seconds; children that have ended and were waited for
}

// readStat is zero for a process that is gone.
func readStat(pid int) (s stat) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return parseStat(text)
}

// parseStat begins after the name, which may hold blanks and parentheses.
func parseStat(text []byte) (s stat) {
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const state, parent, user, system, childUser, childSystem = 0, 1, 11, 12, 13, 14
	if len(fields) <= childSystem {
		return s
	}
	number := func(i int) float64 { n, _ := strconv.ParseFloat(fields[i], 64); return n }
	s.parent = int(number(parent))
	s.own = (number(user) + number(system)) / ticksPerSecond
	s.children = (number(childUser) + number(childSystem)) / ticksPerSecond
	return s
}

// cpuOf is the CPU time of a process.
func cpuOf(pid int) float64 { return readStat(pid).own }

// selfCPU is the CPU time of this process.
func selfCPU() float64 { return cpuOf(os.Getpid()) }

// cpuOfTree is the CPU time of a process and of its children, of those too that
// have ended: Postgres gives every connection a process.
func cpuOfTree(pid int) float64 {
	root := readStat(pid)
	total := root.own + root.children
	paths, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range paths {
		child, _ := strconv.Atoi(filepath.Base(path))
		if s := readStat(child); s.parent == pid {
			total += s.own + s.children
		}
	}
	return total
}

// residentBytes is the memory of a process that is in RAM.
func residentBytes(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
