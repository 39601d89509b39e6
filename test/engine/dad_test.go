//go:build engine

package engine_test

import (
	"strings"
	"testing"
	"time"
)

// On a shared link v6net and the neighbours keep out of each other's way by
// duplicate address detection (RFC 4862 §5.4).
func testDAD(t *testing.T, l *lab) {
	const subnet = "2001:db8:1:0:d::/80"
	const theirs = "2001:db8:1:0:d::2" // what the first container would get
	neighbour := func(verb, address string) {
		l.up.Run(t, "ip", "address", verb, address+"/128", "dev", "lan0")
	}
	neighbour("add", theirs)
	defer neighbour("del", theirs)
	l.network(t, "net", "--subnet", subnet)
	l.container(t, "web", "--network", "net", "-p", "80")
	ours := l.ipv6(t, "web", "net")
	if ours == theirs {
		t.Errorf("the container got %s, which a neighbour has", ours)
	}
	mustFetch(t, l.far, bracket(ours))

	// Asked for by name, too.
	defer l.discard(t, "rm", "-f", "clash")
	out, err := l.cli.Try(t.Context(), "run", "-d", "--name", "clash", "--network", "net", "--ip6", theirs, l.image)
	if err == nil || !strings.Contains(out, theirs+" on eth0 is in use by another host") {
		t.Errorf("docker run with a neighbour's address: %v: %s", err, out)
	}

	// The other way round.
	for _, key := range []string{"accept_dad", "dad_transmits"} {
		l.up.Sysctl(t, "net/ipv6/conf/lan0/"+key, "1")
		defer l.up.Sysctl(t, "net/ipv6/conf/lan0/"+key, "0")
	}
	neighbour("add", ours)
	defer neighbour("del", ours)
	for deadline := time.Now().Add(longest); ; time.Sleep(50 * time.Millisecond) {
		state := l.up.Run(t, "ip", "-6", "address", "show", "dev", "lan0", "to", ours)
		if strings.Contains(state, "dadfailed") {
			break
		}
		if !strings.Contains(state, "tentative") || time.Now().After(deadline) {
			t.Fatalf("a neighbour takes the container's address:\n%s", state)
		}
	}
	mustFetch(t, l.far, bracket(ours)) // and has not been believed
}
