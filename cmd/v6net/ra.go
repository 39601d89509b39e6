package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/v6net/v6net/internal/kernel/icmp6"
	"github.com/v6net/v6net/internal/ra"
	"github.com/v6net/v6net/internal/spec"
)

type raCommand struct {
	Watch raWatchCommand `cmd:"" help:"Print the router advertisements on an interface, as they come."`
}

type raWatchCommand struct {
	Interface string `arg:"" help:"A bridge of v6net's, a parent link, or any other of the Ethernet kind."`
}

// Run prints advertisements, those of this host included, until it is interrupted.
func (c raWatchCommand) Run(ctx context.Context) error {
	return icmp6.WatchAdvertisements(ctx, c.Interface, func(from ra.Received, message []byte) {
		printAdvertisement(os.Stdout, time.Now(), from, message)
	})
}

// printAdvertisement writes one for people. One that hosts must discard
// (RFC 4861 §6.1.2) is named with the reason, and not read.
func printAdvertisement(w io.Writer, at time.Time, from ra.Received, message []byte) {
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) } //nolint:errcheck // a terminal that has gone
	head := fmt.Sprintf("%s from %s", at.Format(time.TimeOnly), from.Source)
	if v := ra.Judge(message, from); v != ra.Heard {
		p("%s: invalid: %s", head, strings.ReplaceAll(string(v), "_", " "))
		return
	}
	d := ra.Decode(message)
	if d.HardwareAddr != nil {
		head += " (" + d.HardwareAddr.String() + ")"
	}
	p("%s: %s", head, strings.Join(headerWords(d.Advertisement), ", "))
	for _, line := range advertisedLines(d.Advertisement) {
		p("  %s", line)
	}
	if d.Unknown > 0 {
		p("  %d other options", d.Unknown)
	}
}

func headerWords(a spec.Advertisement) []string {
	words := []string{routerWord(a)}
	if a.HopLimit != 0 {
		words = append(words, fmt.Sprintf("hop limit %d", a.HopLimit))
	}
	if a.MTU != 0 {
		words = append(words, fmt.Sprintf("MTU %d", a.MTU))
	}
	return append(words, flagWords(a)...)
}

func flagWords(a spec.Advertisement) (words []string) {
	if a.Managed {
		words = append(words, "managed (M)")
	}
	if a.Other {
		words = append(words, "other (O)")
	}
	return words
}

func routerWord(a spec.Advertisement) string {
	if a.RouterLifetime == 0 {
		return "no default router"
	}
	return fmt.Sprintf("default router for %s%s", lifetime(a.RouterLifetime), preferenceWord(a.Preference))
}

// advertisedLines are an advertisement's options, for people.
func advertisedLines(a spec.Advertisement) []string {
	var lines []string
	for _, p := range a.Prefixes {
		lines = append(lines, fmt.Sprintf("prefix %s, %s%s", p.Prefix, prefixFlags(p), lifetimes(p)))
	}
	for _, r := range a.Routes {
		if r.Lifetime == 0 {
			lines = append(lines, fmt.Sprintf("route %s, withdrawn", r.Prefix))
			continue
		}
		lines = append(lines, fmt.Sprintf("route %s for %s%s", r.Prefix, lifetime(r.Lifetime), preferenceWord(r.Preference)))
	}
	for _, s := range a.DNS {
		lines = append(lines, "DNS server "+s.Value.String()+lasting(s.Lifetime))
	}
	for _, s := range a.Search {
		lines = append(lines, "DNS search domain "+plain(s.Value)+lasting(s.Lifetime))
	}
	for _, p := range a.PREF64 {
		lines = append(lines, "NAT64 prefix "+p.Value.String()+lasting(p.Lifetime))
	}
	if a.CaptivePortal != "" {
		lines = append(lines, "captive portal "+plain(a.CaptivePortal))
	}
	return lines
}

// plain is text that came from the wire, as a terminal can have it: in quotes and
// escaped where there is more in it than visible ASCII, of which neither a control
// sequence nor a line of output can be made.
func plain(s string) string {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return strconv.QuoteToASCII(s)
		}
	}
	return s
}

// lasting says how long something is in use.
func lasting(s spec.Seconds) string {
	if s == 0 {
		return ", withdrawn"
	}
	return " for " + lifetime(s)
}

func prefixFlags(p spec.AdvertisedPrefix) string {
	var s string
	for _, flag := range []struct {
		set  bool
		word string
	}{{p.OnLink, "on-link (L), "}, {p.Autonomous, "SLAAC (A), "}, {p.Router, "router's address (R), "}, {p.Delegating, "delegating (P), "}} {
		if flag.set {
			s += flag.word
		}
	}
	return s
}

func lifetimes(p spec.AdvertisedPrefix) string {
	if p.Valid == 0 {
		return "withdrawn"
	}
	return fmt.Sprintf("valid %s, preferred %s", lifetime(p.Valid), lifetime(p.Preferred))
}

func lifetime(s spec.Seconds) string {
	if s == 0xffffffff {
		return "ever"
	}
	return s.Duration().String()
}

func preferenceWord(p spec.Preference) string {
	if p == spec.PreferenceMedium {
		return ""
	}
	return ", preference " + string(p)
}
