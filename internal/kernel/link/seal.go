package link

import (
	"encoding/binary"
	"errors"
	"fmt"

	mdlayher "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// What a cable's ends drop at their ingress, before anything of this host's sees
// it. It is said in classic BPF, which takes no more than CAP_NET_ADMIN.
var (
	// sealFar is for the end where all comes out that is for no container.
	sealFar = []bpf.Instruction{bpf.RetConstant{Val: uint32(netlink.TC_ACT_SHOT)}}
	// sealNear is for the parent. By way of it macvlan sends from container to
	// container (macvlan_queue_xmit): there the hardware address is not the
	// parent's. With ipvlan what is for the parent's is for this host
	// (ipvlan_xmit_mode_l2).
	sealNear = []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OTHERHOST, SkipTrue: 1},
		bpf.RetConstant{Val: uint32(netlink.TC_ACT_SHOT)},
		bpf.RetConstant{Val: uint32(netlink.TC_ACT_OK)},
	}
)

// seal puts such a program at a link's ingress, or in place of the one there.
func (h *Handle) seal(l netlink.Link, program []bpf.Instruction) error {
	name, index := l.Attrs().Name, l.Attrs().Index
	ingress := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}}
	if err := h.netlink.QdiscAdd(ingress); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("seal %s: %w", name, explainSeal("sch_ingress", "NET_SCH_INGRESS", err))
	}
	filter, err := ingressFilter(index, program)
	if err != nil {
		return fmt.Errorf("seal %s: %w", name, err)
	}
	if _, err := ask(h.raw, mdlayher.Message{
		Header: mdlayher.Header{Type: unix.RTM_NEWTFILTER, Flags: mdlayher.Request | mdlayher.Acknowledge | mdlayher.Create},
		Data:   filter,
	}); err != nil {
		return fmt.Errorf("seal %s: %w", name, explainSeal("cls_bpf", "NET_CLS_BPF", err))
	}
	return nil
}

// ingressFilter is struct tcmsg and the attributes of the filter, always under
// the same handle: a filter that is there is replaced (net/sched/cls_bpf.c).
func ingressFilter(index int, instructions []bpf.Instruction) ([]byte, error) {
	const handle, priority = 1, 1
	msg := make([]byte, nl.SizeofTcMsg)
	binary.NativeEndian.PutUint32(msg[4:], uint32(index))
	binary.NativeEndian.PutUint32(msg[8:], handle)
	binary.NativeEndian.PutUint32(msg[12:], netlink.HANDLE_MIN_INGRESS)
	binary.NativeEndian.PutUint32(msg[16:], priority<<16|uint32(nl.Swap16(unix.ETH_P_ALL)))
	program, err := bpf.Assemble(instructions)
	if err != nil {
		return nil, err
	}
	ops := make([]byte, 0, 8*len(program)) // struct sock_filter
	for _, i := range program {
		ops = binary.NativeEndian.AppendUint16(ops, i.Op)
		ops = append(ops, i.Jt, i.Jf)
		ops = binary.NativeEndian.AppendUint32(ops, i.K)
	}
	attributes := mdlayher.NewAttributeEncoder()
	attributes.String(nl.TCA_KIND, "bpf")
	attributes.Nested(nl.TCA_OPTIONS, func(options *mdlayher.AttributeEncoder) error {
		options.Uint16(nl.TCA_BPF_OPS_LEN, uint16(len(program)))
		options.Bytes(nl.TCA_BPF_OPS, ops)
		options.Uint32(nl.TCA_BPF_FLAGS, nl.TCA_BPF_FLAG_ACT_DIRECT) // what the program returns is what is done
		return nil
	})
	encoded, err := attributes.Encode()
	return append(msg, encoded...), err
}

// explainSeal: the kernel says that there is no such file where it knows no such
// filter and finds no module, and "not supported" in places.
func explainSeal(module, option string, err error) error {
	if isNoModule(err) || errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s: %w: load it on the host with `modprobe %s` (kernel option CONFIG_%s): %w", module, ErrNoModule, module, option, err)
	}
	return err
}
