package onlink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

const (
	first  = "2001:db8:1::/64"
	second = "2001:db8:2::/64"
	local  = "fd00:1:2:3::/64"
)

// lab is a link with a source that looks at it.
type lab struct {
	t      *testing.T
	source *Source
	stop   func()

	mu      sync.Mutex // held by the test but while it lets time pass
	has     map[string]*life
	down    bool // the link has no carrier
	readErr error
	said    []spec.DelegationReport
}

// life is what the kernel says of a prefix.
type life struct {
	deprecated bool
	until      time.Time // zero: for ever
	byRoute    bool
}

func newLab(t *testing.T, has map[string]*life) *lab {
	l := &lab{t: t, has: has}
	l.mu.Lock()
	l.start(spec.DelegationLease{})
	t.Cleanup(func() { l.stop() })
	return l
}

// start starts a source that goes on with a lease.
func (l *lab) start(before spec.DelegationLease) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	l.source = New(Config{Link: "eth0", Read: l.read, Now: time.Now, Lease: before})
	go func() {
		defer close(done)
		l.source.Run(ctx, func(r spec.DelegationReport) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.said = append(l.said, r)
		})
	}()
	l.stop = func() { cancel(); l.unlocked(func() { <-done }) }
	l.unlocked(synctest.Wait)
}

// restart is a daemon that ends, and another one some time later.
func (l *lab) restart(away time.Duration, meanwhile func()) {
	l.stop()
	lease := l.last().Lease
	meanwhile()
	l.unlocked(func() { time.Sleep(away) })
	l.said = nil
	l.start(lease)
}

func (l *lab) read(context.Context) (all []spec.OnLinkPrefix, up bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.readErr != nil {
		return nil, false, l.readErr
	}
	for text, of := range l.has {
		p := spec.OnLinkPrefix{Prefix: netip.MustParsePrefix(text), Deprecated: of.deprecated, ByRoute: of.byRoute}
		if !of.until.IsZero() {
			if p.Valid = time.Until(of.until).Truncate(time.Second); p.Valid <= 0 {
				continue // the kernel has removed it
			}
		}
		all = append(all, p)
	}
	return all, !l.down, nil
}

// change changes the link, of which the kernel tells.
func (l *lab) change(do func()) {
	do()
	l.source.AddressesChanged()
	l.pass(2 * readEvery)
}

func (l *lab) pass(d time.Duration) {
	l.unlocked(func() {
		time.Sleep(d)
		synctest.Wait()
	})
}

func (l *lab) unlocked(do func()) {
	l.mu.Unlock()
	defer l.mu.Lock()
	do()
}

func (l *lab) last() spec.DelegationReport { return l.said[len(l.said)-1] }

// lent is what is lent, with " former" after what nothing is to begin with any more.
func (l *lab) lent() string {
	var words []string
	for _, d := range l.last().Lease.Delegations() {
		word := d.Prefix.String()
		if !d.Preferred.IsZero() && !time.Now().Before(d.Preferred) {
			word += " former"
		}
		words = append(words, word)
	}
	return strings.Join(words, ", ")
}

func (l *lab) want(when, lent string) {
	l.t.Helper()
	if got := l.lent(); got != lent {
		l.t.Errorf("%s: %q is lent, want %q", when, got, lent)
	}
}

// left is for how long a prefix is lent yet.
func (l *lab) left(prefix string) time.Duration {
	for _, d := range l.last().Lease.Delegations() {
		if d.Prefix.String() == prefix && !d.Valid.IsZero() {
			return time.Until(d.Valid).Round(10 * time.Second)
		}
	}
	return 0
}

func lasting(d time.Duration) *life { return &life{until: time.Now().Add(d)} }

