package pd

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/v6net/v6net/internal/spec"
)

// hour is a lease of an hour, to be renewed after a quarter of one.
func hour(p string) part { return pd(1, 900, 1800, prefix(p, 2700, 3600)) }

// One lease from first to last, by the clock: found, renewed, rebound to another
// server, expired.
func TestLifeOfALease(t *testing.T) {
	run(t, Config{Bits: 56}, func(l *lab) {
		l.answer = lender(serverA, hour("2001:db8:a::/56"))
		l.pass(2 * time.Second)
		l.wantState(stateBound, "2001:db8:a::/56")
		ask, then := l.heard[0], l.heard[1]
		l.wantKinds(solicit, request)
		if ask.at != 0 {
			t.Errorf("the first Solicit came after %v although somebody waits", ask.at)
		}
		if then.at < time.Second || then.at > 1100*time.Millisecond+time.Millisecond {
			t.Errorf("Request after %v: offers are collected for 1 to 1.1 s (RFC 8415 §18.2.1)", then.at)
		}
		if string(then.server()) != string(serverA) {
			t.Errorf("Request names server %x", then.server())
		}
		if hint := ask.Options.OneIAPD().Options.Prefixes()[0].Prefix.String(); hint != "::/56" {
			t.Errorf("the Solicit asks for %s, want ::/56", hint)
		}
		if !slices.Contains(ask.Options.RequestedOptions(), dhcpv6.OptionSolMaxRT) || ask.GetOneOption(dhcpv6.OptionRapidCommit) == nil {
			t.Errorf("the Solicit lacks SOL_MAX_RT or rapid commit:\n%s", ask.Summary())
		}
		if ask.GetOneOption(dhcpv6.OptionReconfAccept) != nil {
			t.Error("the Solicit accepts Reconfigure")
		}
		d := l.now().Lease.Delegations()[0]
		if left := time.Until(d.Valid); left > time.Hour || left < time.Hour-time.Second {
			t.Errorf("valid for %v, want an hour", left)
		}
		if d.OnLink || d.Parent != "eth0" || d.Source != spec.SourcePD || !strings.Contains(d.Origin, fmt.Sprintf("%x", serverA)) {
			t.Errorf("delegation %+v", d)
		}

		l.pass(14 * time.Minute)
		l.wantKinds() // T1 is not yet
		l.pass(time.Minute)
		l.wantKinds(renew)
		l.wantState(stateBound, "2001:db8:a::/56")

		l.answer = nil
		l.pass(20 * time.Minute)
		l.wantState(stateRenewing, "2001:db8:a::/56")
		for _, m := range l.heard {
			if m.MessageType != renew || string(m.server()) != string(serverA) {
				t.Errorf("%s to %x before T2", m.MessageType, m.server())
			}
		}
		l.kinds()
		l.answer = lender(serverB, hour("2001:db8:a::/56"))
		l.pass(11 * time.Minute)
		l.wantState(stateBound, "2001:db8:a::/56")
		if last := l.heard[len(l.heard)-1]; last.MessageType != rebind || last.server() != nil {
			t.Errorf("after T2 %s to %x, want a Rebind to any", last.MessageType, last.server())
		}
		if got := l.now(); string(got.Lease.Server) != string(serverB) || got.Error != "" {
			t.Errorf("the lease is of %x (error %q), want of the server that answered", got.Lease.Server, got.Error)
		}

		l.kinds()
		l.answer = nil
		l.pass(61 * time.Minute)
		l.wantState(stateSoliciting)
		if got := l.now().Error; !strings.Contains(got, "time of a prefix is over") {
			t.Errorf("error %q does not say why there is none", got)
		}
		l.answer = lender(serverA, hour("2001:db8:b::/56"))
		l.pass(2 * time.Hour) // SOL_MAX_RT at most
		l.wantState(stateBound, "2001:db8:b::/56")
	})
}

func TestRapidCommit(t *testing.T) {
	run(t, Config{}, func(l *lab) {
		l.answer = func(m *message) {
			m.reply(dhcpv6.MessageTypeReply, serverB, hour("2001:db8:bad::/56")) // without the option: §18.2.10
			m.reply(dhcpv6.MessageTypeReply, serverA, rapid, hour("2001:db8:a::/56"))
		}
		l.pass(0)
		l.wantState(stateBound, "2001:db8:a::/56")
		l.wantKinds(solicit)
	})
}

// A server may refuse by a Reply, too, where it would have lent by one: Kea does.
func TestRapidRefusal(t *testing.T) {
	run(t, Config{}, func(l *lab) {
		l.answer = func(m *message) {
			m.reply(dhcpv6.MessageTypeReply, serverA, rapid, pd(1, 0, 0, code(iana.StatusNoPrefixAvail, "")))
		}
		l.pass(0)
		l.wantState(stateSoliciting)
		if got := l.now(); !got.Answered || !strings.Contains(got.Error, "NoPrefixAvail") {
			t.Errorf("report %+v, want an answer: NoPrefixAvail", got)
		}
	})
}

