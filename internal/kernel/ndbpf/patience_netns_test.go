//go:build netns && !vm

package ndbpf

import "time"

// patience is how long what must come about may take.
const patience = 30 * time.Second