// What does not end a prefix. The kernel forgets what it was told when a link goes down.
func TestAwayForAMoment(t *testing.T) {
	flaps := map[string]func(*lab){
		"down and up": func(l *lab) {
			was := l.has
			l.change(func() { l.has = nil })
			if l.last().State != stateKept {
				l.t.Errorf("state %q while the link has no prefix", l.last().State)
			}
			l.pass(10 * time.Minute)
			l.change(func() { l.has = was })
		},
		"deleted and made again": func(l *lab) {
			l.change(func() { l.readErr = fmt.Errorf("link eth0: %w", fs.ErrNotExist) })
			l.pass(10 * time.Minute)
			l.change(func() { l.readErr = nil })
		},
		"cannot be read": func(l *lab) {
			l.change(func() { l.readErr = errors.New("no memory") })
			l.pass(10 * time.Minute)
			l.readErr = nil
			l.pass(2 * readAgain)
		},
		"deprecated, with no other": func(l *lab) {
			l.change(func() { l.has[first].deprecated = true })
			l.pass(10 * time.Minute)
			l.want("deprecated", first)
			l.change(func() { l.has[first].deprecated = false })
		},
		"another one first": func(l *lab) {
			was := l.has[first]
			l.change(func() { l.has = map[string]*life{second: lasting(24 * time.Hour)} })
			l.pass(absentTime - 5*readEvery)
			l.want("another one alone", first+", "+second)
			l.change(func() { l.has = map[string]*life{first: was} })
			l.pass(time.Hour)
			l.change(func() { l.has = map[string]*life{first: was, second: lasting(24 * time.Hour)} })
		},
		"down, with another one that was set by hand": func(l *lab) {
			was := l.has[first]
			l.change(func() { l.down, l.has = true, map[string]*life{second: {}} })
			l.pass(10 * time.Minute)
			l.want("while it is down", first+", "+second)
			l.change(func() { l.down = false })
			l.pass(absentTime - 5*readEvery)
			l.want("up again, before the router has said anything", first+", "+second)
			l.change(func() { l.has[first] = was })
		},
		"a unique local one alone": func(l *lab) {
			was := l.has[first]
			l.change(func() { l.has = map[string]*life{local: {}} })
			l.pass(time.Hour)
			l.want("a unique local one alone", first)
			l.change(func() { l.has = map[string]*life{local: {}, first: was} })
		},
		"no daemon": func(l *lab) {
			was := l.has
			l.restart(time.Hour, func() { l.has = nil })
			l.want("after a start", first)
			l.pass(time.Hour)
			l.change(func() { l.has = was })
		},
	}
	for name, flap := range flaps {
		for kind, until := range map[string]time.Duration{"advertised": 24 * time.Hour, "by hand": 0} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					of := &life{}
					if until > 0 {
						of = lasting(until)
					}
					l := newLab(t, map[string]*life{first: of})
					l.want("at first", first)
					flap(l)
					for _, r := range l.said {
						for _, d := range r.Lease.Delegations() {
							if d.Prefix.String() == first && !d.Preferred.IsZero() {
								t.Fatalf("it was given up: %+v", d)
							}
						}
						if len(r.Lease.Delegations()) == 0 {
							t.Fatalf("nothing was lent: %+v", r)
						}
					}
					if got := l.lent(); !strings.HasPrefix(got, first) {
						t.Errorf("in the end %q is lent", got)
					}
				})
			})
		}
	}
}

