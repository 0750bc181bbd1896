package failover

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Linux counts processor time in hundredths of a second, whatever the clock of
// the kernel is (USER_HZ, see proc_pid_stat(5)).
const tick = 10 * time.Millisecond

// residentBytes is the memory that a process occupies. Only Linux says it.
func residentBytes(pid int) (int64, error) {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	pages, err := parseResident(statm)
	return pages * int64(os.Getpagesize()), err
}

// parseResident is the second field: the pages that are in memory.
func parseResident(statm []byte) (pages int64, err error) {
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm %q: no field resident", statm)
	}
	return strconv.ParseInt(string(fields[1]), 10, 64)
}

// processorTime is how long processors have worked for some processes together.
// Only Linux says it.
func processorTime(pids ...int) (total time.Duration, err error) {
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		spent, err := parseProcessorTime(stat)
		if err != nil {
			return 0, err
		}
		total += spent
	}
	return total, nil
}

// parseProcessorTime adds utime and stime, the fields 14 and 15. The second field
// is the name of the program in parentheses and may hold anything, also spaces.
func parseProcessorTime(stat []byte) (time.Duration, error) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("stat %q: no fields utime and stime", stat)
	}
	user, userErr := strconv.ParseInt(string(fields[11]), 10, 64)
	system, systemErr := strconv.ParseInt(string(fields[12]), 10, 64)
	return time.Duration(user+system) * tick, errors.Join(userErr, systemErr)
}
