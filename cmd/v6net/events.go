package main

import (
	"github.com/v6net/v6net/internal/event"
	"github.com/v6net/v6net/internal/spec"
	"github.com/v6net/v6net/ndproxy"
)

// watchProxy has what the NDP proxy judges told while somebody listens for it.
func watchProxy(proxy *ndproxy.Supervisor, hub *event.Hub) {
	proxy.See = func(link string, s ndproxy.Seen) {
		if s.Lost > 0 {
			hub.Publish(spec.Event{Type: spec.EventNDP, What: "unseen", Link: link, Lost: s.Lost, Reason: "more frames than can be told of"})
		}
		hub.Publish(spec.Event{
			Type: spec.EventNDP, What: judged(s.Reason), Reason: s.Reason.String(), Link: link,
			Source: s.Source, Address: s.Target, MAC: s.From,
		})
	}
	hub.Interest(spec.EventNDP, proxy.Watch)
}

// judged is what became of a frame.
func judged(r ndproxy.Reason) string {
	switch r.Action() {
	case ndproxy.Answer:
		return "answered"
	case ndproxy.Drop:
		return "dropped"
	default:
		return "ignored"
	}
}
