package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
)

const (
	// settleTime lets a program finish: iptables-restore and a starting Docker
	// change a table many times in a row.
	settleTime = 100 * time.Millisecond
	// retryTime is the wait after a restoration that failed.
	retryTime = time.Second
	// calmTime is for how long after a restoration our own tables are not restored at
	// once: whoever deletes them again and again does not keep us busy.
	calmTime = time.Second
)

// Watch puts our table and our rule in foreign chains back whenever another
// program has changed them, as long as a ruleset is applied: our table at once, since
// containers are open to everybody while it is gone and nobody but us has anything to do
// there, and the rule when that program has finished. It listens and does not poll; of
// changes by f itself it hears nothing. It returns nil when ctx ends.
func (f *Firewall) Watch(ctx context.Context) error {
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return f.legacy.Watch(ctx) })
	tasks.Go(func() error { return f.watch(ctx) })
	return tasks.Wait()
}

func (f *Firewall) watch(ctx context.Context) error {
	// A read ends when ctx does.
	stop := context.AfterFunc(ctx, func() { _ = f.events.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()

	// What others did before [New] listened is looked for at once; what they did since is
	// in the socket.
	pending, due := change{chain: true}, time.Now()
	var calm time.Time // until then nothing is restored at once
	for {
		if err := f.events.SetReadDeadline(due); err != nil {
			return fmt.Errorf("set deadline for nftables events: %w", err)
		}
		// After the deadline is set, or it would hide the one of the end.
		if ctx.Err() != nil {
			return nil
		}
		msgs, err := f.events.Receive()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if ctx.Err() != nil {
				return nil
			}
			due = time.Time{}
			if pending.table {
				calm = time.Now().Add(f.calmTime)
			}
			if err := f.restore(pending.table); err != nil {
				f.log.Error("firewall: cannot restore our rules", "err", err, "retry_in", retryTime)
				due = time.Now().Add(retryTime)
				continue
			}
			pending = change{}
			continue
		case errors.Is(err, unix.ENOBUFS):
			pending.merge(change{table: true, chain: true}) // events were lost
		case err != nil:
			return fmt.Errorf("receive nftables events: %w", err)
		}
		var heard change
		for _, m := range msgs {
			heard.merge(changeOf(m))
		}
		pending.merge(heard)
		switch now := time.Now(); {
		case pending == (change{}):
		case heard.table && now.After(calm):
			due = now
		case due.IsZero():
			due = now.Add(f.settleTime)
		}
	}
}

// change is what of ours an event may have touched.
type change struct {
	table bool // our table
	chain bool // a chain that our rule is or should be in
	other bool // a chain or rule of another table, which may be an obstacle
}

func (c *change) merge(other change) {
	c.table = c.table || other.table
	c.chain = c.chain || other.chain
	c.other = c.other || other.other
}

// protocols are the families of our tables in events.
var protocols = []byte{unix.NFPROTO_INET, unix.NFPROTO_IPV4, unix.NFPROTO_BRIDGE}

// structural are the kinds of messages about chains and rules; elements of sets come and go.
var structural = map[netlink.HeaderType]bool{
	unix.NFT_MSG_NEWCHAIN: true, unix.NFT_MSG_DELCHAIN: true, unix.NFT_MSG_NEWRULE: true, unix.NFT_MSG_DELRULE: true,
}

// changeOf reads the table from an event. It is the first attribute of every
// kind of message but NFT_MSG_NEWGEN, which has its own (enum
// nft_table_attributes and its like in include/uapi/linux/netfilter/nf_tables.h).
func changeOf(m netlink.Message) change {
	const familyBytes = 4 // struct nfgenmsg
	kind := m.Header.Type
	if kind>>8 != unix.NFNL_SUBSYS_NFTABLES || kind&0xff == unix.NFT_MSG_NEWGEN || len(m.Data) < familyBytes {
		return change{}
	}
	attributes, err := netlink.NewAttributeDecoder(m.Data[familyBytes:])
	if err != nil {
		return change{table: true, chain: true}
	}
	attributes.ByteOrder = binary.BigEndian
	for attributes.Next() {
		if attributes.Type() != unix.NFTA_TABLE_NAME {
			continue
		}
		switch name, family := attributes.String(), m.Data[0]; {
		case name == firewall.Name && slices.Contains(protocols, family):
			return change{table: true}
		case name == foreignTable && (family == unix.NFPROTO_IPV4 || family == unix.NFPROTO_IPV6):
			return change{chain: true}
		}
		return change{other: structural[kind&0xff]}
	}
	if attributes.Err() != nil {
		return change{table: true, chain: true}
	}
	return change{}
}
