package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/v6net/v6net/internal/kernel/dhcp6"
	"github.com/v6net/v6net/internal/prefix/cloud"
	"github.com/v6net/v6net/internal/prefix/pd"
	"github.com/v6net/v6net/internal/prefix/sources"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/internal/store"
)

// pdBits is the length of prefix that a DHCPv6 server is asked for, whatever one
// network needs: the next networks are to have room in it. It is what most providers
// lend (RIPE 690 §4.2), and a hint.
const pdBits = 56

// newSources joins what lends prefixes with the links and the journal.
func newSources(journal *store.Store, boot string, changed sources.Changed, log *slog.Logger) (*sources.Supervisor, error) {
	duid, err := journal.DUID(pd.NewDUID)
	if err != nil {
		return nil, err
	}
	leases, err := journal.DelegationLeases()
	if err != nil {
		return nil, err
	}
	startPD := func(link string, bits int, before spec.DelegationLease) (sources.Source, error) {
		iaid, err := journal.IAID(link)
		if err != nil {
			return nil, err
		}
		return pd.New(pd.Config{
			Link: link, DUID: duid, IAID: []uint32{iaid}, Bits: min(bits, pdBits), Boot: boot, Lease: before, Log: log,
			Dial: func(ctx context.Context) (pd.Conn, error) { return dhcp6.Dial(ctx, link) },
		}), nil
	}
	startCloud := func(link string, _ int, before spec.DelegationLease) (sources.Source, error) {
		return cloud.New(cloud.Config{
			Link: link, Lease: before, DMI: os.DirFS(dmiFolder),
			MAC: func() (string, error) { return hardwareAddr(link) },
		}), nil
	}
	return sources.New(sources.Config{
		Starters: map[spec.Source]sources.Starter{spec.SourcePD: startPD, spec.SourceCloud: startCloud},
		Leases:   leases, Journal: journal, Changed: changed, Log: log,
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

// linksUp are the links that are up and have a carrier. Where the host does not say,
// none are known to be.
func linksUp() map[string]bool {
	up := map[string]bool{}
	links, err := net.Interfaces()
	if err != nil {
		return up
	}
	for _, l := range links {
		if l.Flags&net.FlagUp != 0 && l.Flags&net.FlagRunning != 0 {
			up[l.Name] = true
		}
	}
	return up
}
