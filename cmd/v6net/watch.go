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
	"github.com/v6net/v6net/internal/kernel/netns"
	"github.com/v6net/v6net/internal/names"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/ndproxy"
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

const (
	// retryWait is how long watch waits between two looks for a daemon.
	retryWait = time.Second
	// endTime is how long a daemon may take to end that has said that it does.
	endTime = 10 * time.Second
)

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
	docker := elsewhere.Usual().Docker
	v := &viewer{command: c, out: os.Stdout, screen: screenOf(os.Stdout), names: func(ctx context.Context) (names.Directory, error) { return names.OfDocker(ctx, docker) }}
	var met bool        // one was watched,
	var last string     // with this claim, unless it has it in another network namespace,
	var ended time.Time // until then
	for again := false; ; again = true {
		var err error
		if !again || met && last == "" || c.another(last, ended) {
			err = c.once(ctx, filter, v, again, func() {
				met = true
				last, _ = netns.Claimant(claimName)
			}, say)
		} else {
			err = control.NotFound()
		}
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
		if errors.Is(err, control.ErrEnded) {
			ended = time.Now()
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

// another reports whether there is another daemon to call at than the last one. Systemd
// would start one for a call, and also for one that came while the last one is stopped.
func (c *watchCommand) another(last string, ended time.Time) bool {
	if c.Socket != "" && c.Socket != control.SocketPath {
		return true // which systemd knows nothing of
	}
	now, err := netns.Claimant(claimName)
	return err != nil || now != "" && (now != last || time.Since(ended) > endTime)
}

// once watches one daemon.
func (c *watchCommand) once(ctx context.Context, filter control.Filter, v *viewer, again bool, met func(), say func(string, ...any)) error {
	client, err := c.client(ctx)
	if err != nil {
		return err
	}
	if err := v.choose(ctx, client); err != nil {
		return err
	}
	began := func() {
		met()
		if again {
			say("the daemon is there again; what happened meanwhile is not shown")
		}
	}
	// What waits for a name is shown by another goroutine, whose error ends this one.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err = client.Watch(ctx, filter, began, func(e spec.Event) error { return v.show(ctx, cancel, e) })
	cause := context.Cause(ctx)
	if last := v.forget(ctx); errors.Is(last, errEnough) {
		return last
	}
	return cmp.Or(cause, err)
}

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
		if e.Reason == ndproxy.Advertised.String() {
			add("%s advertised by %s%s", e.Address, who, on)
			break
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