// A server that takes the hint for a demand is asked without one (RFC 8168).
func TestHintThatIsRefused(t *testing.T) {
	run(t, Config{Bits: 56}, func(l *lab) {
		l.answer = func(m *message) {
			if m.MessageType == solicit && len(m.Options.OneIAPD().Options.Prefixes()) > 0 {
				m.reply(dhcpv6.MessageTypeAdvertise, serverA, pd(1, 0, 0, code(iana.StatusNoPrefixAvail, "")))
				return
			}
			lender(serverA, option(dhcpv6.OptPreference(255)), hour("2001:db8:a::/64"))(m)
		}
		l.pass(1200 * time.Millisecond)
		l.wantState(stateBound, "2001:db8:a::/64")
		l.wantKinds(solicit, solicit, request)
	})
	// With none at all, that is known in little more than a second.
	run(t, Config{Bits: 56}, func(l *lab) {
		l.answer = lender(serverA, pd(1, 0, 0, code(iana.StatusNoPrefixAvail, "")))
		l.pass(1200 * time.Millisecond)
		if got := l.now(); !got.Answered || !strings.Contains(got.Error, "NoPrefixAvail") {
			t.Errorf("report %+v, want an answer: NoPrefixAvail", got)
		}
	})
}

func TestServerPreference(t *testing.T) {
	for _, test := range []struct {
		name           string
		a, b           uint8
		want           []byte
		least, longest time.Duration
	}{
		{"higher after the first wait", 1, 7, serverB, time.Second, 1101 * time.Millisecond},
		{"255 at once", 255, 0, serverA, 0, 0},
		{"none is 0", 0, 1, serverB, time.Second, 1101 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			run(t, Config{}, func(l *lab) {
				l.answer = func(m *message) {
					lender(serverA, hour("2001:db8:a::/56"), option(dhcpv6.OptPreference(test.a)))(m)
					lender(serverB, hour("2001:db8:b::/56"), option(dhcpv6.OptPreference(test.b)))(m)
				}
				l.pass(2 * time.Second)
				asked := l.heard[1]
				if string(asked.server()) != string(test.want) || asked.at < test.least || asked.at > test.longest {
					t.Errorf("%s to %x after %v, want to %x after %v to %v", asked.MessageType, asked.server(), asked.at, test.want, test.least, test.longest)
				}
			})
		})
	}
}

// After the first wait the first offer is taken as it comes (§18.2.1).
func TestLateOfferIsTakenAtOnce(t *testing.T) {
	run(t, Config{}, func(l *lab) {
		l.pass(2 * time.Second)
		l.heard[1].reply(dhcpv6.MessageTypeAdvertise, serverA, hour("2001:db8:a::/56"))
		l.answer = lender(serverA, hour("2001:db8:a::/56"))
		l.pass(0)
		l.wantState(stateBound, "2001:db8:a::/56")
	})
}

// What is not for the client, or from somebody who cannot be its server, changes nothing.
func TestForeignMessages(t *testing.T) {
	lend := hour("2001:db8:bad::/56")
	for name, send := range map[string]func(l *lab, m *message){
		"another transaction": func(l *lab, m *message) {
			b := m.bytes(dhcpv6.MessageTypeReply, serverA, rapid, lend)
			b[3] ^= 1
			l.send(routerAddr, b)
		},
		"another client": func(l *lab, m *message) {
			b := m.bytes(dhcpv6.MessageTypeReply, serverA, rapid, lend)
			b[4+4+len(clientDUID)-1] ^= 1
			l.send(routerAddr, b)
		},
		"no client": func(l *lab, m *message) {
			l.send(routerAddr, []byte{7, m.TransactionID[0], m.TransactionID[1], m.TransactionID[2]})
		},
		"no server":       func(_ *lab, m *message) { m.reply(dhcpv6.MessageTypeReply, nil, rapid, lend) },
		"a server of 2":   func(_ *lab, m *message) { m.reply(dhcpv6.MessageTypeReply, []byte{0, 3}, rapid, lend) },
		"a server of 131": func(_ *lab, m *message) { m.reply(dhcpv6.MessageTypeReply, make([]byte, 131), rapid, lend) },
		"a global source": func(l *lab, m *message) {
			l.send(netip.MustParseAddr("2001:db8::1"), m.bytes(dhcpv6.MessageTypeReply, serverA, rapid, lend))
		},
		"Reconfigure": func(_ *lab, m *message) { m.reply(dhcpv6.MessageTypeReconfigure, serverA, lend) },
		"a relay's":   func(l *lab, _ *message) { l.send(routerAddr, append([]byte{13, 0}, make([]byte, 32)...)) },
		"nothing":     func(l *lab, _ *message) { l.send(routerAddr, nil) },
		"an option that is cut off": func(l *lab, m *message) {
			b := m.bytes(dhcpv6.MessageTypeReply, serverA, rapid, lend)
			l.send(routerAddr, b[:len(b)-1])
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, Config{}, func(l *lab) {
				l.answer = func(m *message) { send(l, m) }
				l.pass(10 * time.Second)
				l.wantState(stateSoliciting)
				l.answer = lender(serverA, hour("2001:db8:a::/56"))
				l.pass(time.Minute)
				l.wantState(stateBound, "2001:db8:a::/56")
			})
		})
	}
}

