package doctor

import (
	"fmt"
	"time"
)

// tolerance is how much the clock may be off: certificates and lifetimes are of
// hours, and what a server says of the time is of seconds.
const tolerance = 2 * time.Minute

type clock struct{}

func (clock) About() About {
	return About{
		Name:    "clock",
		Symptom: "`docker pull` says that a certificate is not valid yet, or no longer; prefixes end at odd times after a restart",
		Why:     "certificates and the lifetimes of lent prefixes are of real time",
		Fix:     "`timedatectl set-ntp true`, or start chrony; `timedatectl` shows whether it keeps the clock",
	}
}

func (clock) Judge(f Facts) []Finding {
	if o := f.Online; o != nil && !o.Date.IsZero() {
		off := o.At.Sub(o.Date).Round(time.Second)
		if off.Abs() <= tolerance {
			return nil
		}
		return []Finding{{Level: Problem, Found: fmt.Sprintf("the clock is %s off from that of %s", off, o.Registry), Expected: "less than " + tolerance.String(), Fix: "timedatectl set-ntp true"}}
	}
	if !f.Unsynced {
		return nil
	}
	return []Finding{{Level: Note, Found: "the kernel does not know of anybody who keeps the clock right (--online compares it)", Expected: "NTP", Fix: "timedatectl set-ntp true"}}
}
