//go:build unix

package main

import (
	"io/fs"
	"slices"
	"syscall"
)

// ownedBy reports whether a file is one of these users'.
func ownedBy(info fs.FileInfo, users ...int) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && slices.Contains(users, int(stat.Uid))
}
