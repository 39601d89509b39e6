package ra

import (
	"net/netip"

	"github.com/v6net/v6net/internal/spec"
)

// tellSent says to who watches that an advertisement has gone out.
func (l *link) tellSent(conn Conn, what string, to netip.Addr, a spec.Advertisement) {
	events := l.hub.events()
	if !events.Wanted(spec.EventRA) {
		return
	}
	a.Source = conn.Source()
	events.Publish(spec.Event{
		Type: spec.EventRA, What: what, Link: l.name, Source: a.Source, Destination: to,
		MAC: spec.MAC(conn.HardwareAddr()), Advertisement: &a,
	})
}

// tellHeard says that a message has come. Of one that hosts must discard nothing is read.
func (l *link) tellHeard(v Verdict, m message) {
	events := l.hub.events()
	if !events.Wanted(spec.EventRA) {
		return
	}
	e := spec.Event{Type: spec.EventRA, What: "ignored", Reason: string(v), Link: l.name, Source: m.Source}
	switch v {
	case Solicited, SolicitedAll:
		e.What, e.Reason = "solicited", ""
	case Heard:
		e.What, e.Reason = "heard", ""
		d := Decode(m.bytes)
		d.Advertisement.Link, d.Advertisement.Source = l.name, m.Source
		e.Advertisement = &d.Advertisement
		if len(d.HardwareAddr) == len(e.MAC) {
			e.MAC = spec.MAC(d.HardwareAddr)
		}
	}
	events.Publish(e)
}
