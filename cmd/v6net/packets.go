package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/v6net/v6net/internal/engine"
	"github.com/v6net/v6net/internal/kernel/ip6tables"
	"github.com/v6net/v6net/internal/kernel/nft"
)

// packetFilter keeps the rules in the kernel.
type packetFilter interface {
	engine.Firewall
	engine.Inspector
	Watch(context.Context) error
	Close() error
}

// filters are the ways to do so, each with what removes what it has left.
type filters struct {
	nftables, ip6tables           func(context.Context) (packetFilter, error)
	sweepNFTables, sweepIP6Tables func(context.Context) error
	log                           *slog.Logger
}

func kernelFilters(log *slog.Logger) filters {
	var kept *ip6tables.Firewall
	var taken *nft.Firewall
	return filters{
		nftables: func(ctx context.Context) (packetFilter, error) {
			f, err := nft.New(log)
			if err != nil {
				return nil, err
			}
			if err := f.Probe(ctx); err != nil {
				return nil, errors.Join(err, f.Close())
			}
			taken = f
			return f, nil
		},
		ip6tables: func(ctx context.Context) (packetFilter, error) {
			f, err := ip6tables.New(ctx, log)
			if err != nil {
				return nil, err
			}
			kept = f
			log.Info("firewall: rules are kept by ip6tables and iptables", "variant", f.Variant())
			return f, nil
		},
		sweepNFTables: func(ctx context.Context) error { return nft.Sweep(ctx, log) },
		sweepIP6Tables: func(ctx context.Context) error {
			err := ip6tables.Sweep(ctx, kept)
			if taken != nil {
				err = errors.Join(err, taken.Swept())
			}
			return err
		},
		log: log,
	}
}

// open takes the one that is wanted: auto is nftables where the kernel has it, and what
// else may go wrong there is no reason to make do with less. sweep removes what an earlier
// daemon has left by another.
func (k filters) open(ctx context.Context, wanted string) (f packetFilter, sweep func(context.Context) error, err error) {
	var why error
	if wanted != "ip6tables" {
		if f, why = k.nftables(ctx); why == nil {
			return f, k.sweepIP6Tables, nil
		}
		if !errors.Is(why, nft.ErrUnavailable) {
			return nil, nil, fmt.Errorf("open nftables: %w", why)
		}
		if wanted == "nftables" {
			return nil, nil, fmt.Errorf("--firewall=nftables: this kernel has no nftables: %w", why)
		}
		k.log.Info("firewall: this kernel has no nftables, taking ip6tables", "because", why)
	}
	if f, err = k.ip6tables(ctx); err == nil {
		return f, func(ctx context.Context) error { return errors.Join(k.sweepNFTables(ctx), k.sweepIP6Tables(ctx)) }, nil
	}
	if wanted == "ip6tables" {
		return nil, nil, fmt.Errorf("--firewall=ip6tables: neither iptables-nft nor iptables-legacy works here: %w", err)
	}
	return nil, nil, fmt.Errorf("nothing here can keep containers closed: this kernel has no nftables (%w), and ip6tables and iptables do not work either (modprobe -a ip_tables ip6_tables; for every start of the machine, both names in /etc/modules-load.d/v6net.conf): %w", why, err)
}
