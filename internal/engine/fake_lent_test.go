package engine_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

type fakeSources struct{ *world }

// Delegated is not counted: that nothing is lent is one of its answers.
func (f fakeSources) Delegated(ctx context.Context, source spec.Source, link string) (lent []spec.Delegation, err error) {
	if f.onAsked != nil {
		defer func() {
			f.onAsked()
			if gone := ctx.Err(); gone != nil {
				lent, err = nil, gone
			}
		}()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, string(source)+" "+link)
	if lent := f.lentTo[spec.SourceOnLink{Source: source, Link: link}]; len(lent) > 0 {
		return slices.Clone(lent), nil
	}
	if source == spec.SourcePD && f.lentTo[spec.SourceOnLink{Source: source, Link: link}] != nil {
		return nil, context.DeadlineExceeded
	}
	return nil, spec.ErrNotAvailable
}

func (f fakeSources) Keep(keep []spec.SourceOnLink) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.kept = keep
}

// LinkRenamed has what is lent on a link be lent by its next name.
func (f fakeSources) LinkRenamed(from, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for at, lent := range f.lentTo {
		if at.Link == from {
			delete(f.lentTo, at)
			at.Link = to
			f.lentTo[at] = lent
		}
	}
}

func (f fakeSources) Status() []spec.DelegationStatus { return f.sources }

type fakeRoutes struct{ *world }

func (r fakeRoutes) EnsureUnreachable(ctx context.Context, p netip.Prefix) error {
	return r.call(ctx, "route: unreachable "+p.String(), func() error {
		r.unreachable[p] = true
		return nil
	})
}

func (r fakeRoutes) RemoveUnreachable(ctx context.Context, p netip.Prefix) error {
	return r.call(ctx, "route: reachable "+p.String(), func() error {
		delete(r.unreachable, p)
		return nil
	})
}

// Unreachable is not counted: it is asked once, whatever the first call is.
func (r fakeRoutes) Unreachable(context.Context) (all []netip.Prefix, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.unreachable {
		all = append(all, p)
	}
	return all, nil
}

type fakeSandboxes struct{ *world }

func (s fakeSandboxes) Readdress(ctx context.Context, sandbox, alias string, want []spec.SandboxAddress, gone []netip.Prefix) error {
	return s.call(ctx, "sandbox "+sandbox+": readdress", func() error {
		if s.sandboxErr != nil {
			return s.sandboxErr
		}
		has := slices.DeleteFunc(slices.Clone(s.sandboxes[alias]), func(text string) bool {
			p := pfx(strings.Fields(text)[0])
			return slices.Contains(gone, p) || slices.ContainsFunc(want, func(w spec.SandboxAddress) bool { return w.Prefix == p })
		})
		for _, w := range want {
			text := w.Prefix.String()
			if w.Former {
				text += " former"
			}
			if !w.Valid.IsZero() {
				text += " until " + w.Valid.Format(time.RFC3339)
			}
			has = append(has, text)
		}
		slices.Sort(has)
		s.sandboxes[alias] = has
		return nil
	})
}
