package local

import "syscall"

// dieWithParent has the kernel send signal to the child when the thread that
// started it ends. Go sets this after it has changed the user, which would
// clear it, and checks that the parent did not die in between.
func dieWithParent(attr *syscall.SysProcAttr, signal syscall.Signal) {
	attr.Pdeathsig = signal
}
