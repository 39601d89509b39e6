//go:build netns

package doctor_test

import (
	"testing"

	"github.com/v6net/v6net/internal/doctor"
)

// Without a daemon the rest of the host is examined nevertheless.
func TestDaemon(t *testing.T) {
	s := newScene(t)
	status := s.status
	s.status = nil
	s.finds(t, "daemon", doctor.Problem, "no v6net daemon answers", "the bridge of a network is there")
	s.self.Run(t, "ip", "link", "set", "dev", s.bridge, "type", "bridge", "mcast_snooping", "1")
	s.finds(t, "mld_snooping", doctor.Problem, s.bridge)
	s.status = status
	s.mended(t, "daemon")
}
