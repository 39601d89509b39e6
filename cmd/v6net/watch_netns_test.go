//go:build netns

package main

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// All that happens on a host is seen while it happens, whoever is asked for.
func TestWatch(t *testing.T) {
	s := newSite(t)
	s.up.AddAddress(t, "2001:db8:1::2/64", "lan0")
	all := s.operating(t, "watch", "--json")
	ndp := s.operating(t, "watch", "--type ndp --source 2001:db8:1::2")
	within(t, "both watch", func() bool { return s.events.Wanted(spec.EventNDP) && s.events.Wanted(spec.EventLease) })
	s.lend(t, lentUntil("2001:db8:a000::/56", time.Hour, 2*time.Hour))
	_, addr := s.run(t, 1)
	s.answers(t, addr.String())
	const proxied = "2001:db8:1::77"
	s.proxy.Add("eth0", netip.MustParseAddr(proxied))
	defer s.proxy.Remove("eth0", netip.MustParseAddr(proxied))
	asked := func() bool {
		_, _ = s.up.Command(t.Context(), "ndisc6", "-1", "-r", "1", "-w", "200", "-s", "2001:db8:1::2", proxied, "lan0").CombinedOutput() // who watches is asked
		return ndp.said(proxied, "answered", "solicited", "2001:db8:1::2") > 0
	}
	within(t, "the solicitation is seen", asked)
	want := map[string]bool{
		"prefix gained": false, "pool taken": false, "lease taken": false, "network created": false,
		"endpoint created": false, "endpoint joined": false, "ra sent": false, "ndp answered": false,
	}
	within(t, "all is seen", func() bool {
		all.mu.Lock()
		defer all.mu.Unlock()
		missing := 0
		for _, line := range all.log {
			var e spec.Event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			want[string(e.Type)+" "+e.What] = true
			if e.Type == spec.EventEndpoint && e.What == "joined" && (e.Address != addr || e.Network != number("a", 1)) {
				t.Errorf("joined: %s", line)
			}
		}
		for _, seen := range want {
			if !seen {
				missing++
			}
		}
		return missing == 0
	})
	if ndp.said("lease") > 0 {
		t.Error("leases are shown to who asks for solicitations")
	}
	// Who interrupts it is told how much there was; who watches is told of the daemon's end.
	ndp.signal(syscall.SIGINT)
	if err := ndp.wait(); err != nil || ndp.said("interrupted after ") != 1 {
		t.Errorf("interrupted: %v, says %q", err, ndp.log)
	}
	again := s.operating(t, "watch", "--retry --type lease")
	within(t, "another one watches", func() bool {
		s.events.Publish(spec.Event{Type: spec.EventLease, What: "tried"})
		return again.said("lease", "tried") > 0
	})
	s.stop()
	var status *exec.ExitError
	if err := all.wait(); !errors.As(err, &status) || status.ExitCode() != exitNoDaemon {
		t.Errorf("at the daemon's end: %v, want status %d", err, exitNoDaemon)
	}
	if all.said("the daemon has ended; ", "events until then") != 1 {
		t.Errorf("at the daemon's end it says %q", all.log[len(all.log)-1])
	}
	within(t, "the end is said", func() bool { return again.said("the daemon has ended; waiting for the next one") == 1 })
	s.start()
	within(t, "the next one is watched", func() bool { return again.said("the daemon is there again") == 1 })
	if first, err := s.engine.RequestAddress(t.Context(), s.engine.Status(t.Context()).Pools[0].ID, netip.Addr{}, false); err != nil {
		t.Error(err)
	} else {
		within(t, "and shown", func() bool { return again.said("lease", first.Addr().String()) == 1 })
	}
	if strings.Contains(strings.Join(again.log, ""), "\x1b") {
		t.Error("colours where there is no terminal")
	}
}
