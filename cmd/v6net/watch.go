package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/v6net/v6net/internal/control"
	elsewhere "github.com/v6net/v6net/internal/doctor/outside"
	"github.com/v6net/v6net/internal/names"
	"github.com/v6net/v6net/internal/spec"
)

type watchCommand struct {
	daemonSocket
	Type      []string `help:"Only these types of events: ndp, ra, lease, prefix, pool, network, endpoint, renumber, firewall." placeholder:"TYPE"`
	Network   string   `help:"Only events of this network: its name, or the beginning of its ID." placeholder:"NETWORK"`
	Container string   `help:"Only events of this container: its name, or the beginning of its ID or its endpoint's." placeholder:"CONTAINER"`
	Source    string   `help:"Only what was sent from this address or prefix." placeholder:"PREFIX"`
	Count     int      `help:"End after so many events; 0: do not." default:"0"`
	Retry     bool     `help:"When the daemon ends, wait for the next one; else watch ends with status 3."`
	JSON      bool     `help:"Print JSON, one event a line."`
}

// retryWait is how long watch waits between two looks for a daemon.
const retryWait = time.Second

// namesWait is the least between two questions about names.
const namesWait = time.Second

// Validate is kong's.
func (c *watchCommand) Validate() error {
	if c.Count < 0 {
		return fmt.Errorf("--count=%d: allowed is 0 or more", c.Count)
	}
	_, err := c.filter()
	return err
}

// filter is what the daemon is asked for.
func (c *watchCommand) filter() (f control.Filter, err error) {
	for _, t := range c.Type {
		if err := spec.CheckEventType(spec.EventType(t)); err != nil {
			return f, fmt.Errorf("--type: %w", err)
		}
		f.Types = append(f.Types, spec.EventType(t))
	}
	if c.Source != "" {
		if f.Source, err = parseHosts(c.Source); err != nil {
			return f, fmt.Errorf("--source: %w", err)
		}
	}
	return f, nil
}

// parseHosts reads a prefix, or an address, which is the prefix of it alone.
func parseHosts(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is not allowed (allowed: an address, as 2001:db8::1, or a prefix, as 2001:db8::/64)", text)
	}
	return p.Masked(), nil
}

// errEnough ends the watching after --count.
var errEnough = errors.New("enough")

// Run prints events until it is interrupted, the daemon ends, or there were enough.
func (c *watchCommand) Run(ctx context.Context) error {
	filter, err := c.filter()
	if err != nil {
		return err
	}
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, "v6net watch: "+format+"\n", args...) }
	v := &viewer{command: c, out: os.Stdout, screen: screenOf(os.Stdout), docker: elsewhere.Usual().Docker}
	for again := false; ; again = true {
		err := c.once(ctx, filter, v, again, say)
		switch {
		case errors.Is(err, errEnough):
			return nil
		case ctx.Err() != nil:
			say("interrupted after %s", v.summary())
			return nil
		case !errors.Is(err, control.ErrEnded) && !errors.Is(err, control.ErrNoDaemon):
			return err
		case !c.Retry:
			if errors.Is(err, control.ErrEnded) {
				return fmt.Errorf("%w; %s until then", err, v.summary())
			}
			return err
		}
		if errors.Is(err, control.ErrEnded) || !again {
			say("%v; waiting for the next one", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryWait):
		}
	}
}

// once watches one daemon.
func (c *watchCommand) once(ctx context.Context, filter control.Filter, v *viewer, again bool, say func(string, ...any)) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	began := func() {
		if again {
			say("the daemon is there again; what happened meanwhile is not shown")
		}
	}
	return client.Watch(ctx, filter, began, func(e spec.Event) error { return v.show(ctx, e) })
}

// viewer prints events.
type viewer struct {
	command     *watchCommand
	out         *os.File
	screen      screen
	docker      string // its API's socket
	names       names.Directory
	asked       time.Time // when they were
	shown, lost uint64
}

func (v *viewer) summary() string {
	text := several(int(v.shown), "event")
	if v.lost > 0 {
		text += fmt.Sprintf(", and %d lost", v.lost)
	}
	return text
}

// show prints an event if it is wanted.
func (v *viewer) show(ctx context.Context, e spec.Event) error {
	v.lost += e.Lost
	v.name(ctx, &e)
	if !v.wanted(e) {
		return nil
	}
	var err error
	if v.command.JSON {
		err = printLine(v.out, e)
	} else {
		_, err = v.out.WriteString(eventLine(v.screen, e))
	}
	if err != nil {
		return err
	}
	if v.shown++; v.shown == uint64(v.command.Count) {
		return errEnough
	}
	return nil
}