// What a server says of prefixes is not taken as it is.
func TestInvalidPrefixesAreLeftOut(t *testing.T) {
	for name, grant := range map[string]part{
		"T1 after T2":                    pd(1, 20, 10, prefix("2001:db8:bad::/56", 2700, 3600)),
		"preferred longer than valid":    pd(1, 0, 0, prefix("2001:db8:bad::/56", 3601, 3600)),
		"of another association":         pd(2, 0, 0, prefix("2001:db8:bad::/56", 2700, 3600)),
		"a provider's":                   pd(1, 0, 0, prefix("2001::/16", 2700, 3600)),
		"everything":                     pd(1, 0, 0, prefix("::/0", 2700, 3600)),
		"one address":                    pd(1, 0, 0, prefix("2001:db8:bad::1/128", 2700, 3600)),
		"link-local":                     pd(1, 0, 0, prefix("fe80::/64", 2700, 3600)),
		"multicast":                      pd(1, 0, 0, prefix("ff05::/64", 2700, 3600)),
		"IPv4-mapped":                    pd(1, 0, 0, prefix("::ffff:0:0/96", 2700, 3600)),
		"not valid":                      pd(1, 0, 0, prefix("2001:db8:bad::/56", 0, 0)),
		"an association that is refused": pd(1, 0, 0, code(iana.StatusNoPrefixAvail, "")),
	} {
		t.Run(name, func(t *testing.T) {
			run(t, Config{}, func(l *lab) {
				l.answer = lender(serverA, grant)
				l.pass(5 * time.Second)
				l.wantState(stateSoliciting)
				if got := l.now(); !got.Answered || !strings.Contains(got.Error, "lends no prefix") {
					t.Errorf("error %q (an answer: %v), want that the server lends none", got.Error, got.Answered)
				}
			})
		})
	}
	// Beside those that are right, and never twice.
	run(t, Config{IAID: []uint32{1, 2}}, func(l *lab) {
		l.answer = lender(serverA,
			pd(1, 0, 0, prefix("fe80::/64", 1, 2), prefix("2001:db8:a:ff::1/56", 2700, 3600), prefix("2001:db8:a:1::/64", 2700, 3600)),
			pd(2, 0, 0, prefix("2001:db8:a::/56", 2700, 3600), prefix("fd00:1::/48", 2700, 3600)),
			pd(1, 0, 0, prefix("2001:db8:c::/56", 2700, 3600)))
		l.pass(5 * time.Second)
		l.wantState(stateBound, "2001:db8:a::/56", "fd00:1::/48")
	})
}

func TestNoPrefixAvailable(t *testing.T) {
	run(t, Config{}, func(l *lab) {
		l.answer = func(m *message) {
			m.reply(dhcpv6.MessageTypeAdvertise, serverA, pd(1, 0, 0, code(iana.StatusNoPrefixAvail, "pool\x00 is\nempty")),
				option(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionSolMaxRT, OptionData: []byte{0, 0, 0, 100}}))
		}
		l.pass(0)
		if got := l.now(); !got.Answered || !strings.Contains(got.Error, `NoPrefixAvail ("pool isempty")`) {
			t.Errorf("report %+v, want an answer: NoPrefixAvail and the server's words", got)
		}
		l.pass(time.Hour)
		// SOL_MAX_RT of 100 s (§18.2.9): some thirty in the hour, and not the dozen of the default.
		if n := len(l.heard); n < 32 || n > 45 {
			t.Errorf("%d Solicits in an hour with a SOL_MAX_RT of 100 s", n)
		}
		l.answer = lender(serverA, hour("2001:db8:a::/56"))
		l.pass(3 * time.Minute)
		l.wantState(stateBound, "2001:db8:a::/56")
		if got := l.now().Error; got != "" {
			t.Errorf("error %q stands though all is well", got)
		}
	})
}

// The backoff of §15, by the clock.
func TestSolicitBacksOff(t *testing.T) {
	run(t, Config{}, func(l *lab) {
		l.pass(6 * time.Hour)
		want := time.Second
		for i := 1; i < len(l.heard); i++ {
			gap := l.heard[i].at - l.heard[i-1].at
			if gap < want*8/10 || gap > want*13/10 {
				t.Errorf("Solicit %d came %v after the one before, want about %v", i+1, gap, want)
			}
			if l.heard[i].TransactionID != l.heard[0].TransactionID {
				t.Error("a repetition is of another transaction")
			}
			if e := l.heard[i].Options.ElapsedTime(); e < min(l.heard[i].at, mostElapsed)-10*time.Millisecond {
				t.Errorf("Solicit after %v says that %v have elapsed", l.heard[i].at, e)
			}
			want = min(2*gap, time.Hour)
		}
		if first := l.heard[1].at; first <= time.Second {
			t.Errorf("first wait of %v: it is to be longer than SOL_TIMEOUT", first)
		}
		if got := l.now(); got.Answered {
			t.Errorf("report %+v says that there was an answer", got)
		}
	})
}

