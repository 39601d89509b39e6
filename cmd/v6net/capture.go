package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/bpf"
	"golang.org/x/sync/errgroup"

	"github.com/v6net/v6net/internal/kernel/capture"
	"github.com/v6net/v6net/internal/pcapfilter"
	"github.com/v6net/v6net/internal/spec"
)

type captureCommand struct {
	daemonSocket
	What    string   `arg:"" help:"A container or a network: its name, or the beginning of its ID. network:NAME and container:NAME where both are called so."`
	Filter  []string `arg:"" optional:"" help:"Which packets, in a part of tcpdump's language: tcp port 80 and host NAME."`
	Network string   `help:"Of a container on several networks, this one alone." placeholder:"NETWORK"`
	Write   string   `short:"w" help:"Write pcapng to a file, or - for standard output; else packets are printed, one a line." placeholder:"FILE"`
	Count   int      `short:"c" help:"End after so many packets; 0: do not." default:"0"`
	Snaplen int      `short:"s" help:"How many bytes of each packet are taken, at the most." default:"262144"`
}

// maxSnaplen is the most that is taken of a packet: what capture files allow.
const maxSnaplen = 262144

// Validate is kong's.
func (c *captureCommand) Validate() error {
	switch {
	case c.Count < 0:
		return fmt.Errorf("--count=%d: allowed is 0 or more", c.Count)
	case c.Snaplen < 1 || c.Snaplen > maxSnaplen:
		return fmt.Errorf("--snaplen=%d: allowed is 1 to %d", c.Snaplen, maxSnaplen)
	}
	return nil
}

// Run captures until it is interrupted, or there were enough packets.
func (c *captureCommand) Run(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		return usageError{errors.New("capture opens packet sockets, in containers' network namespaces too: run this as root")}
	}
	status, err := c.status(ctx)
	if err != nil {
		return err
	}
	spots, err := findSpots(status, c.What, c.Network)
	if err != nil {
		return err
	}
	known := addressNames(status)
	program := func(header int) ([]bpf.Instruction, error) {
		link := pcapfilter.RawIP
		if header > 0 {
			link = pcapfilter.Ethernet
		}
		code, err := pcapfilter.Compile(strings.Join(c.Filter, " "), link, uint32(c.Snaplen), known.of)
		if err != nil {
			return nil, usageError{err}
		}
		return code, nil
	}
	for i := range spots {
		spots[i].source.Filter = program
		if spots[i].socket, err = capture.Open(ctx, spots[i].source); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", spots[i].words, err), closeSpots(spots))
		}
	}
	sink, err := c.sink(spots, known)
	if err != nil {
		return errors.Join(err, closeSpots(spots))
	}
	for _, s := range spots {
		fmt.Fprintf(os.Stderr, "v6net capture: on %s, %s\n", s.socket.Link, s.words)
	}
	return c.run(ctx, spots, sink)
}

// spot is a link that is captured on.
type spot struct {
	source capture.Source
	socket *capture.Socket
	words  string // what it is, for people
}

func closeSpots(spots []spot) error {
	var errs []error
	for _, s := range spots {
		if s.socket != nil {
			errs = append(errs, s.socket.Close())
		}
	}
	return errors.Join(errs...)
}

// findSpots are the links of what was named.
func findSpots(status spec.Status, what, only string) ([]spot, error) {
	name, isNetwork := strings.CutPrefix(what, "network:")
	name, isContainer := strings.CutPrefix(name, "container:")
	howNetwork, networks := find(name, status.Networks, networkNames)
	howContainer, containers := find(name, attachments(status), attachmentNames)
	switch { // what is called so goes before what has an ID that begins so
	case isContainer || !isNetwork && howContainer > howNetwork:
		networks = nil
	case isNetwork || howNetwork > howContainer:
		containers = nil
	}
	switch {
	case len(networks)+len(containers) == 0:
		return nil, notFound{fmt.Errorf("no network and no container of v6net's is called %q, nor has an ID that begins so (see them with `v6net status`)", what)}
	case len(networks) > 0 && len(containers) > 0:
		return nil, usageError{fmt.Errorf("a network and a container are called %q: say network:%s or container:%s", what, name, name)}
	case len(networks) > 1:
		return nil, ambiguous("network", name)
	case len(networks) == 1 && only != "":
		return nil, usageError{errors.New("--network is for a container on several networks")}
	case len(networks) == 1:
		return []spot{networkSpot(networks[0])}, nil
	default:
		return containerSpots(status, name, containers, only)
	}
}

// containerSpots are the links of a container: all of them, or that on one network alone.
func containerSpots(status spec.Status, name string, of []attachment, only string) ([]spot, error) {
	var on []string // of the networks
	for _, a := range of {
		on = append(on, cmp.Or(a.network.Name, spec.ShortID(a.network.ID)))
	}
	if only != "" {
		network, err := findNetwork(status, only)
		if err != nil {
			return nil, fmt.Errorf("--network: %w; container %s is on %s", err, name, strings.Join(on, ", "))
		}
		of = slices.DeleteFunc(of, func(a attachment) bool { return a.network.ID != network.ID })
		if len(of) == 0 {
			return nil, notFound{fmt.Errorf("container %s is not on network %s, but on %s", name, cmp.Or(network.Name, spec.ShortID(network.ID)), strings.Join(on, ", "))}
		}
	}
	here := slices.DeleteFunc(slices.Clone(of), func(a attachment) bool { return !a.Joined || a.Sandbox == "" })
	if len(here) == 0 {
		a := of[0]
		return nil, notFound{fmt.Errorf("container %s has left network %s", called(a.ID, a.Name), called(a.network.ID, a.network.Name))}
	}
	if !sameHolder(here) {
		return nil, ambiguous("container", name)
	}
	var spots []spot
	for _, a := range here {
		spots = append(spots, spot{
			source: capture.Source{Sandbox: a.Sandbox, Alias: spec.EndpointAlias(a.ID)},
			words:  fmt.Sprintf("container %s on network %s", cmp.Or(a.Name, spec.ShortID(a.ID)), cmp.Or(a.network.Name, spec.ShortID(a.network.ID))),
		})
	}
	return spots, nil
}

