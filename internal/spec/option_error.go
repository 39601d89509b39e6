package spec

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNotAvailable marks an option that is part of the design but not built yet.
var ErrNotAvailable = errors.New("not available yet")

// OptionError says which option was wrong, with which value, and what is allowed.
type OptionError struct {
	Key     string
	Value   string
	Allowed string // what may stand there, in words
	Err     error  // ErrNotAvailable, or nil for a plain bad value
}

// Error implements error. The text reaches `docker network create` as it is.
func (e *OptionError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("option %s=%s: %v (available: %s)", e.Key, e.Value, e.Err, e.Allowed)
	}
	return fmt.Sprintf("option %s: %q is not allowed (allowed: %s)", e.Key, e.Value, e.Allowed)
}

// Unwrap lets errors.Is find ErrNotAvailable.
func (e *OptionError) Unwrap() error { return e.Err }

// UnknownOptionError names an option that v6net does not know, and those it does.
type UnknownOptionError struct {
	Key   string
	Known []string
}

// Error implements error.
func (e *UnknownOptionError) Error() string {
	return fmt.Sprintf("unknown option %q (known: %s)", e.Key, strings.Join(e.Known, ", "))
}