// A server that offers and then is silent, or refuses, costs a bounded number of messages.
func TestServerThatGoesBackOnItsOffer(t *testing.T) {
	for name, reply := range map[string]func(m *message){
		"silent": func(*message) {},
		"NoPrefixAvail": func(m *message) {
			m.reply(dhcpv6.MessageTypeReply, serverA, pd(1, 0, 0, code(iana.StatusNoPrefixAvail, "")))
		},
		"NotOnLink":  func(m *message) { m.reply(dhcpv6.MessageTypeReply, serverA, option(code(iana.StatusNotOnLink, ""))) },
		"UnspecFail": func(m *message) { m.reply(dhcpv6.MessageTypeReply, serverA, option(code(iana.StatusUnspecFail, ""))) },
		"UseMulticast": func(m *message) {
			m.reply(dhcpv6.MessageTypeReply, serverA, option(code(iana.StatusUseMulticast, "")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, Config{}, func(l *lab) {
				l.answer = func(m *message) {
					if m.MessageType == solicit {
						m.reply(dhcpv6.MessageTypeAdvertise, serverA, hour("2001:db8:a::/56"), option(dhcpv6.OptPreference(255)))
						return
					}
					reply(m)
				}
				l.pass(time.Hour)
				if n := len(l.heard); n < 10 || n > 200 {
					t.Errorf("%d messages in an hour", n)
				}
				if l.now().Error == "" {
					t.Error("nothing says why there is no prefix")
				}
				requests := 0
				for _, m := range l.heard[1:] {
					if m.MessageType == solicit {
						break
					}
					requests++
				}
				if (name == "silent" || name == "UnspecFail" || name == "UseMulticast") != (requests == requestTiming.count) {
					t.Errorf("%d Requests before the next Solicit", requests)
				}
				l.answer = lender(serverA, hour("2001:db8:a::/56"))
				l.pass(15 * time.Minute)
				l.wantState(stateBound, "2001:db8:a::/56")
			})
		})
	}
}

// A server whose lifetimes are of a second makes no storm.
func TestSecondsOfLifeMakeNoStorm(t *testing.T) {
	run(t, Config{}, func(l *lab) {
		l.answer = lender(serverA, pd(1, 0, 1, prefix("2001:db8:a::/56", 0, 1)))
		l.pass(10 * time.Minute)
		if n := len(l.heard); n > 10*60+20 { // §14.1: 20 in 20 s
			t.Errorf("%d messages in ten minutes", n)
		}
	})
}

func TestRenumbered(t *testing.T) {
	run(t, Config{}, func(l *lab) {
		l.answer = lender(serverA, hour("2001:db8:a::/56"))
		l.pass(2 * time.Second)
		l.answer = lender(serverA, pd(1, 900, 1800, prefix("2001:db8:a::/56", 0, 7200), prefix("2001:db8:b::/56", 2700, 3600)))
		l.pass(15 * time.Minute)
		l.wantState(stateBound, "2001:db8:a::/56", "2001:db8:b::/56")
		if d := l.now().Lease.Delegations()[0]; d.Preferred.After(time.Now()) {
			t.Errorf("the old prefix is preferred until %v", d.Preferred)
		}
		l.answer = lender(serverA, pd(1, 900, 1800, prefix("2001:db8:a::/56", 0, 0), prefix("2001:db8:b::/56", 2700, 3600)))
		l.pass(16 * time.Minute)
		l.wantState(stateBound, "2001:db8:b::/56")
		l.answer = lender(serverA, pd(1, 900, 1800, prefix("2001:db8:b::/56", 0, 0)))
		l.pass(16 * time.Minute)
		l.wantState(stateSoliciting)
	})
}

// A server that lends ever more prefixes, or others within those, fills no memory and
// makes no two networks of one prefix.
func TestLendingWithoutEnd(t *testing.T) {
	run(t, Config{}, func(l *lab) {
		i := 0
		l.answer = func(m *message) {
			i++
			lender(serverA, hour(fmt.Sprintf("2001:db8:%x::/48", i)))(m)
		}
		l.pass(20 * time.Minute)
		l.answer = func(m *message) {
			var many []dhcpv6.Option
			for range mostPrefixes {
				i++
				many = append(many, prefix(fmt.Sprintf("2001:db8:%x::/48", i), 2700, 3600))
			}
			lender(serverA, pd(1, 60, 120, many...))(m)
		}
		l.pass(30 * time.Minute)
		if n := len(l.now().Lease.Delegations()); n != mostPrefixes {
			t.Errorf("%d prefixes, want %d at most", n, mostPrefixes)
		}
		l.answer = lender(serverA, hour("2001:db8::/32"))
		l.pass(2 * time.Minute)
		l.wantState(stateBound, "2001:db8::/32")
	})
}

// What a Reply to a Renew says nothing of stays as it was (§18.2.10.1), and one that
// says nothing of anything is none.
func TestRenewThatSaysNothing(t *testing.T) {
	run(t, Config{}, func(l *lab) {
		l.answer = lender(serverA, hour("2001:db8:a::/56"))
		l.pass(2 * time.Second)
		before := l.now().Lease.Delegations()[0]
		l.answer = func(m *message) {
			m.reply(dhcpv6.MessageTypeReply, serverA, pd(1, 0, 0, code(iana.StatusNoPrefixAvail, "")))
			m.reply(dhcpv6.MessageTypeReply, serverB, hour("2001:db8:b::/56")) // not the one that was asked
		}
		l.pass(16 * time.Minute)
		l.wantState(stateRenewing, "2001:db8:a::/56")
		if got := l.now().Lease.Delegations()[0]; got != before {
			t.Errorf("delegation is now %+v, was %+v", got, before)
		}
	})
}

