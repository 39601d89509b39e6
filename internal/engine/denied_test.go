package engine_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/spec"
)

// tellingHost is one with a network that tells what is denied, and a container on it;
// lines is what is logged.
func tellingHost(t *testing.T) (h *host, lines *bytes.Buffer) {
	t.Helper()
	h, lines = newHost(t), &bytes.Buffer{}
	h.lines = slog.NewTextHandler(lines, nil)
	h.restart(t)
	for i, log := range []bool{true, false} {
		n := spec.Network{ID: netID(i + 1), Options: spec.DefaultOptions(), IPv6: []spec.Subnet{{Prefix: pfx([]string{"fd00:1::/64", "fd00:2::/64"}[i])}}}
		n.Options.LogDenied = log
		must(t, h.engine.CreateNetwork(t.Context(), n))
		_, err := h.engine.CreateEndpoint(t.Context(), spec.Endpoint{ID: epID(i + 1), NetworkID: n.ID, Name: []string{"web", "db"}[i],
			MAC: []string{"02:00:00:00:00:05", "02:00:00:00:00:06"}[i], IPv6: pfx([]string{"fd00:1::5/64", "fd00:2::6/64"}[i])})
		must(t, err)
	}
	lines.Reset()
	return h, lines
}

func refusal(in, out string, why firewall.Reason, from, to string) firewall.Refusal {
	return firewall.Refusal{Inward: in == "eth0", Reason: why, In: in, Out: out,
		Headers: spec.Headers{From: ip(from), To: ip(to), Protocol: "tcp", FromPort: 4000, ToPort: 443}}
}

// A denied packet is told with whom it is about, by whichever end is the network's.
func TestDeniedIsToldOfWhom(t *testing.T) {
	h, lines := tellingHost(t)
	h.events.on, h.events.told = true, nil
	web, db := spec.BridgeName(netID(1)), spec.BridgeName(netID(2))
	forged := refusal(web, "", firewall.DeniedForged, "fd00:1::66", "2001:db8::9")
	forged.Port, forged.MAC = spec.VethName(epID(1)), "02:00:00:00:00:05"
	unread := firewall.Refusal{Reason: firewall.DeniedForged, In: web, MAC: "02:00:00:00:00:77", Headers: spec.Headers{Protocol: "arp"}}
	for _, tc := range []struct {
		what string
		told firewall.Refusal
		want []string // of the line
	}{
		{"from outside", refusal("eth0", web, firewall.DeniedUnpublished, "2001:db8::9", "fd00:1::5"),
			[]string{"network=" + netID(1), "endpoint=" + epID(1), "container=web", "direction=in", "from=[2001:db8::9]:4000", "to=[fd00:1::5]:443", "protocol=tcp", "reason=unpublished", `why="the port is not published`}},
		{"nobody's", refusal("eth0", web, firewall.DeniedNobody, "2001:db8::9", "fd00:1::77"), []string{"network=" + netID(1), "direction=in", "reason=nobody"}},
		{"to another network", refusal(web, db, firewall.DeniedIsolated, "fd00:1::5", "fd00:2::6"), []string{"container=web", "direction=out", "peer=db", "reason=isolated"}},
		{"forged", forged, []string{"container=web", "direction=out", "from=[fd00:1::66]:4000", "mac=02:00:00:00:00:05", "reason=forged"}},
		{"unreadable", unread, []string{"network=" + netID(1), "protocol=arp", "mac=02:00:00:00:00:77"}},
	} {
		lines.Reset()
		h.engine.Denied(t.Context(), tc.told)
		for _, word := range append(tc.want, `msg="firewall: denied"`) {
			if !strings.Contains(lines.String(), word) {
				t.Errorf("%s: no %s in %s", tc.what, word, lines)
			}
		}
		if len(tc.want) < 4 && strings.Contains(lines.String(), "container=") {
			t.Errorf("%s: it is nobody's: %s", tc.what, lines)
		}
	}
	told := h.events.told
	want := spec.Event{Type: spec.EventFirewall, What: "denied", Reason: "unpublished", Network: netID(1), Endpoint: epID(1), Container: "web",
		Source: ip("2001:db8::9"), Destination: ip("fd00:1::5"), Protocol: "tcp", Port: 443, Detail: firewall.DeniedUnpublished.Words()}
	if len(told) != 5 || told[0] != want || told[3].MAC.String() != "02:00:00:00:00:05" || told[3].Endpoint != epID(1) {
		t.Errorf("told: %+v, want five, the first %+v", told, want)
	}
	// What was told for a network that does not want it, or is gone, is late.
	lines.Reset()
	h.engine.Denied(t.Context(), refusal("eth0", db, firewall.DeniedUnpublished, "2001:db8::9", "fd00:2::6"))
	h.engine.Denied(t.Context(), refusal("eth0", "gone0", firewall.DeniedUnpublished, "2001:db8::9", "fd00:2::6"))
	if lines.Len() != 0 || len(h.events.told) != 5 {
		t.Errorf("late ones are told: %s", lines)
	}
}