// name adds what Docker knows and the daemon does not. It is asked again when there is
// something new, but not for each event of a flood.
func (v *viewer) name(ctx context.Context, e *spec.Event) {
	if v.names.Event(e); !v.names.Lacks(*e) || time.Since(v.asked) < namesWait {
		return
	}
	if asked, err := names.OfDocker(ctx, v.docker); err == nil {
		v.names = asked
	}
	v.asked = time.Now()
	v.names.Event(e)
}

// wanted reports whether an event is of the network and container that were asked for.
func (v *viewer) wanted(e spec.Event) bool {
	if e.Type == spec.EventLost {
		return true
	}
	is := func(wanted, name string, ids ...string) bool { return wanted == "" || named(wanted, name, ids...) }
	return is(v.command.Network, e.NetworkName, e.Network) &&
		is(v.command.Container, e.Container, e.Endpoint, v.names.Containers[e.Endpoint].ID)
}

// shortestID is how much of an ID says which one is meant.
const shortestID = 4

// eventLine is an event for people: when, what, whose, and the rest.
func eventLine(s screen, e spec.Event) string {
	if e.Type == spec.EventLost {
		return s.paint(fmt.Sprintf("%s  %d events lost: this reader is too slow\n", e.Time.Local().Format(eventTime), e.Lost), red)
	}
	return fmt.Sprintf("%s  %s  %s  %s  %s\n", e.Time.Local().Format(eventTime), pad(string(e.Type), 8),
		s.paint(pad(printable(e.What), 10), eventColour(e)), s.paint(pad(printable(eventOwner(e)), 20), bold), printable(eventWords(e)))
}

const eventTime = "15:04:05.000"

// eventColour says how good or bad an event is.
func eventColour(e spec.Event) string {
	switch e.What {
	case "denied", "degraded", "lost":
		return red
	case "dropped", "deprecated", "removed", "withdrawn":
		return yellow
	case "answered", "gained", "added", "joined", "well again", "restored":
		return green
	case "ignored":
		return dim
	default:
		return ""
	}
}

// eventOwner is whose an event is: a container, on a network.
func eventOwner(e spec.Event) string {
	var words []string
	if w := cmp.Or(e.Container, spec.ShortID(e.Endpoint)); w != "" {
		words = append(words, w)
	}
	if w := cmp.Or(e.NetworkName, spec.ShortID(e.Network)); w != "" {
		words = append(words, w)
	}
	return cmp.Or(strings.Join(words, "/"), "-")
}

// eventWords are the rest.
func eventWords(e spec.Event) string {
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	on := ""
	if e.Link != "" {
		on = " on " + e.Link
	}
	switch e.Type {
	case spec.EventNDP:
		if e.Lost > 0 {
			add("%d frames%s: %s", e.Lost, on, e.Reason)
			break
		}
		who := senderWord(e)
		if e.Source.IsUnspecified() {
			who = "duplicate address detection of " + e.MAC.String()
		}
		add("%s asked for by %s%s: %s", e.Address, who, on, strings.ReplaceAll(e.Reason, "_", " "))
	case spec.EventRA:
		switch {
		case e.What == "solicited":
			add("by %s%s", senderWord(e), on)
		case e.Advertisement == nil:
			add("from %s%s: %s", senderWord(e), on, strings.ReplaceAll(e.Reason, "_", " "))
		default:
			to := ""
			if e.Destination.IsValid() {
				to = " to " + e.Destination.String()
			}
			add("from %s%s%s: %s", senderWord(e), to, on, strings.Join(append(headerWords(*e.Advertisement), advertisedLines(*e.Advertisement)...), ", "))
		}
	case spec.EventFirewall:
		port := e.Protocol
		if e.Port != 0 {
			port += fmt.Sprintf(" port %d", e.Port)
		}
		add("%s to %s, %s", e.Source, e.Destination, port)
		if e.Reason != "" {
			add("(%s)", e.Reason)
		}
	case spec.EventLease:
		add("%s of %s", e.Address, e.Prefix)
	case spec.EventPrefix, spec.EventRenumber, spec.EventPool:
		add("%s", e.Prefix)
		if !e.Until.IsZero() {
			add("until %s", e.Until.Local().Format(time.DateTime))
		}
		if e.Type == spec.EventPrefix {
			add("by %s%s", e.Reason, on)
		} else if e.Reason != "" {
			add("by %s", e.Reason)
		}
		if e.Detail != "" {
			add("(%s)", e.Detail)
		}
	default:
		if e.Address.IsValid() {
			add("%s", e.Address)
		}
		if e.Link != "" {
			add("%s", e.Link)
		}
		if e.Reason != "" {
			add("%s", e.Reason)
		}
	}
	return strings.Join(words, " ")
}

// senderWord is who sent.
func senderWord(e spec.Event) string {
	if e.MAC == (spec.MAC{}) {
		return e.Source.String()
	}
	return fmt.Sprintf("%s (%s)", e.Source, e.MAC)
}
