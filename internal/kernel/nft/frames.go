package nft

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/firewall"
)

// probeFrames finds out once whether this kernel has tables for bridges
// (CONFIG_NF_TABLES_BRIDGE), by one that is there for a moment and sees nothing.
// Where it has none the rest is applied all the same: that containers can forge
// their addresses is bad, and that they can be reached by anyone is worse.
func (f *Firewall) probeFrames() error {
	if f.probed {
		return nil
	}
	policy := nftables.ChainPolicyAccept
	t := f.conn.AddTable(&nftables.Table{Name: firewall.Name + "-probe", Family: nftables.TableFamilyBridge})
	f.conn.AddChain(&nftables.Chain{Name: "probe", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityFilter, Policy: &policy})
	f.conn.DelTable(t)
	err := f.conn.Flush()
	// The one without the family, the other without its module.
	f.frameless = errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT)
	if err != nil && !f.frameless {
		return fmt.Errorf("find out whether nftables can filter on bridges: %w", err)
	}
	if f.frameless {
		f.log.Error("firewall: this kernel cannot filter on bridges (CONFIG_NF_TABLES_BRIDGE): containers can send from addresses that are not theirs; what only routers and DHCP servers send is kept back at their ports by eBPF, or not at all", "err", err)
	}
	f.probed = true
	return drain(f.socket)
}

// JudgesPorts reports whether frames are filtered where they come in, as far as is known:
// from Probe or the first ruleset on.
func (f *Firewall) JudgesPorts() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.frameless
}
