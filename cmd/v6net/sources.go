package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"

	"github.com/v6net/v6net/internal/clock"
	"github.com/v6net/v6net/internal/kernel/dhcp6"
	"github.com/v6net/v6net/internal/kernel/icmp6"
	"github.com/v6net/v6net/internal/kernel/route"
	"github.com/v6net/v6net/internal/prefix/cloud"
	"github.com/v6net/v6net/internal/prefix/onlink"
	"github.com/v6net/v6net/internal/prefix/pd"
	"github.com/v6net/v6net/internal/prefix/sources"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/store"
)

// pdFlags are those of DHCPv6 prefix delegation. The length does not depend on what
// one network needs, since the next ones are to have room in it.
type pdFlags struct {
	Length   int    `help:"The length of prefix that DHCPv6 servers are asked for: 48 to 64." default:"56" env:"LENGTH"`
	Prefixes int    `help:"How many prefixes they are asked for on each link, where each is too small for several networks: 1 to 16." default:"1" env:"PREFIXES"`
	DUID     string `help:"The name of this host to DHCPv6 servers, in hexadecimal, where the provider binds the prefix to one; empty: one that v6net has made once." placeholder:"HEX" env:"DUID"`
}

// Validate is kong's.
func (f *pdFlags) Validate() error {
	switch {
	case f.Length < 48 || f.Length > 64:
		return errors.New("length must be 48 to 64")
	case f.Prefixes < 1 || f.Prefixes > 16:
		return errors.New("prefixes must be 1 to 16")
	case f.DUID != "":
		_, err := pd.ParseDUID(f.DUID)
		return err
	}
	return nil
}

// duid is the name of this host to DHCPv6 servers.
func (f *pdFlags) duid(journal *store.Store) ([]byte, error) {
	if f.DUID != "" {
		return pd.ParseDUID(f.DUID)
	}
	return journal.DUID(pd.NewDUID)
}

// iaids are the numbers of a link's prefixes.
func (f *pdFlags) iaids(journal *store.Store, link string) ([]uint32, error) {
	ids := make([]uint32, f.Prefixes)
	for i := range ids {
		name := link
		if i > 0 {
			name = fmt.Sprintf("%s/%d", link, i+1) // which is no link's name
		}
		var err error
		if ids[i], err = journal.IAID(name); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// newSources joins what lends prefixes with the links and the journal.
func newSources(journal *store.Store, flags pdFlags, boot string, c *clock.Clock, routes *route.Handle, changed sources.Changed, log *slog.Logger) (*sources.Supervisor, error) {
	duid, err := flags.duid(journal)
	if err != nil {
		return nil, err
	}
	leases, err := journal.DelegationLeases()
	if err != nil {
		return nil, err
	}
	startPD := func(link string, before spec.DelegationLease) (sources.Source, error) {
		iaids, err := flags.iaids(journal, link)
		if err != nil {
			return nil, err
		}
		return pd.New(pd.Config{
			Link: link, DUID: duid, IAID: iaids, Bits: flags.Length, Boot: boot, Lease: before, Now: c.Now, Log: log,
			Dial: func(ctx context.Context) (pd.Conn, error) { return dhcp6.Dial(ctx, link) },
		}), nil
	}
	startCloud := func(link string, before spec.DelegationLease) (sources.Source, error) {
		return cloud.New(cloud.Config{
			Link: link, Lease: before, DMI: os.DirFS(dmiFolder),
			MAC: func() (string, error) { return hardwareAddr(link) },
			Own: func() []netip.Addr { return addressesOf(link) },
			Listen: func(ctx context.Context, prefixes []netip.Prefix) (cloud.Traffic, error) {
				return icmp6.ListenFor(ctx, link, prefixes)
			},
		}), nil
	}
	startParent := func(link string, before spec.DelegationLease) (sources.Source, error) {
		return onlink.New(onlink.Config{
			Link: link, Lease: before, Now: c.Now,
			Read: func(ctx context.Context) ([]spec.OnLinkPrefix, bool, error) { return routes.OnLinkFor(ctx, link) },
		}), nil
	}
	return sources.New(sources.Config{
		Starters: map[spec.Source]sources.Starter{spec.SourcePD: startPD, spec.SourceCloud: startCloud, spec.SourceParent: startParent},
		Leases:   leases, Journal: leaseJournal{journal, c}, Changed: changed, Log: log,
	}), nil
}

// dmiFolder is where the kernel shows what the firmware says of the machine.
const dmiFolder = "/sys/class/dmi/id"

func hardwareAddr(link string) (string, error) {
	l, err := net.InterfaceByName(link)
	if err != nil {
		return "", fmt.Errorf("MAC address of %s: %w", link, err)
	}
	return l.HardwareAddr.String(), nil
}

// addressesOf are a link's own; none where it is not there.
func addressesOf(link string) (own []netip.Addr) {
	l, err := net.InterfaceByName(link)
	if err != nil {
		return nil
	}
	addrs, err := l.Addrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, p.Addr())
		}
	}
	return own
}