// networkSpot is a network's bridge, or its parent where there is none.
func networkSpot(n spec.NetworkStatus) spot {
	s := spot{source: capture.Source{Link: n.Bridge, Promiscuous: true}, words: "bridge of network " + cmp.Or(n.Name, spec.ShortID(n.ID))}
	if n.Bridge == "" {
		s.source.Link, s.words = n.Parent, "parent of network "+cmp.Or(n.Name, spec.ShortID(n.ID))
	}
	return s
}

// nameTable is what addresses are called.
type nameTable struct {
	order []netip.Addr
	names map[netip.Addr]string
}

// addressNames are those of all containers and gateways.
func addressNames(status spec.Status) nameTable {
	t := nameTable{names: map[netip.Addr]string{}}
	add := func(a netip.Addr, name string) {
		if _, known := t.names[a]; a.IsValid() && !known {
			t.order, t.names[a] = append(t.order, a), name
		}
	}
	for _, n := range status.Networks {
		for _, ep := range n.Endpoints {
			for _, a := range n.HasOf(ep) {
				add(a, cmp.Or(ep.Name, spec.ShortID(ep.ID)))
			}
		}
		for _, s := range n.PresentSubnets() {
			add(s.Gateway, cmp.Or(n.Name, spec.ShortID(n.ID))+".gateway")
		}
	}
	return t
}

// of are the addresses of a name.
func (t nameTable) of(name string) (addrs []netip.Addr) {
	for _, a := range t.order {
		if t.names[a] == name {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// name is what an address is called, or itself.
func (t nameTable) name(a netip.Addr) string { return cmp.Or(t.names[a], a.String()) }

// sink takes what is captured.
type sink interface {
	// put takes a frame of one of the spots.
	put(spot int, f capture.Frame) error
	// end is told how much each spot has had and lost.
	end(received, dropped []uint64) error
}

func (c *captureCommand) sink(spots []spot, known nameTable) (sink, error) {
	if c.Write == "" {
		return &linePrinter{w: os.Stdout, spots: spots, names: known}, nil
	}
	out, end := io.Writer(os.Stdout), func() error { return nil }
	if c.Write != "-" {
		file, err := os.OpenFile(c.Write, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600) // what people say to each other
		if err != nil {
			return nil, fmt.Errorf("write what is captured: %w", err)
		}
		out, end = file, file.Close
	} else if isTerminal(os.Stdout) {
		return nil, usageError{errors.New("-w - writes pcapng, which is not for a terminal: pipe it into a program, as tshark -r -")}
	}
	return newFileWriter(out, end, spots, known, strings.Join(c.Filter, " "), c.Snaplen)
}

// run passes frames on until ctx ends or there are enough.
func (c *captureCommand) run(ctx context.Context, spots []spot, out sink) error {
	tasks, ctx := errgroup.WithContext(ctx)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex // one writes at a time
	taken := 0
	for i, s := range spots {
		tasks.Go(func() error {
			defer context.AfterFunc(ctx, func() { s.socket.Interrupt() })()
			for {
				f, err := s.socket.Next()
				if ctx.Err() != nil {
					return nil
				}
				if err != nil {
					return fmt.Errorf("%s: %w", s.words, err)
				}
				mu.Lock()
				if c.Count == 0 || taken < c.Count {
					err = out.put(i, f)
					taken++
				}
				if c.Count > 0 && taken >= c.Count {
					cancel()
				}
				mu.Unlock()
				if err != nil {
					return err
				}
			}
		})
	}
	err := tasks.Wait()
	received, dropped := make([]uint64, len(spots)), make([]uint64, len(spots))
	lost := uint64(0)
	for i, s := range spots {
		var failed error
		received[i], dropped[i], failed = s.socket.Count()
		err = errors.Join(err, failed)
		lost += dropped[i]
	}
	err = errors.Join(err, out.end(received, dropped), closeSpots(spots))
	fmt.Fprintf(os.Stderr, "v6net capture: %s captured, %d dropped by the kernel for want of room\n", several(taken, "packet"), lost)
	return err
}

// linePrinter prints frames for people.
type linePrinter struct {
	w     io.Writer
	spots []spot
	names nameTable
}

func (p *linePrinter) put(at int, f capture.Frame) error {
	var b bytes.Buffer
	b.WriteString(f.Time.Local().Format("15:04:05.000000") + "  ")
	if len(p.spots) > 1 {
		b.WriteString(p.spots[at].socket.Link + "  ")
	}
	b.WriteString(printable(packetWords(f, p.spots[at].socket.Header, p.names)) + "\n")
	_, err := p.w.Write(b.Bytes())
	return err
}

func (p *linePrinter) end([]uint64, []uint64) error { return nil }