// What does.
func TestEnds(t *testing.T) {
	const day = 24 * time.Hour
	for name, test := range map[string]struct {
		do   func(*lab)
		lent string
		left time.Duration // of the first one
	}{
		"another one advertised, the first deprecated": {func(l *lab) {
			l.change(func() { l.has[second] = lasting(day) })
			l.want("both", first+", "+second)
			l.change(func() { *l.has[first] = life{deprecated: true, until: time.Now().Add(2 * time.Hour)} })
		}, first + " former, " + second, 2 * time.Hour},
		"deprecated, and another one later": {func(l *lab) {
			l.change(func() { *l.has[first] = life{deprecated: true, until: time.Now().Add(time.Hour)} })
			l.pass(10 * time.Minute)
			l.change(func() { l.has[second] = lasting(day) })
		}, first + " former, " + second, 50 * time.Minute},
		"replaced by hand": {func(l *lab) {
			l.change(func() { l.has = map[string]*life{second: {}} })
			l.pass(absentTime)
		}, first + " former, " + second, spec.WithdrawnTime - absentTime},
		"replaced by hand while the link is down": {func(l *lab) {
			l.change(func() { l.down, l.has = true, map[string]*life{second: {}} })
			l.pass(time.Hour)
			l.change(func() { l.down = false })
			l.pass(absentTime)
		}, first + " former, " + second, spec.WithdrawnTime - absentTime},
		"its time is over": {func(l *lab) {
			l.pass(day)
		}, "", 0},
		"its time is over while the link is down": {func(l *lab) {
			l.change(func() { l.has = nil })
			l.pass(day)
		}, "", 0},
		"its time is over while no daemon runs": {func(l *lab) {
			l.restart(day, func() { l.has[second] = lasting(3 * day) })
		}, second, 0},
		"replaced while no daemon runs": {func(l *lab) {
			l.restart(time.Hour, func() { l.has = map[string]*life{second: lasting(3 * day)} })
			l.pass(absentTime + readEvery)
		}, first + " former, " + second, spec.WithdrawnTime - absentTime},
		"a former one is gone from the link": {func(l *lab) {
			l.change(func() {
				l.has[second] = lasting(day)
				*l.has[first] = life{deprecated: true, until: time.Now().Add(time.Hour)}
			})
			l.change(func() { delete(l.has, first) })
			l.pass(30 * time.Minute)
		}, first + " former, " + second, 30 * time.Minute},
		"a former one is over": {func(l *lab) {
			l.change(func() {
				l.has[second] = lasting(day)
				*l.has[first] = life{deprecated: true, until: time.Now().Add(time.Hour)}
			})
			l.pass(time.Hour)
		}, second, 0},
		"a former one comes back": {func(l *lab) {
			l.change(func() {
				l.has[second] = lasting(day)
				*l.has[first] = life{deprecated: true, until: time.Now().Add(time.Hour)}
			})
			l.change(func() { *l.has[first] = life{until: time.Now().Add(day)} })
		}, first + ", " + second, day},
		"the time of what replaced it is over": {func(l *lab) {
			l.change(func() {
				l.has[second] = lasting(time.Hour)
				*l.has[first] = life{deprecated: true, until: time.Now().Add(2 * time.Hour)}
			})
			l.pass(time.Hour)
			l.change(func() { l.has[first] = lasting(day) })
		}, first, day},
		"a unique local one is left": {func(l *lab) {
			l.change(func() { l.has[local] = &life{} })
			l.pass(day)
		}, local, 0},
		"a global one beside a unique local one": {func(l *lab) {
			l.change(func() { l.has = map[string]*life{local: {}} })
			l.pass(day)
			l.change(func() { l.has[second] = lasting(day) })
		}, second, 0},
		"its address is removed by hand, then its route": {func(l *lab) {
			l.change(func() { *l.has[first] = life{byRoute: true} })
			l.want("with its route", first)
			l.change(func() { l.has = nil })
		}, first, day},
		"its address is over, and its route lingers": {func(l *lab) {
			l.change(func() { l.has[first] = lasting(time.Minute) })
			l.pass(30 * time.Second)
			l.change(func() { *l.has[first] = life{byRoute: true} })
			l.pass(time.Minute)
			l.want("while the route lingers", "")
			l.change(func() { l.has = nil })
		}, "", 0},
		"a former one is left by its route, and the other one deprecated": {func(l *lab) {
			l.change(func() {
				l.has[second] = lasting(day)
				*l.has[first] = life{deprecated: true, until: time.Now().Add(time.Hour)}
			})
			l.change(func() { *l.has[first] = life{byRoute: true}; l.has[second].deprecated = true })
		}, first + " former, " + second, time.Hour},
		"it has no address any more, and is advertised on": {func(l *lab) {
			l.change(func() { *l.has[first] = life{byRoute: true} })
			l.pass(day + 2*routesLinger)
		}, first, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, map[string]*life{first: lasting(day)})
				test.do(l)
				l.want("in the end", test.lent)
				if left := l.left(first); left < test.left-time.Minute || left > test.left+time.Minute {
					t.Errorf("%s lasts for %s yet, want %s", first, left, test.left)
				}
			})
		})
	}
}

