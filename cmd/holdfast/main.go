// Command holdfast sells limited stock across databases without overselling: it
// is the coordinator, the worker, the tools of an operator and a demonstration.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/google/uuid"
	"google.golang.org/grpc/grpclog"

	_ "golang.org/x/crypto/x509roots/fallback" // the image has no others, and Stripe is called by HTTPS
)

func main() {
	// gRPC's warnings may quote the files that certificates are read from, keys included.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, os.Stderr))
	uuid.EnableRandPool() // ids are made for every purchase, and are no secrets
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "holdfast:", err)
		stop()
		os.Exit(exitCode(err)) //nolint:gocritic // stop was called
	}
}

// Exit codes, for scripts.
const (
	exitFailed      = 1 // the command failed, or a check found something
	exitUsage       = 2 // the command line or the configuration is wrong
	exitRefused     = 3 // not enough stock
	exitUnavailable = 4 // a server did not answer; may work later
)

// exitError gives an error an exit code of its own.
type exitError struct {
	code int
	error
}

func (e *exitError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var e *exitError
	if errors.As(err, &e) {
		return e.code
	}
	return exitFailed
}

func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}
