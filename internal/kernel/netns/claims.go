package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Of linux/unix_diag.h and net/tcp_states.h.
const (
	diagName, diagUID         = 0, 7           // UNIX_DIAG_NAME, UNIX_DIAG_UID
	diagShowName, diagShowUID = 1 << 0, 1 << 6 // UDIAG_SHOW_NAME, UDIAG_SHOW_UID
	diagMessage               = 16             // bytes of struct unix_diag_msg
	stateListen               = 10             // TCP_LISTEN
)

// unixDiagRequest is struct unix_diag_req.
type unixDiagRequest struct{ show uint32 }

func (unixDiagRequest) Len() int { return 24 }

func (r unixDiagRequest) Serialize() []byte {
	b := []byte{unix.AF_UNIX, 0, 0, 0}
	for _, word := range []uint32{^uint32(0), 0, r.show, ^uint32(0), ^uint32(0)} { // all states, any inode, no cookie
		b = binary.NativeEndian.AppendUint32(b, word)
	}
	return b
}

// claims lists the sockets with a name of a claim in the network namespace of this thread,
// from the kernel alone: nobody can keep it from answering.
func claims(name string) ([]claimSocket, error) {
	request := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
	request.AddData(unixDiagRequest{diagShowName | diagShowUID})
	messages, err := request.Execute(unix.NETLINK_INET_DIAG, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) {
		return claimsOfTable(name) // a kernel without unix_diag
	}
	if err != nil {
		return nil, fmt.Errorf("look for the claim %s: %w", name, err)
	}
	var all []claimSocket
	for _, m := range messages {
		if len(m) < diagMessage || m[1] != unix.SOCK_STREAM { // each type has names of its own
			continue
		}
		attributes, err := nl.ParseRouteAttr(m[diagMessage:])
		if err != nil {
			return nil, fmt.Errorf("look for the claim %s: %w", name, err)
		}
		c := claimSocket{inode: binary.NativeEndian.Uint32(m[4:]), listens: m[2] == stateListen}
		for _, a := range attributes {
			switch {
			case a.Attr.Type == diagName && len(a.Value) > 0 && a.Value[0] == 0:
				c.name = string(a.Value[1:])
			case a.Attr.Type == diagUID && len(a.Value) == 4:
				c.uid = binary.NativeEndian.Uint32(a.Value)
			}
		}
		// A connection that was accepted has its listener's name.
		if isClaim(c.name, name) && (c.listens || m[2] != stateEstablished) {
			all = append(all, c)
		}
	}
	return all, nil
}

const stateEstablished = 1 // TCP_ESTABLISHED

// claimsOfTable is claims by a file, which does not know users.
func claimsOfTable(name string) ([]claimSocket, error) {
	// Columns: the fourth are flags, of which SO_ACCEPTCON marks who listens, the seventh is the
	// inode, the last one the name (net/unix/af_unix.c, unix_seq_show).
	table, err := os.ReadFile("/proc/thread-self/net/unix")
	if err != nil {
		return nil, fmt.Errorf("look for the claim %s: %w", name, err)
	}
	var all []claimSocket
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) != 8 || f[3] != "00010000" || !strings.HasPrefix(f[7], "@") || !isClaim(f[7][1:], name) {
			continue
		}
		inode, err := strconv.ParseUint(f[6], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("look for the claim %s: inode %q: %w", name, f[6], err)
		}
		all = append(all, claimSocket{name: f[7][1:], inode: uint32(inode), listens: true})
	}
	return all, nil
}
