// Package dump makes netlink dumps whole.
package dump

import (
	"context"
	"errors"

	"github.com/vishvananda/netlink"
)

// attempts bounds the retries. A dump of thousands of links takes milliseconds
// and is interrupted by every link that comes or goes meanwhile, as many do
// while a host starts its containers.
const attempts = 20

// Retry calls list again while the kernel says that what it listed changed
// under it (NLM_F_DUMP_INTR): such a list may lack entries that were there all
// the time. It gives up with [netlink.ErrDumpInterrupted] or when ctx ends.
func Retry[T any](ctx context.Context, list func() (T, error)) (T, error) {
	var whole, none T
	var err error
	for range attempts {
		if err := ctx.Err(); err != nil {
			return none, err
		}
		if whole, err = list(); err == nil {
			return whole, nil
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return none, err
}