// A server that has lost its records is asked for a new lease (§18.2.10.1); what it
// does not know any more is deprecated.
func TestServerWithoutRecords(t *testing.T) {
	for _, binding := range []part{pd(1, 0, 0, code(iana.StatusNoBinding, "")), option(code(iana.StatusNoBinding, ""))} {
		run(t, Config{}, func(l *lab) {
			l.answer = lender(serverA, hour("2001:db8:a::/56"))
			l.pass(2 * time.Second)
			l.kinds()
			l.answer = func(m *message) {
				if m.MessageType == renew {
					m.reply(dhcpv6.MessageTypeReply, serverA, binding)
					return
				}
				lender(serverA, hour("2001:db8:b::/56"))(m)
			}
			l.pass(15 * time.Minute)
			l.wantKinds(renew, request)
			l.wantState(stateBound, "2001:db8:a::/56", "2001:db8:b::/56")
			old := l.now().Lease.Delegations()[0]
			if old.Preferred.After(time.Now()) || !old.Valid.After(time.Now()) {
				t.Errorf("the old prefix is preferred until %v and valid until %v", old.Preferred, old.Valid)
			}
			l.pass(46 * time.Minute)
			l.wantState(stateBound, "2001:db8:b::/56")
		})
	}
}

// One that has lost its records, and lends nothing any more either, is not asked all day.
func TestServerThatKnowsAndLendsNothing(t *testing.T) {
	for name, kind := range map[string]dhcpv6.MessageType{"renew": renew, "rebind": rebind} {
		t.Run(name, func(t *testing.T) {
			run(t, Config{}, func(l *lab) {
				l.answer = lender(serverA, pd(1, 3600, 7200, prefix("2001:db8:a::/56", 20000, 30000)))
				l.pass(2 * time.Second)
				l.kinds()
				l.answer = func(m *message) {
					switch m.MessageType {
					case kind:
						m.reply(dhcpv6.MessageTypeReply, serverA, pd(1, 0, 0, code(iana.StatusNoBinding, "")))
					case request:
						m.reply(dhcpv6.MessageTypeReply, serverA, pd(1, 0, 0, code(iana.StatusNoPrefixAvail, "")))
					}
				}
				l.pass(3 * time.Hour)
				if n := len(l.heard); n > 500 {
					t.Errorf("%d messages in two hours", n)
				}
				if got := l.now(); !strings.Contains(got.Error, "NoPrefixAvail") || len(got.Lease.Delegations()) != 1 {
					t.Errorf("report %+v", got)
				}
				l.answer = lender(serverA, hour("2001:db8:b::/56"))
				l.pass(12 * time.Minute)
				if got := l.now(); got.State != stateBound || got.Error != "" || len(got.Lease.Delegations()) != 2 {
					t.Errorf("report %+v", got)
				}
			})
		})
	}
}

func TestSeveralAssociations(t *testing.T) {
	run(t, Config{IAID: []uint32{7, 8}}, func(l *lab) {
		l.answer = lender(serverA,
			pd(7, 900, 1800, prefix("2001:db8:a:1::/64", 2700, 3600)),
			pd(8, 300, 600, code(iana.StatusNoPrefixAvail, "")))
		l.pass(2 * time.Second)
		l.wantState(stateBound, "2001:db8:a:1::/64")
		l.answer = lender(serverA,
			pd(7, 900, 1800, prefix("2001:db8:a:1::/64", 2700, 3600)),
			pd(8, 300, 600, prefix("2001:db8:a:2::/64", 2700, 3600), prefix("2001:db8:b:2::/64", 2700, 3600)))
		l.kinds()
		l.pass(15 * time.Minute)
		if pds := l.heard[0].Options.IAPD(); len(pds) != 2 {
			t.Errorf("the Renew is for %d associations, want also the one without a prefix", len(pds))
		}
		l.wantKinds(renew)
		l.wantState(stateBound, "2001:db8:a:1::/64", "2001:db8:a:2::/64", "2001:db8:b:2::/64")
		l.pass(5 * time.Minute)
		l.wantKinds(renew) // with the first T1 of all
	})
}

