//go:build netns

package doctor_test

import (
	"testing"

	"github.com/v6net/v6net/internal/doctor"
)

func TestCarrier(t *testing.T) {
	s := newScene(t)
	s.up.Run(t, "ip", "link", "set", "dev", "lan0", "down")
	s.finds(t, "carrier", doctor.Problem, "eth0", "no carrier")
	s.up.Run(t, "ip", "link", "set", "dev", "lan0", "up")
	s.mended(t, "carrier")
	s.self.Run(t, "ip", "link", "set", "dev", "eth0", "down")
	s.run(t, s.finds(t, "carrier", doctor.Problem, "eth0", "is down"))
	s.mended(t, "carrier")
	s.self.Run(t, "ip", "link", "del", "dev", "eth0")
	s.finds(t, "carrier", doctor.Problem, "eth0", "no such link")
}