// An advertisement every few seconds is not written down every few seconds, and what was
// written down never ends before the prefix.
func TestProlonged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lifetime = time.Hour
		l := newLab(t, map[string]*life{first: lasting(lifetime)})
		for range 1000 {
			l.has[first].until = time.Now().Add(lifetime)
			l.source.AddressesChanged()
			l.pass(10 * time.Second)
			if left := l.left(first); left < lifetime/2-time.Minute || left > lifetime+time.Minute {
				t.Fatalf("it lasts for %s yet, want half an hour or more", left)
			}
		}
		var written []time.Time
		for _, r := range l.said {
			written = append(written, r.Lease.Delegations()[0].Valid)
		}
		if n := len(slices.Compact(written)); n > 8 {
			t.Errorf("%d lifetimes were reported in 1000 advertisements", n)
		}
		// The router falls silent.
		l.pass(lifetime - time.Minute)
		l.want("a minute before its end", first)
		l.pass(2 * time.Minute)
		l.want("after it", "")
	})
}

// A link that has not had a prefix yet is no answer: networks may have one from before.
func TestNoPrefixYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, map[string]*life{"fe80::/64": {}, "2001:db8::/121": {}})
		l.pass(time.Hour)
		if l.last().Answered || len(l.last().Lease.Delegations()) > 0 {
			t.Errorf("it says %+v", l.last())
		}
		l.change(func() { l.has[first] = lasting(time.Hour) })
		if l.want("then", first); !l.last().Answered || l.last().State != stateHas || l.last().Error != "" {
			t.Errorf("it says %+v", l.last())
		}
		d := l.last().Lease.Delegations()[0]
		if !d.OnLink || d.Source != spec.SourceParent || d.Parent != "eth0" {
			t.Errorf("it lends %+v", d)
		}
	})
}

// Who sends advertisements on a link may name any number of prefixes.
func TestManyPrefixes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, map[string]*life{first: {}})
		l.change(func() {
			for i := range 100 {
				l.has[fmt.Sprintf("2001:db8:%x::/64", 0x100+i)] = lasting(time.Hour)
			}
		})
		if got := l.last().Lease.Delegations(); len(got) != mostKnown || !strings.HasPrefix(l.lent(), first) {
			t.Errorf("%d are lent: %s", len(got), l.lent())
		}
		l.change(func() { l.has = map[string]*life{second: lasting(24 * time.Hour)} })
		l.pass(2 * time.Hour)
		l.source.AddressesChanged()
		l.pass(2 * readEvery)
		l.want("when the others are gone", second)
	})
}

// A storm of changes is looked at once a second.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, map[string]*life{first: {}})
		for range 1000 {
			l.source.AddressesChanged()
			l.pass(10 * time.Millisecond)
		}
		if n := len(l.said); n > 12 {
			t.Errorf("it was read %d times in 10 s", n)
		}
	})
}

// A line that redials leaves a deprecated prefix each time: when there are as many as are
// kept, the one that ends first makes room for the only one in which connections may begin.
func TestRedialsMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, map[string]*life{first: lasting(24 * time.Hour)})
		l.change(func() {
			l.has[first].deprecated = true
			for i := range mostKnown + 3 {
				l.has[fmt.Sprintf("2001:db8:1%02x::/64", i)] = &life{until: time.Now().Add(2*time.Hour - time.Duration(i)*time.Minute), deprecated: true}
			}
		})
		l.change(func() { l.has["2001:db8:ffff::/64"] = lasting(24 * time.Hour) })
		l.pass(time.Minute)
		var preferred []string
		lent := l.last().Lease.Delegations()
		for _, d := range lent {
			if d.Preferred.IsZero() {
				preferred = append(preferred, d.Prefix.String())
			}
		}
		if len(lent) != mostKnown || !slices.Equal(preferred, []string{"2001:db8:ffff::/64"}) {
			t.Errorf("%d prefixes are lent, preferred are %q: %s", len(lent), preferred, l.lent())
		}
	})
}