// A flood gets few lines, and a sum of what had none. Nothing denied has no sum.
func TestDeniedFloodIsSummedUp(t *testing.T) {
	h, lines := tellingHost(t)
	web := spec.BridgeName(netID(1))
	flood := func(n int) (single int, sum string) {
		lines.Reset()
		for range n {
			h.engine.Denied(t.Context(), refusal("eth0", web, firewall.DeniedUnpublished, "2001:db8::9", "fd00:1::5"))
		}
		h.engine.DoChores(t.Context(), time.Now().Add(10*time.Second))
		for line := range strings.Lines(lines.String()) {
			if _, count, ok := strings.Cut(line, "packets="); ok {
				sum = strings.TrimSpace(count)
			} else {
				single++
			}
		}
		return single, sum
	}
	h.world.flooded = 1000 // in each of the three sets that count for it
	if single, sum := flood(30); single != 20 || sum != "2981" {
		t.Errorf("%d lines and a sum of %s, want 20 and 2981", single, sum)
	}
	h.world.flooded = 10                                // they have begun anew
	if _, sum := flood(1); sum != "32" && sum != "33" { // with or without a line, as long as that takes
		t.Errorf("a sum of %s after the counters have begun anew", sum)
	}
	if single, sum := flood(0); single != 0 || sum != "" {
		t.Errorf("nothing is denied: %d lines, sum %q", single, sum)
	}
}

// What was denied before is of no sum: not what the rules had counted before a start, at
// which they could not be made at first, nor that of others when a container has left.
func TestDeniedBeforeIsNotSummedUp(t *testing.T) {
	for name, happens := range map[string]func(h *host){
		"a start": func(h *host) { h.restart(t) },
		"a start without rules": func(h *host) {
			h.broken = "firewall: apply"
			h.restart(t)
			h.broken = ""
		},
		"a container leaves": func(h *host) {
			h.restart(t)
			must(t, h.engine.DeleteEndpoint(t.Context(), netID(1), epID(1)))
		},
	} {
		h, lines := tellingHost(t)
		h.world.flooded = 1000
		happens(h)
		h.engine.DoChores(t.Context(), time.Now().Add(10*time.Second))
		lines.Reset()
		h.engine.Denied(t.Context(), refusal("eth0", spec.BridgeName(netID(1)), firewall.DeniedUnpublished, "2001:db8::9", "fd00:1::5"))
		h.engine.DoChores(t.Context(), time.Now().Add(30*time.Second))
		if got := lines.String(); !strings.Contains(got, "reason=unpublished") || strings.Contains(got, "without a line") {
			t.Errorf("%s, and one packet is denied: %s", name, got)
		}
	}
}

// The group is listened to while a network wants it, and no longer.
func TestDenialsAreHeardWhileWanted(t *testing.T) {
	h, _ := tellingHost(t)
	if !h.world.hears || h.elements("logged") != `"`+spec.BridgeName(netID(1))+`"` || h.elements("logged_ports") != `"`+spec.VethName(epID(1))+`"` {
		t.Errorf("heard: %v, of %s and %s", h.world.hears, h.elements("logged"), h.elements("logged_ports"))
	}
	h.restart(t)
	if !h.world.hears {
		t.Error("after a restart nothing is heard")
	}
	must(t, h.engine.DeleteEndpoint(t.Context(), netID(1), epID(1)))
	must(t, h.engine.DeleteNetwork(t.Context(), netID(1)))
	if h.world.hears {
		t.Error("heard, and nobody wants it")
	}
}

// A kernel that cannot do it has the network refused; a group that another has makes it
// degraded, and it is well again when the group is free.
func TestDenialsThatCannotBeHeard(t *testing.T) {
	h := newHost(t)
	n := spec.Network{ID: netID(1), Options: spec.DefaultOptions(), IPv6: []spec.Subnet{{Prefix: pfx("fd00:1::/64")}}}
	n.Options.LogDenied = true
	h.world.unlogged = errors.New("no nft_log")
	if err := h.engine.CreateNetwork(t.Context(), n); err == nil || !strings.Contains(err.Error(), "option log_denied=on: no nft_log") {
		t.Errorf("%v, want a refusal", err)
	}
	h.world.unlogged, h.world.groupTaken = nil, errors.New("group 646 is another program's")
	must(t, h.engine.CreateNetwork(t.Context(), n))
	status := h.engine.Status(context.Background()).Networks[0]
	if !strings.Contains(status.Error, "log_denied=on: group 646") || h.elements("logged") != "" {
		t.Errorf("error %q, elements %q", status.Error, h.elements("logged"))
	}
	h.world.groupTaken = nil
	h.engine.DoChores(t.Context(), time.Now().Add(time.Minute))
	if status := h.engine.Status(context.Background()).Networks[0]; status.Error != "" || h.elements("logged") == "" || !h.world.hears {
		t.Errorf("error %q, elements %q", status.Error, h.elements("logged"))
	}
}
