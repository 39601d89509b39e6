//go:build netns

package dhcp6

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/v6net/v6net/internal/spec"
)

// A server lends what is asked for, prolongs it at T1, and takes it back.
func TestLease(t *testing.T) {
	onEachServer(t, func(t *testing.T, l *lab, serve serve) {
		serve("aa", 2, 6, 20, 30, pool("2001:db8:100::", 40, 56))
		lent := l.lease(56)
		if lent.Prefix.Bits() != 56 || lent.OnLink || !strings.Contains(lent.Origin, "000300010200000000aa") {
			t.Errorf("lent %+v", lent)
		}
		l.eventually("the lease is prolonged", func() bool {
			now := l.status().Delegations
			return l.has("Renew") && len(now) == 1 && now[0].Prefix == lent.Prefix && now[0].Valid.After(lent.Valid)
		})
		if l.has("Rebind") {
			t.Errorf("sent %v", l.messages())
		}
		l.supervisor.Keep(nil)
		l.eventually("the lease is given back", func() bool { return len(l.supervisor.Status()) == 0 && l.has("Release") })
		leases, err := l.journal.DelegationLeases()
		if err != nil || len(leases) > 0 {
			t.Errorf("in the journal: %v, %v", leases, err)
		}
	})
}

// A server that lends a /64 at a time lends several, and what it has not got is asked
// for at each renewal. The server is away for as long as it takes to start again, which may be
// longer than T1: a Renew that it missed is sent again after ten seconds, which T2 is to leave
// room for, since it is not the Rebind that is looked at.
func TestSeveralPrefixes(t *testing.T) {
	l := newLab(t)
	l.capture()
	l.many = []uint32{1, 2, 3}
	stop := l.kea("aa", 2, 70, 100, 120, pool("2001:db8:100::", 63, 64)) // two
	lent, err := l.delegated(56)
	if err != nil || len(lent) != 2 || lent[0].Prefix.Overlaps(lent[1].Prefix) {
		t.Fatalf("lent %v, %v", list(lent), err)
	}
	stop()
	l.kea("aa", 2, 70, 100, 120, pool("2001:db8:100::", 62, 64)) // four
	l.eventually("three are lent", func() bool {
		now := l.status().Delegations
		return len(now) == 3 && slices.ContainsFunc(now, func(d spec.Delegation) bool { return d.Prefix == lent[0].Prefix })
	})
	if l.has("Rebind") {
		t.Errorf("sent %v", l.messages())
	}
}

// When the server is gone another one is found at T2, and goes on with the lease.
func TestRebindToAnotherServer(t *testing.T) {
	onEachServer(t, func(t *testing.T, l *lab, serve serve) {
		stop := serve("aa", 1, 4, 40, 60, pool("2001:db8:100::", 56, 56)) // the one prefix there is
		lent := l.lease(56)
		stop()
		serve("bb", 1000, 2000, 3000, 4000, pool("2001:db8:100::", 56, 56))
		l.eventually("the other server has prolonged the lease", func() bool {
			now := l.status()
			return l.has("Rebind") && len(now.Delegations) == 1 && now.Delegations[0].Prefix == lent.Prefix && strings.Contains(now.Delegations[0].Origin, "bb") && now.State == "bound" && now.Error == ""
		})
	})
}

// The provider renumbers: the old prefix ends, the new one is there.
func TestRenumber(t *testing.T) {
	onEachServer(t, func(t *testing.T, l *lab, serve serve) {
		stop := serve("aa", 2, 5, 40, 60, pool("2001:db8:100::", 48, 56))
		old := l.lease(56)
		stop()
		serve("aa", 2, 5, 40, 60, pool("2001:db8:200::", 48, 56))
		l.eventually("the new prefix is there and preferred, the old one gone or deprecated", func() bool {
			fresh, stale := false, false
			for _, d := range l.status().Delegations {
				preferred := d.Preferred.IsZero() || d.Preferred.After(time.Now())
				fresh = fresh || preferred && strings.HasPrefix(d.Prefix.String(), "2001:db8:200:")
				stale = stale || preferred && d.Prefix == old.Prefix
			}
			return fresh && !stale
		})
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.told) < 2 {
			t.Errorf("told %q, want the old prefix and then the new", l.told)
		}
	})
}

func TestRefused(t *testing.T) {
	onEachServer(t, func(t *testing.T, l *lab, serve serve) {
		serve("aa", 2, 5, 40, 60, offer{})
		began := time.Now()
		lent, err := l.delegated(56)
		if err == nil || !strings.Contains(err.Error(), "NoPrefixAvail") {
			t.Errorf("lent %v, %v", list(lent), err)
		}
		t.Logf("refused after %v: %v", time.Since(began), err)
	})
}

