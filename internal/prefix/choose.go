package prefix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/ipam"
)

// Choose turns a request into a pool. It never answers a prefix that overlaps
// one in use, so whoever asks again and again gets another one each time, and in
// the end an error. globalID is the host's own of NewGlobalID. seed, the same at
// every call on one host and another on the next, is where the search for a free
// part of a shared prefix begins, so that neighbours do not choose alike.
//
// The error of a prefix with no free part wraps ipam.ErrExhausted.
func Choose(ctx context.Context, host Host, req spec.PoolRequest, inUse []netip.Prefix, globalID [5]byte, seed uint64) (spec.Pool, error) {
	where := req.Prefix // nothing else is asked for
	if !where.IsValid() {
		where = spec.Everywhere(req.V6)
	}
	taken, err := host.Taken(ctx, where)
	if err != nil {
		return spec.Pool{}, fmt.Errorf("choose a prefix: %w", err)
	}
	c := &choice{host: host, req: req, inUse: inUse, taken: taken, globalID: globalID, seed: seed}
	if err := c.checkParent(ctx); err != nil {
		return spec.Pool{}, err
	}
	return c.source()(ctx)
}

// checkParent refuses a parent that is not there before any source looks for a prefix on it.
func (c *choice) checkParent(ctx context.Context) error {
	if c.req.Parent == "" || c.req.Prefix.IsValid() || !c.req.V6 || c.req.Source == spec.SourceULA {
		return nil
	}
	if _, err := c.host.OnLink(ctx, c.req.Parent); !errors.Is(err, fs.ErrNotExist) {
		return nil // what else is wrong its sources say
	}
	if _, _, isVLAN := spec.ParseVLAN(c.req.Parent); isVLAN {
		return fmt.Errorf("parent %s does not exist: it is made with the network, which then has to be told the VLAN's prefix (--subnet, with --gateway)", c.req.Parent)
	}
	return spec.NoParent(c.req.Parent)
}

// choice is one request and the facts to judge it by.
type choice struct {
	host     Host
	req      spec.PoolRequest
	inUse    []netip.Prefix // by pools of ours
	taken    []netip.Prefix // by routes and addresses of the host
	globalID [5]byte
	seed     uint64
	asked    map[spec.Source]answer // by auto, ahead
}

// finder looks for a pool. Its error wraps an unavailable if only that source has none.
type finder func(context.Context) (spec.Pool, error)

func (c *choice) source() finder {
	switch {
	case c.req.Prefix.IsValid():
		return c.static
	case !c.req.V6:
		return c.private
	}
	switch c.req.Source {
	case spec.SourceAuto:
		return c.auto
	case spec.SourceParent:
		return c.parent
	case spec.SourceULA:
		return c.ula
	case spec.SourceStatic:
		return refuse("source=static needs a --subnet")
	case spec.SourcePD, spec.SourceCloud:
		return c.lent(c.req.Source)
	default:
		return refuse(fmt.Sprintf("unknown prefix source %q", c.req.Source))
	}
}

func refuse(text string) finder {
	return func(context.Context) (spec.Pool, error) { return spec.Pool{}, errors.New(text) }
}

// automatic are the sources of source=auto, the best first: a prefix that is routed
// to this host alone comes before a part of one that is shared.
func (c *choice) automatic() []finder {
	return []finder{c.lent(spec.SourcePD), c.lent(spec.SourceCloud), c.parent, c.ula}
}

// auto takes the first source that yields, and says why those before it did not.
func (c *choice) auto(ctx context.Context) (spec.Pool, error) {
	var why string
	var failed error
	c.askAhead(ctx)
	for _, find := range c.automatic() {
		pool, err := find(ctx)
		if err == nil {
			pool.Reason = why + pool.Reason
			return pool, nil
		}
		failed = fmt.Errorf("%s%w", why, err)
		if _, ok := errors.AsType[*unavailable](err); !ok {
			break
		}
		if errors.Is(err, spec.ErrNotAvailable) {
			continue // nothing to tell
		}
		why = failed.Error() + ": "
	}
	return spec.Pool{}, failed
}

// pool is the answer to the request, from one source.
func (c *choice) pool(p netip.Prefix, source spec.Source, reason string) spec.Pool {
	return spec.Pool{
		ID:         p.String(),
		Prefix:     p,
		Range:      c.req.Range,
		Allocation: c.req.Allocation,
		Source:     source,
		Reason:     reason,

		ParentNamed: c.req.Parent != "",
	}
}

// carve finds a part of from that is in nobody's use. Routes shorter than
// shortest do not count: they say how from is reached, not who uses it. more is
// avoided too.
func (c *choice) carve(from netip.Prefix, bits, shortest int, more []netip.Prefix, start uint64) (netip.Prefix, error) {
	var taken []netip.Prefix
	taken = append(taken, c.inUse...)
	taken = append(taken, noShorter(c.taken, shortest)...)
	taken = append(taken, more...)
	return ipam.Carve(from, bits, taken, start)
}

// noShorter are the prefixes of at least so many bits.
func noShorter(prefixes []netip.Prefix, bits int) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range prefixes {
		if p.Bits() >= bits {
			out = append(out, p)
		}
	}
	return out
}

// unavailable says why a source has no prefix to give, where another source may.
type unavailable struct{ err error }

func (u *unavailable) Error() string { return u.err.Error() }
func (u *unavailable) Unwrap() error { return u.err }

func none(format string, args ...any) error {
	return &unavailable{fmt.Errorf(format, args...)}
}