// An association that a server does not confirm is asked for again, but not all the
// time; one that it has no record of is requested, with the others (§18.2.10.1). What
// it does confirm goes on.
func TestAssociationThatIsNotConfirmed(t *testing.T) {
	first := pd(7, 900, 1800, prefix("2001:db8:a:1::/64", 2700, 3600))
	for name, test := range map[string]struct {
		second []part
		want   []dhcpv6.MessageType
	}{
		"missing":       {nil, []dhcpv6.MessageType{renew}},
		"empty":         {[]part{pd(8, 0, 0)}, []dhcpv6.MessageType{renew}},
		"NoPrefixAvail": {[]part{pd(8, 0, 0, code(iana.StatusNoPrefixAvail, ""))}, []dhcpv6.MessageType{renew}},
		"NoBinding":     {[]part{pd(8, 0, 0, code(iana.StatusNoBinding, ""))}, []dhcpv6.MessageType{renew, request}},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, Config{IAID: []uint32{7, 8}}, func(l *lab) {
				l.answer = lender(serverA, first, pd(8, 900, 1800, prefix("2001:db8:b:2::/64", 2700, 3600)))
				l.pass(2 * time.Second)
				l.wantState(stateBound, "2001:db8:a:1::/64", "2001:db8:b:2::/64")
				l.kinds()
				l.answer = lender(serverA, append([]part{first}, test.second...)...)
				l.pass(15 * time.Minute)
				if last := l.heard[len(l.heard)-1]; len(last.Options.IAPD()) != 2 {
					t.Errorf("the %s is for %d associations, want both", last.MessageType, len(last.Options.IAPD()))
				}
				l.wantKinds(test.want...)
				l.pass(44 * time.Minute) // to its end, nearly
				l.wantState(stateBound, "2001:db8:a:1::/64", "2001:db8:b:2::/64")
				if n := len(l.kinds()); n < 4 || n > 30 {
					t.Errorf("%d messages in 44 minutes for what is not confirmed", n)
				}
				l.pass(2 * time.Minute)
				l.wantState(stateBound, "2001:db8:a:1::/64")
				l.kinds()
				l.pass(3 * time.Hour) // with the T1 of what there is
				if n := len(l.kinds()); n > 2*12 {
					t.Errorf("%d messages in three hours for one association", n)
				}

				// What is confirmed again goes on as before.
				l.answer = lender(serverA, first, pd(8, 900, 1800, prefix("2001:db8:b:2::/64", 2700, 3600)))
				l.pass(15 * time.Minute)
				l.wantState(stateBound, "2001:db8:a:1::/64", "2001:db8:b:2::/64")
			})
		})
	}
}

// T1 and T2 (§14.2, §21.21) that the server leaves to the client, or that cannot be.
func TestTimes(t *testing.T) {
	now := time.Now()
	const never = -1
	for _, test := range []struct {
		name             string
		t1, t2           time.Duration
		preferred, valid time.Duration
		renew, rebind    time.Duration
	}{
		{"as the server says", 100, 200, 1000, 2000, 100, 200},
		{"the client's choice", 0, 0, 1000, 2000, 500, 800},
		{"T2 alone is the client's", 100, 0, 1000, 2000, 100, 800},
		{"T1 at once", 1, 2, 100, 200, 1, 2},
		{"T1 at once, of what lasts", 1, 2, 300, 600, 3, 3},
		{"T1 at once, of what lasts long", 1, 2, 86400, 172800, 30, 30},
		{"T1 alone is the client's", 0, 200, 1000, 2000, 200, 200},
		{"for ever", 0, 0, 0xffffffff, 0xffffffff, never, never},
		{"never to be asked again", 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, never, never},
		{"never to be asked again, but it ends", 0xffffffff, 0xffffffff, 1000, 2000, 1600, 1600},
		{"preferred for ever", 0, 0, 0xffffffff, 1000, 500, 800},
		{"after its end", 5000, 6000, 1000, 2000, 1600, 1600},
		{"deprecated", 0, 0, 0, 1000, 500, 800},
		{"at once", 0, 0, 0, 1, 1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := spec.Delegation{Preferred: until(now, test.preferred*time.Second), Valid: until(now, test.valid*time.Second)}
			renew, rebind := times(granted{t1: test.t1 * time.Second, t2: test.t2 * time.Second}, []spec.Delegation{d}, now)
			for what, pair := range map[string][2]time.Time{"renew": {renew, in(now, test.renew)}, "rebind": {rebind, in(now, test.rebind)}} {
				if !pair[0].Equal(pair[1]) {
					t.Errorf("%s after %v, want %v", what, pair[0].Sub(now), pair[1].Sub(now))
				}
			}
		})
	}
}

func in(now time.Time, seconds time.Duration) time.Time {
	if seconds < 0 {
		return time.Time{}
	}
	return now.Add(seconds * time.Second)
}