// Nobody prolongs the lease: it ends when it says, and is looked for anew.
func TestExpire(t *testing.T) {
	onEachServer(t, func(t *testing.T, l *lab, serve serve) {
		stop := serve("aa", 1, 2, 3, 5, pool("2001:db8:100::", 48, 56))
		lent := l.lease(56)
		stop()
		l.eventually("the prefix is lost", func() bool { return len(l.status().Delegations) == 0 })
		if early := time.Until(lent.Valid); early > 0 {
			t.Errorf("lost %v before its time", early)
		}
		l.eventually("the loss is told, and a server looked for", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.told) > 0 && l.told[len(l.told)-1] == ""
		})
		serve("bb", 1000, 2000, 3000, 4000, pool("2001:db8:200::", 48, 56))
		l.eventually("another server's prefix", func() bool { return len(l.status().Delegations) == 1 })
	})
}

// A restart of the daemon goes on with the lease, and says nothing to the server as
// long as T1 is not yet; after a boot of the machine it rebinds.
func TestRestart(t *testing.T) {
	l := newLab(t)
	l.capture()
	l.kea("aa", 1000, 2000, 3000, 4000, pool("2001:db8:100::", 48, 56))
	lent := l.lease(56)
	l.stop()
	l.forget()
	l.start("boot")
	if again := l.lease(56); again.Prefix != lent.Prefix || !again.Valid.Equal(lent.Valid) {
		t.Errorf("after the restart %+v, before %+v", again, lent)
	}
	l.eventually("the lease is held", func() bool { return l.status().State == "bound" })
	if sent := l.messages(); len(sent) > 0 {
		t.Errorf("sent %v", sent)
	}
	l.stop()
	l.start("another boot")
	if again := l.lease(56); again.Prefix != lent.Prefix {
		t.Errorf("after the boot %s, before %s", again.Prefix, lent.Prefix)
	}
	l.eventually("a server has confirmed the lease", func() bool {
		now := l.status().Delegations
		return l.has("Rebind") && len(now) == 1 && now[0].Prefix == lent.Prefix && now[0].Valid.After(lent.Valid)
	})
	if l.has("Solicit") {
		t.Errorf("sent %v", l.messages())
	}
}

// A link that goes down and comes again is one that may be another: Rebind.
func TestLinkComesBack(t *testing.T) {
	l := newLab(t)
	l.capture()
	l.kea("aa", 1000, 2000, 3000, 4000, pool("2001:db8:100::", 48, 56))
	lent := l.lease(56)
	l.self.Run(t, "ip", "link", "set", "eth0", "down")
	l.supervisor.LinkChanged("eth0")
	l.eventually("v6net says what the link lacks", func() bool { return strings.Contains(l.status().Error, "eth0") })
	l.self.Run(t, "ip", "link", "set", "eth0", "up")
	l.eventually("the lease is confirmed", func() bool {
		l.supervisor.LinkChanged("eth0") // as the daemon does at each event
		now := l.status().Delegations
		return l.has("Rebind") && len(now) == 1 && now[0].Prefix == lent.Prefix && now[0].Valid.After(lent.Valid)
	})
}

// The link gets another name: the lease goes on, and the server knows who prolongs it. T1 leaves
// the link time for its link-local address.
func TestLinkIsRenamed(t *testing.T) {
	l := newLab(t)
	l.capture()
	l.kea("aa", 5, 60, 80, 100, pool("2001:db8:100::", 48, 56))
	lent := l.lease(56)
	l.self.Run(t, "ip", "link", "set", "eth0", "down")
	l.self.Run(t, "ip", "link", "set", "eth0", "name", "wan0")
	l.self.Run(t, "ip", "link", "set", "wan0", "up")
	l.forget()
	l.supervisor.LinkRenamed("eth0", "wan0")
	l.supervisor.Keep([]spec.SourceOnLink{{Source: spec.SourcePD, Link: "wan0"}})
	l.eventually("the lease is prolonged on wan0", func() bool {
		s := l.status()
		return s.Link == "wan0" && l.has("Renew") && len(s.Delegations) == 1 && s.Delegations[0].Prefix == lent.Prefix && s.Delegations[0].Valid.After(lent.Valid)
	})
	if l.has("Solicit") || l.has("Rebind") || l.has("Release") {
		t.Errorf("sent %v", l.messages())
	}
}

func TestDialSaysWhatTheLinkLacks(t *testing.T) {
	l := newLab(t)
	l.self.Run(t, "ip", "addr", "flush", "dev", "eth0", "scope", "link")
	if _, err := Dial(t.Context(), "eth0"); err == nil || !strings.Contains(err.Error(), "link-local") {
		t.Errorf("Dial of a link without a link-local address: %v", err)
	}
	l.self.Run(t, "ip", "link", "set", "eth0", "down")
	if _, err := Dial(t.Context(), "eth0"); !errors.Is(err, unix.ENETDOWN) {
		t.Errorf("Dial of a link that is down: %v", err)
	}
	if _, err := Dial(t.Context(), "none0"); err == nil || !strings.Contains(err.Error(), "none0") {
		t.Errorf("Dial of no link: %v", err)
	}
}
