package main

import (
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"
)

// Names of the sockets that systemd may have opened for the daemon
// (FileDescriptorName= in packaging/systemd).
const (
	pluginListener  = "plugin"
	controlListener = "control"
)

// handedOver are the listeners that systemd opened, by name (sd_listen_fds(3)): none
// where it did not start the daemon.
func handedOver() (map[string]net.Listener, error) {
	named, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("sockets of systemd: %w", err)
	}
	listeners := map[string]net.Listener{}
	for name, all := range named {
		if len(all) != 1 || all[0] == nil || name != pluginListener && name != controlListener {
			return nil, fmt.Errorf("sockets of systemd: %d of name %q (allowed: one stream socket each of %s, %s)", len(all), name, pluginListener, controlListener)
		}
		listeners[name] = all[0]
	}
	return listeners, nil
}

// notifyReady tells systemd that the daemon serves (Type=notify). Elsewhere it does nothing.
func notifyReady() error {
	if _, err := sd.SdNotify(false, sd.SdNotifyReady); err != nil {
		return fmt.Errorf("tell systemd that the daemon is ready: %w", err)
	}
	return nil
}
