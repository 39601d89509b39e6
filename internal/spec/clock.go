package spec

import "time"

// ClockRecord is what the journal knows of the time by which lifetimes are kept
// (internal/clock), as of when it was written.
type ClockRecord struct {
	Boot string    `json:"boot"` // which boot of the machine it was
	Zero time.Time `json:"zero"` // what time it was when that began
	Seen time.Time `json:"seen"` // what time it was then
	// Ahead is how far the wall clock was ahead then: for as long as it has been set by
	// since this time began.
	Ahead time.Duration `json:"ahead,omitempty"`
}
