package doctor

import (
	"strings"
	"testing"

	"github.com/v6net/v6net/internal/spec"
)

// iptables-legacy is the daemon's affair, and what it cannot do there an obstacle.
func TestLegacyIsTheDaemons(t *testing.T) {
	facts := Facts{Firewall: Firewall{Legacy: []string{"ip", "ip6"}}}
	if found := (forwardDrop{}).Judge(facts); len(found) != 2 || !strings.Contains(found[1].Fix, "start the daemon") || !strings.Contains(found[1].Fix, "ip6tables-legacy -I FORWARD") {
		t.Errorf("without a daemon: %+v", found)
	}
	facts.Status = &spec.Status{Networks: []spec.NetworkStatus{{}}}
	if found := (forwardDrop{}).Judge(facts); len(found) > 0 {
		t.Errorf("with a daemon that has its rule there: %+v", found)
	}
	facts.Status.Obstacles = []spec.Obstacle{{Table: "ip6 filter of iptables-legacy", Chain: "FORWARD", Why: "not here", Fix: "install"}}
	if found := (forwardDrop{}).Judge(facts); len(found) != 1 || found[0].Level != Problem || found[0].Fix != "install" {
		t.Errorf("with a daemon that has not: %+v", found)
	}
}
