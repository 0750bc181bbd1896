//go:build !unix

package main

import "io/fs"

// ownedBy believes the folder that a file is in: that of temporary files is the user's own there.
func ownedBy(fs.FileInfo, ...int) bool { return true }
