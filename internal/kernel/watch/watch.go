// Package watch tells of changes to the links, addresses and routes of a
// network namespace as they happen, and of the end of others.
package watch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// bufferSize, in bytes, holds a burst of some thousand notifications, each of
// which takes 1 to 4 KiB of it, while the handler is busy.
const bufferSize = 4 << 20

// groups are all kinds of change in one subscription, so that they come in the
// order in which they happened.
const groups = 1<<(unix.RTNLGRP_LINK-1) |
	1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1) |
	1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1) |
	1<<(unix.RTNLGRP_NSID-1)

// Watcher is a subscription to the changes of one network namespace.
//
// It is built on mdlayher/netlink: closing the socket ends its Receive, where the
// channels of vishvananda/netlink need two goroutines for each of three sockets,
// which block for ever on a receiver that has gone.
type Watcher struct {
	log    *slog.Logger
	events *netlink.Conn
	query  *netlink.Conn
	// names are those of all links, by index: events of addresses and routes carry no
	// name, and that of a rename none but the new one. Deleted links leave it.
	names map[int]string
}

// Subscribe opens a subscription in the network namespace of the calling
// thread. Every change from its return on reaches the handler of [Watcher.Run],
// or a [Resync] in its stead.
func Subscribe(log *slog.Logger) (*Watcher, error) {
	return subscribe(log, bufferSize)
}

func subscribe(log *slog.Logger, buffer int) (*Watcher, error) {
	events, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: groups})
	if err != nil {
		return nil, fmt.Errorf("subscribe to changes of links, addresses and routes: %w", err)
	}
	if err := events.SetReadBuffer(buffer); err != nil {
		return nil, errors.Join(fmt.Errorf("set receive buffer of the subscription: %w", err), events.Close())
	}
	query, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open rtnetlink socket: %w", err), events.Close())
	}
	w := &Watcher{log: log, events: events, query: query}
	if err := w.learn(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// learn reads the names of all links.
func (w *Watcher) learn() error {
	w.names = map[int]string{}
	const skipStatistics = 1 << 3 // RTEXT_FILTER_SKIP_STATS: two thirds of what the kernel says of a link
	e := netlink.NewAttributeEncoder()
	e.Uint32(unix.IFLA_EXT_MASK, skipStatistics)
	mask, err := e.Encode()
	if err != nil {
		return err
	}
	replies, err := w.query.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request | netlink.Dump},
		Data:   append(make([]byte, unix.SizeofIfInfomsg), mask...),
	})
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	for _, m := range replies {
		if e, ok, err := decodeLink(m.Data); err == nil && ok {
			w.names[e.Index] = e.Link
		}
	}
	return nil
}

// Close ends a subscription that is not run. Run does it itself at its end;
// closing again does no harm.
func (w *Watcher) Close() error { return errors.Join(w.events.Close(), w.query.Close()) }

// Run calls handler for every change, one after the other on the calling
// goroutine, until ctx ends; then it closes the subscription and returns nil.
// It can run once.
//
// A handler that is slower than the kernel for long loses events. It gets a
// [Resync] then, and no event from before the loss follows that.
func (w *Watcher) Run(ctx context.Context, handler func(Event)) error {
	defer func() { _ = w.Close() }()
	// Closing is what ends a Receive that waits.
	stop := context.AfterFunc(ctx, func() { _ = w.events.Close() })
	defer stop()
	for ctx.Err() == nil {
		messages, err := w.events.Receive()
		if errors.Is(err, unix.ENOBUFS) {
			w.log.Warn("changes of links, addresses or routes were lost; everything is read again")
			if err = w.discard(); err == nil {
				err = w.learn()
			}
			if err == nil {
				handler(Event{Kind: Resync})
			}
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("receive changes of links, addresses and routes: %w", err)
		}
		for _, m := range messages {
			for _, e := range w.event(m) {
				if ctx.Err() == nil {
					handler(e)
				}
			}
		}
	}
	return nil
}

// discard empties the socket after a loss. What it holds is from before: "down",
// say, where the "up" that came after it is lost. And only when it is empty does
// the kernel put anything into it again (NETLINK_S_CONGESTED in
// net/netlink/af_netlink.c), so this ends, and nothing later is lost unseen.
func (w *Watcher) discard() error {
	raw, err := w.events.SyscallConn()
	if err != nil {
		return err
	}
	var receiveErr error
	err = raw.Read(func(fd uintptr) bool {
		var rest [1]byte // of each message; the kernel drops what does not fit
		for {
			_, _, receiveErr = unix.Recvfrom(int(fd), rest[:], unix.MSG_DONTWAIT)
			switch receiveErr {
			case nil, unix.EINTR, unix.ENOBUFS:
			case unix.EAGAIN:
				receiveErr = nil
				return true
			default:
				return true
			}
		}
	})
	return errors.Join(err, receiveErr)
}

// event is what a message says, with the name of its link. A rename says two things: that
// nothing is called so any more, and what the link is called now.
func (w *Watcher) event(m netlink.Message) []Event {
	e, ok, err := decode(m)
	if err != nil {
		w.log.Error("a message of the kernel cannot be read", "type", m.Header.Type, "err", err)
		return nil
	}
	if !ok {
		return nil
	}
	if e.Kind != Link {
		e.Link = w.name(e.Index)
		return []Event{e}
	}
	before, known := w.names[e.Index]
	if e.Deleted {
		delete(w.names, e.Index)
		return []Event{e}
	}
	w.names[e.Index] = e.Link
	if known && before != e.Link {
		return []Event{{Kind: Link, Index: e.Index, Link: before, Deleted: true, Renamed: e.Link}, e}
	}
	return []Event{e}
}

// name is that of a link by index, and empty for none.
func (w *Watcher) name(index int) string {
	if name, ok := w.names[index]; ok || index == 0 {
		return name
	}
	request := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(request[4:], uint32(index))
	replies, err := w.query.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request},
		Data:   request,
	})
	if err != nil || len(replies) != 1 { // deleted since
		return ""
	}
	e, ok, err := decodeLink(replies[0].Data)
	if err != nil || !ok {
		return ""
	}
	w.names[index] = e.Link
	return e.Link
}
