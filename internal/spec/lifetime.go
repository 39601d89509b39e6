package spec

import "time"

// WithdrawnTime is for how long a prefix that went before its time is kept for the
// connections that have its addresses: as long as hosts do that hear of it by router
// advertisement (RFC 4862 §5.5.3 e).
const WithdrawnTime = 2 * time.Hour

// WholeSeconds is the end of a lifetime as journal and kernel have it.
func WholeSeconds(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Second)
}
