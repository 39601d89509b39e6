// Package uptime reads for how long the machine has run.
package uptime

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Now is the time since the machine's boot. It is never set, and goes on while the
// machine sleeps (CLOCK_BOOTTIME), as Go's monotonic time does not.
func Now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("CLOCK_BOOTTIME: %v", err)) // not since Linux 2.6.39
	}
	return time.Duration(ts.Nano())
}
