package pd

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"

	"github.com/v6net/v6net/internal/spec"
)

// After a server's offer came to nothing, the next discovery waits so long, and
// twice as long each time, so that two who disagree do not talk all day.
const (
	leastRest = 10 * time.Second
	mostRest  = 10 * time.Minute
)

// discover looks for a server until there is a lease (RFC 8415 §18.2.1, §18.2.2).
func (c *Client) discover(ctx context.Context) {
	rest := leastRest
	for ctx.Err() == nil {
		c.moved, c.said.Answered = false, false
		bound, err := c.seek(ctx, 0)
		if bound {
			return
		}
		if errors.Is(err, errMoved) || errors.Is(err, errHint) || c.moved {
			continue
		}
		c.rest(ctx, rest)
		rest = min(2*rest, mostRest)
	}
}

// replace is discover while there is a lease that nobody has confirmed on this link. It is
// in use until there is another, or until any server is to be asked for more time.
func (c *Client) replace(ctx context.Context) {
	rest := leastRest
	for ctx.Err() == nil && !c.moved && !c.empty() {
		var left time.Duration // zero: no end
		_, rebind := c.due()
		if now := c.config.Now(); isDue(rebind, now) {
			return
		} else if !rebind.IsZero() {
			left = rebind.Sub(now)
		}
		bound, err := c.seek(ctx, left)
		if bound {
			return
		}
		if c.note(err); c.moved || errors.Is(err, errHint) {
			continue
		}
		c.await(ctx, earliest(rebind, c.expiry(), c.config.Now().Add(rest)))
		c.lapse()
		rest = min(2*rest, mostRest)
	}
}

// seek looks for a server for so long (zero: until there is one), and asks it for a lease.
func (c *Client) seek(ctx context.Context, most time.Duration) (bound bool, err error) {
	c.say(stateSoliciting)
	if hurried := c.hurried.Swap(false); c.calm && !hurried && !c.pause(ctx, upTo(solicitMaxDelay)) {
		return false, ctx.Err()
	}
	c.calm = true
	best, bound, err := c.solicit(ctx, most)
	if err == nil && !bound {
		c.say(stateRequesting)
		bound = c.request(ctx, best.server, c.offered(best))
	}
	if bound {
		c.unhinted = false // for the next time
	}
	return bound, err
}

// errHint ends a discovery that is to go on without a hint.
var errHint = errors.New("no server lends a prefix of the length that was asked for")

// rest waits, unless the link changes.
func (c *Client) rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d + jitter(d))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-c.changed:
	case <-timer.C:
	}
}

// solicit finds the server to be asked, or is bound by a rapid commit.
func (c *Client) solicit(ctx context.Context, most time.Duration) (best answer, bound bool, err error) {
	offered, refused := false, false
	first := true // the first wait is for the best of all offers (§18.2.1)
	q := question{kind: dhcpv6.MessageTypeSolicit, associations: c.wanted()}
	err = c.exchange(ctx, q, timing{initial: solicitTimeout, total: most}, func(a answer) bool {
		if a.solicitMost > 0 {
			c.solicitMost = a.solicitMost // also of an offer that is of no use (§18.2.9)
		}
		if a.reply && !a.rapid {
			return false // of what was not asked for (§18.2.10)
		}
		if a.reply && c.bind(a, c.config.Now()) {
			bound = true
			return true
		}
		if a.reply || !a.status.ok() || a.live(c.config.IAID) == 0 {
			refused = true
			c.refused(a, c.hint() == 0)
			return false
		}
		if !offered || c.better(a, best) > 0 {
			best, offered = a, true
		}
		return !first || a.preference == 255
	}, func() bool {
		first = false
		return offered || refused && c.hint() > 0
	})
	if err != nil || bound {
		return answer{}, bound, err
	}
	if !offered {
		// Some servers take a length that they do not have for a reason to lend nothing,
		// though it is a hint (RFC 8168 §3.2).
		c.unhinted = true
		c.hurried.Store(true)
		return answer{}, false, errHint
	}
	return best, false, nil
}

// better orders offers: the server's preference decides, then which lends more.
func (c *Client) better(a, b answer) int {
	if a.preference != b.preference {
		return int(a.preference) - int(b.preference)
	}
	return a.live(c.config.IAID) - b.live(c.config.IAID)
}

// wanted are the associations without a prefix.
func (c *Client) wanted() []spec.Association {
	wanted := make([]spec.Association, 0, len(c.config.IAID))
	for _, id := range c.config.IAID {
		wanted = append(wanted, spec.Association{ID: id})
	}
	return wanted
}

// offered are the associations with what the server has offered.
func (c *Client) offered(a answer) []spec.Association {
	wanted := c.wanted()
	for i := range wanted {
		g, _ := a.granted(wanted[i].ID)
		for _, l := range g.prefixes {
			if l.valid > 0 {
				wanted[i].Delegations = append(wanted[i].Delegations, spec.Delegation{Prefix: l.prefix})
			}
		}
	}
	return wanted
}

// request asks one server for a lease, and reports whether there is one
// (§18.2.2, §18.2.10.1).
func (c *Client) request(ctx context.Context, server []byte, associations []spec.Association) (bound bool) {
	q := question{kind: dhcpv6.MessageTypeRequest, server: server, associations: associations}
	err := c.exchange(ctx, q, requestTiming, func(a answer) bool {
		if !a.reply || !bytes.Equal(a.server, server) {
			return false
		}
		if bound = c.bind(a, c.config.Now()); bound {
			return true
		}
		c.refused(a, true)
		return !a.transient()
	}, nil)
	c.note(err)
	return bound
}
