package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/v6net/v6net/internal/control"
	"github.com/v6net/v6net/internal/kernel/netns"
	"github.com/v6net/v6net/internal/spec"
)

// The statuses with which the program ends; 0 is success, 1 any other error.
const (
	exitSick     = 1 // doctor has found what is wrong
	exitUsage    = 2 // the command line is wrong, or may not be used so
	exitNoDaemon = 3 // no daemon answers, or the one that did has ended
	exitNotFound = 4 // what was named is not there
	// exitClaimed says that another daemon runs, so that a service manager need not try
	// again (RestartPreventExitStatus= in packaging/systemd): EX_UNAVAILABLE of sysexits.h.
	exitClaimed = 69
)

// kongUsage is kong's own for a command line that it cannot read.
const kongUsage = 80

// exitCode ends the program with that status, and without another word.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is about how the program was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// notFound is about something that was named and is not there.
type notFound struct{ error }

func (notFound) Is(target error) bool { return target == spec.ErrNotFound }

func exitStatus(err error) int {
	var code exitCode
	var usage usageError
	switch {
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage), errors.Is(err, fs.ErrPermission):
		return exitUsage
	case errors.Is(err, netns.ErrClaimed):
		return exitClaimed
	case errors.Is(err, control.ErrNoDaemon), errors.Is(err, control.ErrEnded):
		return exitNoDaemon
	case errors.Is(err, spec.ErrNotFound):
		return exitNotFound
	default:
		return 1
	}
}
