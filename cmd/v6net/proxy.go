package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/v6net/v6net/internal/kernel/icmp6"
	"github.com/v6net/v6net/internal/kernel/ndbpf"
	"github.com/v6net/v6net/ndproxy"
)

// proxyFlags are those of the NDP proxy, in the daemon and alone.
type proxyFlags struct {
	Path           string        `help:"How the NDP proxy answers: ebpf, packet, or auto, which is ebpf as soon as it is loaded, and where it can be." default:"auto" enum:"auto,ebpf,packet" env:"PATH"`
	Override       bool          `help:"Set the Override flag in the NDP proxy's answers, for routers that keep a stale address without it." env:"OVERRIDE"`
	TargetAsSource bool          `help:"Answer from the address that was asked for, for links that lose frames from link-local addresses." env:"TARGET_AS_SOURCE"`
	Delay          time.Duration `help:"Answer multicast solicitations after a random time up to this (RFC 4861 §7.2.8)." default:"0s" env:"DELAY"`
	Rate           int           `help:"Answers per second and link at most." default:"100000" env:"RATE"`
	SourceRate     int           `help:"Answers per second to one MAC address at most; 0: half of the rate." default:"0" env:"SOURCE_RATE"`
}

// maxAnswerDelay is MAX_ANYCAST_DELAY_TIME (RFC 4861 §10).
const maxAnswerDelay = time.Second

// Validate is kong's.
func (f *proxyFlags) Validate() error {
	switch {
	case f.Delay < 0 || f.Delay > maxAnswerDelay:
		return errors.New("delay must be 0s to 1s (RFC 4861 §10, MAX_ANYCAST_DELAY_TIME)")
	case f.Rate < 1 || f.SourceRate < 0 || f.Rate > 1e9 || f.SourceRate > 1e9:
		return errors.New("rate must be 1 to 1000000000 answers per second, and source-rate likewise or 0, which is half of the rate")
	}
	return nil
}

func (f *proxyFlags) knobs() ndproxy.Knobs {
	return ndproxy.Knobs{
		Override: f.Override, TargetAsSource: f.TargetAsSource, Delay: f.Delay, Rate: f.Rate, SourceRate: f.SourceRate,
	}
}

// sweepProxies ends the answering of an NDP proxy that was killed, whatever its links
// and its path. That it cannot be ended keeps nobody from answering rightly.
func sweepProxies(ctx context.Context, log *slog.Logger) {
	if err := ndbpf.Sweep(ctx); err != nil {
		log.Warn("an NDP proxy that was killed may still answer for its addresses", "err", err)
	}
}

// dial opens a link for the NDP proxy, by the path that was chosen.
func (f *proxyFlags) dial(ctx context.Context, link string) (ndproxy.Conn, error) {
	return f.dialWith(ctx, nil, link)
}

// dialWith is dial with programs that may be loaded already.
func (f *proxyFlags) dialWith(ctx context.Context, ahead *ndbpf.Spare, link string) (ndproxy.Conn, error) {
	if f.Path == "packet" {
		return icmp6.Dial(ctx, link)
	}
	conn, err := ahead.Dial(ctx, link)
	if err != nil {
		return nil, err
	}
	if f.Path == "ebpf" { // which nothing else is to answer in the place of
		if err := conn.Load(); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return conn, nil
}