// What a client does with the lease of one before it.
func TestRestart(t *testing.T) {
	lease := func(now time.Time, boot string) spec.DelegationLease {
		return spec.DelegationLease{Boot: boot, Server: serverA, Associations: []spec.Association{{
			ID: 1, Renew: now.Add(15 * time.Minute), Rebind: now.Add(30 * time.Minute),
			Delegations: []spec.Delegation{{Source: spec.SourcePD, Parent: "eth0", Prefix: netip.MustParsePrefix("2001:db8:a::/56"),
				Preferred: now.Add(45 * time.Minute), Valid: now.Add(time.Hour)}},
		}}}
	}
	for _, test := range []struct {
		name string
		boot string
		away time.Duration
		want []dhcpv6.MessageType
	}{
		{"time left", "this", time.Minute, nil},
		{"after T1", "this", 20 * time.Minute, []dhcpv6.MessageType{renew}},
		{"after T2", "this", 40 * time.Minute, []dhcpv6.MessageType{rebind}},
		{"expired", "this", 2 * time.Hour, []dhcpv6.MessageType{solicit, request}},
		{"another boot", "other", time.Minute, []dhcpv6.MessageType{rebind}},
	} {
		t.Run(test.name, func(t *testing.T) {
			run(t, Config{Boot: "this"}, func(l *lab) {
				l.answer = lender(serverA, hour("2001:db8:a::/56"))
				l.config.Lease = lease(time.Now(), test.boot)
				time.Sleep(test.away)
				l.pass(0)
				if test.name != "expired" && len(l.now().Lease.Delegations()) == 0 {
					t.Error("the prefix is not there at once")
				}
				l.pass(3 * time.Second)
				l.wantState(stateBound, "2001:db8:a::/56")
				l.wantKinds(test.want...)
			})
		})
	}
	t.Run("another boot and no server", func(t *testing.T) {
		run(t, Config{Boot: "this"}, func(l *lab) {
			l.config.Lease = lease(time.Now(), "other")
			l.pass(14 * time.Second) // CNF_MAX_DELAY, CNF_MAX_RD and SOL_MAX_DELAY
			l.wantState(stateSoliciting, "2001:db8:a::/56")
			if l.now().Error == "" {
				t.Error("nothing says that no server has answered")
			}
			if sent := slices.Compact(l.kinds()); !slices.Equal(sent, []dhcpv6.MessageType{rebind, solicit}) {
				t.Errorf("%s after a boot, want Rebind and then Solicit", sent)
			}
			// Any server is asked for more time when it is time, and the prefix ends with its own.
			l.pass(30 * time.Minute)
			l.wantState(stateRebinding, "2001:db8:a::/56")
			l.pass(30 * time.Minute)
			l.wantState(stateSoliciting)
		})
	})
}

// Another link, whose server says nothing to a Rebind of what it does not know, as RFC
// 8415 §18.3.5 lets it, and lends to whoever asks: its prefix is in use, and the other one
// deprecated. The former link's server gives back what there was.
func TestAnotherLinkWhoseServerIgnoresRebind(t *testing.T) {
	run(t, Config{}, func(l *lab) {
		l.answer = lender(serverA, pd(1, 43200, 69120, prefix("2001:db8:a::/56", 86400, 172800)))
		l.pass(3 * time.Second)
		l.wantState(stateBound, "2001:db8:a::/56")
		for _, there := range []struct {
			server []byte
			prefix string
		}{{serverB, "2001:db8:b::/56"}, {serverA, "2001:db8:a::/56"}} {
			lend := lender(there.server, pd(1, 43200, 69120, prefix(there.prefix, 86400, 172800)))
			l.answer = func(m *message) {
				if m.MessageType != rebind {
					lend(m)
				}
			}
			l.client.LinkChanged()
			l.pass(20 * time.Second)
			var inUse []string
			for _, d := range l.now().Lease.Delegations() {
				if d.Preferred.After(time.Now()) {
					inUse = append(inUse, d.Prefix.String())
				}
			}
			if s := l.now(); s.State != stateBound || !slices.Equal(inUse, []string{there.prefix}) || s.Error != "" {
				t.Errorf("%s, in use %q, error %q; want %s bound", s.State, inUse, s.Error, there.prefix)
			}
		}
	})
}

// What is lent stays in use while another link has no server at all, and any is asked for
// more time when that is due; the link that comes back is asked at once.
func TestAnotherLinkWithoutAServer(t *testing.T) {
	run(t, Config{}, func(l *lab) {
		l.answer = lender(serverA, hour("2001:db8:a::/56"))
		l.pass(3 * time.Second)
		before := l.answer
		l.answer = nil
		l.client.LinkChanged()
		l.pass(15 * time.Minute)
		l.wantState(stateSoliciting, "2001:db8:a::/56")
		l.kinds()
		l.answer = before
		l.client.LinkChanged()
		l.pass(3 * time.Second)
		l.wantState(stateBound, "2001:db8:a::/56")
		l.wantKinds(rebind)
	})
}

// Who waits is answered at once, also by no, however long the client has been at it.
func TestSomebodyWaits(t *testing.T) {
	run(t, Config{}, func(l *lab) {
		l.answer = lender(serverA, pd(1, 0, 0, code(iana.StatusNoPrefixAvail, "")))
		l.pass(3 * time.Hour)
		l.kinds()
		for range 2 {
			l.client.Ask()
			l.pass(0)
			l.wantKinds(solicit)
			if !l.now().Answered {
				t.Error("no answer")
			}
		}
		l.answer = nil
		l.client.Ask()
		l.pass(0)
		if l.now().Answered {
			t.Error("an answer of before is taken for one")
		}
		l.answer = lender(serverA, rapid, hour("2001:db8:a::/56"))
		l.client.Ask()
		l.pass(1200 * time.Millisecond)
		l.wantState(stateBound, "2001:db8:a::/56")
	})
}

