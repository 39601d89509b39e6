package nft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"

	"github.com/v6net/v6net/internal/firewall"
	"github.com/v6net/v6net/internal/kernel/ip6tables"
)

// Firewall is the kernel's side of the firewall in one network namespace. Its
// methods may be called from any goroutine.
type Firewall struct {
	log    *slog.Logger
	events *netlink.Conn
	legacy *ip6tables.Accepts // for the filter tables of iptables-legacy, where nftables does not reach

	mu      sync.Mutex // held over a whole operation: they share conn
	conn    *nftables.Conn
	socket  *netlink.Conn // conn's own
	applied *firewall.Ruleset
	// unplaced is why our rule in the foreign chains of a family could not be changed.
	unplaced map[nftables.TableFamily]error
	// obstructed are the chains that have been logged as obstacles.
	obstructed map[string]bool
	certain    bool // the kernel's tables are what applied says, unless they have been removed
	// frameless: this kernel has no tables for bridges, so that nobody judges what
	// containers send. probed: that is known.
	frameless, probed bool
	swept             bool // what ip6tables has kept until now is gone, or should be

	settleTime, calmTime time.Duration
}

// New opens the netlink sockets in the network namespace of the calling thread,
// where they stay, and changes nothing. It needs CAP_NET_ADMIN there. The error matches
// [ErrUnavailable] where the kernel has no nftables.
func New(log *slog.Logger) (*Firewall, error) {
	conn, socket, err := dial()
	if err != nil {
		return nil, err
	}
	events, err := dialEvents(socket)
	if err != nil {
		return nil, errors.Join(err, conn.CloseLasting())
	}
	legacy, err := ip6tables.NewAccepts(log, "legacy")
	if err != nil {
		return nil, errors.Join(err, conn.CloseLasting(), events.Close())
	}
	return &Firewall{log: log, events: events, legacy: legacy, conn: conn, socket: socket, unplaced: map[nftables.TableFamily]error{}, settleTime: settleTime, calmTime: calmTime}, nil
}

// Close closes the sockets. What is in the kernel stays there.
func (f *Firewall) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.conn.CloseLasting(), f.events.Close(), f.legacy.Close())
}

// Apply makes the kernel hold the ruleset, in one atomic step: no packet meets
// a part of it. Where only elements differ from the last one, only they change,
// and counters go on; else the table is replaced. Connections stay.
//
// When Apply returns an error the table is as it was; it can be called again.
func (f *Firewall) Apply(ctx context.Context, want firewall.Ruleset) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := drain(f.socket); err != nil {
		return err
	}
	if err := f.applyTable(want); err != nil {
		return fmt.Errorf("apply the tables %s: %w", firewall.Name, err)
	}
	f.placeAccepts()
	f.legacy.Apply(ctx, want)
	f.warnOfObstacles()
	return nil
}

func (f *Firewall) applyTable(want firewall.Ruleset) error {
	if err := f.probeFrames(); err != nil {
		return err
	}
	t, err := newTables(want, f.frameless)
	if err != nil {
		return err
	}
	if f.certain {
		changes, ok := want.Since(*f.applied)
		if ok && t.present(f.conn) {
			updated, err := f.update(t, changes)
			if err != nil {
				return err
			}
			if updated {
				f.applied = &want
				return nil
			}
		}
	}
	return f.replace(t)
}

// Update makes changes of the elements of the ruleset that was applied last, in
// one atomic step. Those that are made already are left out. Its cost does not
// grow with the ruleset, as that of [Firewall.Apply] does, and it looks at no
// foreign chain. When it returns an error the table is as it was.
func (f *Firewall) Update(ctx context.Context, changes []firewall.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.change(changes)
}

