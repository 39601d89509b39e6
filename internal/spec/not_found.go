package spec

import "errors"

// ErrNotFound marks a network, endpoint, pool or address that v6net does not
// know. A front end answers success to a removal that fails with it: engines
// repeat removals after a crash.
var ErrNotFound = errors.New("not found")