func TestLinkChanges(t *testing.T) {
	run(t, Config{}, func(l *lab) {
		l.pass(3 * time.Hour)
		l.kinds()
		l.answer = lender(serverA, hour("2001:db8:a::/56"))
		l.client.LinkChanged() // not after an hour's backoff
		l.pass(3 * time.Second)
		l.wantKinds(solicit, request)
		l.wantState(stateBound, "2001:db8:a::/56")

		for range 5 { // up, an address, another: one change
			l.client.LinkChanged()
		}
		l.pass(2 * time.Second)
		l.wantKinds(rebind)
		l.wantState(stateBound, "2001:db8:a::/56")

		// Another link: its server takes back what is not its own (§18.2.10.1).
		l.answer = lender(serverB, pd(1, 900, 1800, prefix("2001:db8:a::/56", 0, 0), prefix("2001:db8:b::/56", 2700, 3600)))
		l.client.LinkChanged()
		l.pass(2 * time.Second)
		l.wantState(stateBound, "2001:db8:b::/56")

		// A server that does not know the lease does not stand in the way of one that does.
		l.answer = func(m *message) {
			if m.MessageType == rebind {
				m.reply(dhcpv6.MessageTypeReply, serverA, pd(1, 0, 0, code(iana.StatusNoBinding, "")))
				m.reply(dhcpv6.MessageTypeReply, serverB, hour("2001:db8:b::/56"))
			}
		}
		l.kinds()
		l.client.LinkChanged()
		l.pass(2 * time.Second)
		l.wantKinds(rebind)
		l.wantState(stateBound, "2001:db8:b::/56")
	})
}

// What has ended while the machine slept is not asked for any more; what has not is, as on
// another link (§18.2.12).
func TestMachineThatHasSlept(t *testing.T) {
	for _, test := range []struct {
		sleep time.Duration
		want  []dhcpv6.MessageType
	}{
		{10 * time.Minute, []dhcpv6.MessageType{rebind}},
		{2 * time.Hour, []dhcpv6.MessageType{solicit, request}},
	} {
		var slept time.Duration
		run(t, Config{Now: func() time.Time { return time.Now().Add(slept) }}, func(l *lab) {
			l.answer = lender(serverA, hour("2001:db8:a::/56"))
			l.pass(2 * time.Second)
			l.kinds()
			l.said = nil
			slept = test.sleep
			l.client.LinkChanged()
			l.pass(5 * time.Second)
			l.wantKinds(test.want...)
			l.wantState(stateBound, "2001:db8:a::/56")
			lost := slices.ContainsFunc(l.said, func(r spec.DelegationReport) bool { return len(r.Lease.Delegations()) == 0 })
			if over := test.sleep > time.Hour; lost != over {
				t.Errorf("after %s of sleep the prefix was lost: %t, want %t", test.sleep, lost, over)
			}
			l.pass(14 * time.Minute)
			l.wantKinds()
			l.pass(time.Minute)
			l.wantKinds(renew) // at the T1 of the new lease
		})
	}
}

func TestLinkThatIsDown(t *testing.T) {
	run(t, Config{}, func(l *lab) {
		l.dialed = errNoLink
		l.pass(time.Hour)
		if got := l.now(); got.Error != errNoLink.Error() || got.State != stateSoliciting {
			t.Errorf("%s, error %q, want the link's", got.State, got.Error)
		}
		l.dialed = nil
		l.answer = lender(serverA, hour("2001:db8:a::/56"))
		l.client.LinkChanged()
		l.pass(3 * time.Second)
		l.wantState(stateBound, "2001:db8:a::/56")
	})
	// One that breaks in the middle is opened again.
	run(t, Config{}, func(l *lab) {
		l.pass(0)
		l.conn.in <- received{err: errNoLink}
		l.answer = lender(serverA, hour("2001:db8:a::/56"))
		l.pass(5 * time.Second)
		l.wantState(stateBound, "2001:db8:a::/56")
	})
}

func TestRelease(t *testing.T) {
	for _, silent := range []bool{false, true} {
		run(t, Config{}, func(l *lab) {
			l.answer = lender(serverA, hour("2001:db8:a::/56"))
			l.pass(2 * time.Second)
			l.stop()
			l.kinds()
			if silent {
				l.answer = nil
			}
			began := time.Now()
			var err error
			l.turn(func() { err = l.client.Release(context.Background()) })
			if (err != nil) != silent {
				t.Errorf("Release = %v, with a server that is silent: %v", err, silent)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("Release took %v", took)
			}
			first := l.heard[0]
			if string(first.server()) != string(serverA) || first.Options.OneIAPD().Options.Prefixes()[0].Prefix.String() != "2001:db8:a::/56" {
				t.Errorf("released:\n%s", first.Summary())
			}
			want := []dhcpv6.MessageType{release}
			if silent {
				want = slices.Repeat(want, 4) // REL_MAX_RC
			}
			l.wantKinds(want...)
			if err := l.client.Release(context.Background()); err != nil {
				t.Errorf("Release of nothing = %v", err)
			}
			l.wantKinds()
		})
	}
}

func TestLongLife(t *testing.T) {
	run(t, Config{}, func(l *lab) {
		l.answer = lender(serverA, pd(1, 0, 0, prefix("2001:db8:a::/56", 0xffffffff, 0xffffffff)))
		l.pass(2 * time.Second)
		l.kinds()
		l.pass(1000 * day)
		l.wantKinds()
		if d := l.now().Lease.Delegations()[0]; !d.Valid.IsZero() || !d.Preferred.IsZero() {
			t.Errorf("delegation %+v, want one for ever", d)
		}
	})
}