// UpdateNetworks is [Firewall.Update] for networks that come or go: foreign chains are looked
// at, too, as [Firewall.Apply] does.
func (f *Firewall) UpdateNetworks(ctx context.Context, changes []firewall.Change) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.change(changes); err != nil {
		return err
	}
	f.placeAccepts()
	f.legacy.Apply(ctx, *f.applied)
	f.warnOfObstacles()
	return nil
}

// change is Update for who holds mu.
func (f *Firewall) change(changes []firewall.Change) error {
	if f.applied == nil {
		return fmt.Errorf("update the tables %s: no ruleset is applied", firewall.Name)
	}
	if err := drain(f.socket); err != nil {
		return err
	}
	if err := f.updateTable(f.applied.Pending(changes)); err != nil {
		return fmt.Errorf("update the tables %s: %w", firewall.Name, err)
	}
	return nil
}

func (f *Firewall) updateTable(changes []firewall.Change) error {
	if f.certain {
		t, err := newTables(*f.applied, f.frameless)
		if err != nil {
			return err
		}
		updated, err := f.update(t, changes)
		if err != nil {
			return err
		}
		if updated {
			f.applied.Change(changes)
			return nil
		}
	}
	want := f.applied.Clone()
	want.Change(changes)
	t, err := newTables(want, f.frameless)
	if err != nil {
		return err
	}
	return f.replace(t)
}

// update sends changes of elements. What the kernel refuses is no error: somebody
// has changed the table, and it is to be replaced.
func (f *Firewall) update(t *tables, changes []firewall.Change) (updated bool, err error) {
	if len(changes) == 0 {
		return true, nil
	}
	if err := t.update(f.conn, changes); err != nil {
		f.log.Warn("firewall: elements cannot be updated, replacing the table", "err", err)
		return false, drain(f.socket)
	}
	return true, nil
}

// replace makes the kernel's table the wanted one, whatever it is now.
func (f *Firewall) replace(t *tables) error {
	if err := t.replace(f.conn); err != nil {
		f.certain = false
		return err
	}
	f.applied, f.certain = &t.from, true
	return nil
}

// Remove deletes our table and our rule in foreign chains, if they are there:
// the kernel's ruleset is then as if v6net had never been.
func (f *Firewall) Remove(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := drain(f.socket); err != nil {
		return err
	}
	if err := f.probeFrames(); err != nil {
		return err
	}
	if err := f.removeTables(); err != nil {
		return err
	}
	f.legacy.Remove(ctx)
	f.removeAccepts()
	return nil
}

func (f *Firewall) removeTables() error {
	f.applied, f.certain = nil, false
	for _, family := range families {
		if family == nftables.TableFamilyBridge && f.frameless {
			continue
		}
		t := &nftables.Table{Name: firewall.Name, Family: family}
		f.conn.AddTable(t) // or the deletion fails where it is missing
		f.conn.DelTable(t)
	}
	if err := f.conn.Flush(); err != nil {
		return fmt.Errorf("delete the tables %s: %w", firewall.Name, err)
	}
	return nil
}

// Missing says why the ruleset that was applied last is not in the kernel now; nil: it
// is there, or none was applied.
func (f *Firewall) Missing(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.applied == nil {
		return nil
	}
	if err := drain(f.socket); err != nil {
		return err
	}
	t, err := newTables(*f.applied, f.frameless)
	if err != nil {
		return err
	}
	if !t.present(f.conn) {
		return fmt.Errorf("the tables %s are not there: another program has removed them", firewall.Name)
	}
	return nil
}

// restore puts back what others have removed. table: ours may have been changed.
func (f *Firewall) restore(table bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.applied == nil {
		return nil
	}
	if err := drain(f.socket); err != nil {
		return err
	}
	if table {
		f.log.Warn("firewall: another program changed our table, restoring it")
		f.certain = false
	}
	if err := f.applyTable(*f.applied); err != nil {
		return fmt.Errorf("restore the tables %s: %w", firewall.Name, err)
	}
	f.placeAccepts()
	f.warnOfObstacles()
	return nil
}
