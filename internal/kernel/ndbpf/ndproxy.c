//go:build ignore

// The fast path of the NDP proxy. It answers the solicitations that need no
// judgement: whole, valid, with no more than one option, from a unicast address or,
// for duplicate address detection, none, for a live lease. Everything else it leaves to package ndproxy, whose decisions
// it repeats and must not differ from; the conformance table runs against both.
//
// Two programs share judge(): one at ingress of the link answers and counts, one
// is the filter of the packet socket by which package ndproxy listens, and hides
// from it what the first one has settled.

#include <linux/bpf.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETH_P_IPV6 0x86dd
#define ICMPV6 58
#define FRAGMENT 44
#define SOLICITATION 135 // RFC 4861 §4.3
#define ADVERTISEMENT 136 // RFC 4861 §4.4
#define SOURCE_LINK_LAYER 1 // RFC 4861 §4.6.1
#define TARGET_LINK_LAYER 2
#define NONCE 14 // RFC 3971 §5.3.2
#define SOLICITED_FLAG 0x40 // RFC 4861 §4.4

// A solicitation or advertisement with one option or none, behind two bytes that
// put the addresses where they can be read as words.
struct frame {
	__u16 pad;
	__u8 to[6];
	__u8 from[6];
	__be16 protocol;
	__u8 version, traffic;
	__u16 label;
	__be16 length;
	__u8 next, hops;
	__u32 source[4];
	__u32 destination[4];
	__u8 type, code;
	__u16 checksum;
	__u8 flags, reserved[3];
	__u32 target[4];
	__u8 option, units, lladdr[6];
} __attribute__((aligned(8)));

#define BARE 78 // without an option, from `to` on
#define FULL 86

// What settles a frame. The order is known to program.go.
enum reason {
	PASSED, // to package ndproxy
	SOLICITED,
	PROBED,
	DEFENDED,
	UNKNOWN_TARGET,
	RATE_LIMITED,
	REASONS,
	UNREPORTED = REASONS, // no reason: reports for which there was no room
};

struct config {
	__u8 mac[6];
	__u8 ready; // 0: whatever is leased is left to package ndproxy
	__u8 flags; // of a solicited answer, in the fifth byte of the message
	__u8 source[16];
	__u8 target_as_source;
	__u8 prefixes; // whether there are any
	__u8 delayed; // answers to multicast are left to package ndproxy
	__u8 watched; // what is settled is reported
	__u32 ifindex;
	__u64 interval; // nanoseconds that an answer uses up of its link's share
	__u64 source_interval; // and of its solicitor's
	__u64 burst; // nanoseconds of the link's share that can be saved up
	__u64 source_burst;
	__u64 secret; // strangers choose their MAC addresses
	__u64 nonces; // the secret of ndproxy.Nonces; 0: none
};

struct prefix {
	__u32 bits;
	__u8 address[16];
};

// A table of leases is an array of buckets, each of which is one line of the
// processor's cache: to look a target up among a million waits for memory once.
// Its first bucket says how many others there are. table.go writes it.
#define SLOTS 4
#define PROBES 4 // buckets in which a lease can be
struct bucket {
	union {
		__u64 slots[SLOTS][2]; // addresses; 0: empty. Their first half is never 0
		struct {
			__u64 mask, secret;
		} head;
	};
};

struct leases_inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct bucket));
	__uint(max_entries, 2);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct leases_inner);
} leases SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, struct prefix);
	__type(value, __u8);
} prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} configs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASONS + 1);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

// When the share of the link (0) and of groups of solicitors is used up until.
#define SHARES 4096
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 + SHARES);
	__type(key, __u32);
	__type(value, __u64);
} shares SEC(".maps");

// What was settled, for who watches. report.go reads it.
struct seen {
	__u32 reason;
	__u8 from[6], pad[2];
	__u32 source[4], target[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} reports SEC(".maps");

static __always_inline int is_mac(const __u8 *a, const __u8 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3] && a[4] == b[4] && a[5] == b[5];
}

// The one's complement sum of RFC 8200 §8.1 in the machine's order, folded.
static __always_inline __u16 sum(const struct frame *f, int full)
{
	const __u32 *words = f->source; // up to and with the option
	__u64 s = bpf_htonl(ICMPV6) + (__u64)bpf_htonl(full ? FULL - 54 : BARE - 54);
#pragma unroll
	for (int i = 0; i < 14; i++)
		s += words[i];
	if (full)
		s += (__u64)words[14] + words[15];
	s = (s & 0xffffffff) + (s >> 32);
	s = (s & 0xffffffff) + (s >> 32);
	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return s;
}

static __always_inline int in_table(const __u32 *address)
{
	__u64 high = *(const __u64 *)address, low = *(const __u64 *)(address + 2);
	__u32 at = 0;
	void *table = bpf_map_lookup_elem(&leases, &at);
	if (!table)
		return 0;
	struct bucket *b = bpf_map_lookup_elem(table, &at);
	if (!b)
		return 0;
	__u64 mask = b->head.mask;
	__u64 h = (low ^ b->head.secret) * 0xff51afd7ed558ccdULL;
	h = (h ^ h >> 33 ^ high) * 0xc4ceb9fe1a85ec53ULL;
	h ^= h >> 33;
#pragma unroll
	for (int i = 0; i < PROBES; i++) {
		at = 1 + ((h + i) & mask);
		b = bpf_map_lookup_elem(table, &at);
		if (!b)
			return 0;
		int full = 1;
#pragma unroll
		for (int j = 0; j < SLOTS; j++) {
			if (b->slots[j][0] == high && b->slots[j][1] == low)
				return 1;
			full &= b->slots[j][1] != 0 || b->slots[j][0] != 0;
		}
		if (!full)
			return 0;
	}
	return 0;
}

static __always_inline int leased(const struct config *c, const struct frame *f)
{
	if (in_table(f->target))
		return 1;
	if (!c->prefixes)
		return 0;
	struct prefix p = {.bits = 128};
	__builtin_memcpy(p.address, f->target, 16);
	return bpf_map_lookup_elem(&prefixes, &p) != 0;
}

static __always_inline int to_solicited_node(const struct frame *f) // RFC 4291 §2.7.1
{
	return f->destination[0] == bpf_htonl(0xff020000) && !f->destination[1] && f->destination[2] == bpf_htonl(1) &&
	       *(__u8 *)(f->destination + 3) == 0xff;
}

// own_nonce is ndproxy.Nonces' own.
static __always_inline int own_nonce(const struct config *c, const struct frame *f)
{
	__u64 h = (*(const __u64 *)(f->target + 2) ^ c->nonces) * 0xff51afd7ed558ccdULL;
	h = (h ^ h >> 33 ^ *(const __u64 *)f->target) * 0xc4ceb9fe1a85ec53ULL;
	h ^= h >> 33;
	return c->nonces && is_mac(f->lladdr, (const __u8 *)&h);
}

// judge says what a frame deserves, rate limits aside. It has no effect but to
// read the frame, of which it takes whole frames of two lengths and no other.
static __always_inline enum reason judge(struct __sk_buff *skb, const struct config *c, struct frame *f)
{
	int full = skb->len == FULL;
	if (!full && skb->len != BARE)
		return PASSED;
	// Tagged for a VLAN above this link, which has a proxy of its own, or for none.
	if (skb->vlan_present || skb->pkt_type > PACKET_MULTICAST)
		return PASSED;
	if (bpf_skb_load_bytes(skb, 0, f->to, BARE) < 0)
		return PASSED;
	if (f->protocol != bpf_htons(ETH_P_IPV6) || f->version >> 4 != 6 || f->next != ICMPV6 || f->type != SOLICITATION)
		return PASSED;
	if (full) {
		if (bpf_skb_load_bytes(skb, BARE, &f->option, FULL - BARE) < 0 || f->units != 1)
			return PASSED;
	}
	// RFC 4861 §7.1.1. What is invalid is counted by package ndproxy.
	if (f->length != (full ? bpf_htons(FULL - 54) : bpf_htons(BARE - 54)) || f->hops != 255 || f->code != 0)
		return PASSED;
	if (*(__u8 *)f->target == 0xff || *(__u8 *)f->source == 0xff || f->from[0] & 1)
		return PASSED;
	// Addresses that the table cannot hold, and nobody has, but for ::.
	int dad = !f->source[0] && !f->source[1];
	if ((!f->target[0] && !f->target[1]) || (dad && (f->source[2] || f->source[3])))
		return PASSED;
	if (is_mac(f->from, c->mac) || (!(f->to[0] & 1) && !is_mac(f->to, c->mac)))
		return PASSED;
	if (sum(f, full) != 0xffff)
		return PASSED;
	if (dad) { // RFC 4862 §5.4.3; whose probe it is, RFC 7527 says
		if (!to_solicited_node(f))
			return PASSED;
		if (full && (f->option == SOURCE_LINK_LAYER || (f->option == NONCE && own_nonce(c, f))))
			return PASSED;
	} else if (in_table(f->source)) { // who has an address of ours
		return PASSED;
	}
	if (!leased(c, f))
		return UNKNOWN_TARGET;
	if (!c->ready)
		return PASSED;
	if (dad)
		return DEFENDED;
	if (f->to[0] & 1)
		return c->delayed ? PASSED : SOLICITED;
	return PROBED;
}

// take uses up a share (the generic cell rate algorithm) unless it is used up.
// Two processors at once may use up one answer's for two: a limit is no lock.
static __always_inline int take(__u32 share, __u64 interval, __u64 burst, __u64 now)
{
	__u64 *until = bpf_map_lookup_elem(&shares, &share);
	if (!until)
		return 0;
	__u64 u = *until > now ? *until : now;
	if (u - now + interval > burst)
		return 0;
	*until = u + interval;
	return 1;
}

static __always_inline int within_limits(const struct config *c, const struct frame *f)
{
	__u64 now = bpf_ktime_get_coarse_ns();
	__u64 mac = 0;
	__builtin_memcpy(&mac, f->from, 6);
	__u32 share = 1 + (((mac ^ c->secret) * (c->secret | 1)) >> 32) % SHARES;
	return take(share, c->source_interval, c->source_burst, now) && take(0, c->interval, c->burst, now);
}

static __always_inline void count(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &reason);
	if (n)
		(*n)++;
}

// report tells who watches, if anybody does, that a frame is settled.
static __always_inline void report(const struct config *c, __u32 reason, const struct frame *f)
{
	if (!c->watched)
		return;
	struct seen *s = bpf_ringbuf_reserve(&reports, sizeof(*s), 0);
	if (!s) {
		count(UNREPORTED);
		return;
	}
	s->reason = reason;
	__builtin_memcpy(s->from, f->from, 6);
	__builtin_memset(s->pad, 0, 2);
	__builtin_memcpy(s->source, f->source, 16);
	__builtin_memcpy(s->target, f->target, 16);
	bpf_ringbuf_submit(s, 0);
}

// turn makes the answer out of the question (RFC 4861 §7.2.4, §7.2.8).
static __always_inline void turn(const struct config *c, struct frame *f, int to_all)
{
	__builtin_memcpy(f->to, f->from, 6);
	__builtin_memcpy(f->from, c->mac, 6);
	f->version = 6 << 4;
	f->traffic = 0;
	f->label = 0;
	f->length = bpf_htons(FULL - 54);
	__builtin_memcpy(f->destination, f->source, 16);
	f->flags = c->flags;
	if (to_all) { // ff02::1, and so unsolicited
		f->to[0] = f->to[1] = 0x33; // RFC 2464 §7
		f->to[2] = f->to[3] = f->to[4] = 0;
		f->to[5] = 1;
		f->destination[0] = bpf_htonl(0xff020000);
		f->destination[1] = f->destination[2] = 0;
		f->destination[3] = bpf_htonl(1);
		f->flags &= ~SOLICITED_FLAG;
	}
	if (c->target_as_source)
		__builtin_memcpy(f->source, f->target, 16);
	else
		__builtin_memcpy(f->source, c->source, 16);
	f->type = ADVERTISEMENT;
	f->checksum = 0;
	__builtin_memset(f->reserved, 0, 3);
	f->option = TARGET_LINK_LAYER;
	f->units = 1;
	__builtin_memcpy(f->lladdr, c->mac, 6);
	f->checksum = ~sum(f, 1);
}

SEC("tc")
int ndproxy_answer(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct config *c = bpf_map_lookup_elem(&configs, &zero);
	if (!c)
		return TC_ACT_UNSPEC;
	struct frame f = {};
	enum reason reason = judge(skb, c, &f);
	if (reason == PASSED)
		return TC_ACT_UNSPEC;
	if (reason == UNKNOWN_TARGET) { // of the host itself, perhaps
		count(UNKNOWN_TARGET);
		report(c, UNKNOWN_TARGET, &f);
		return TC_ACT_UNSPEC;
	}
	if (!within_limits(c, &f)) {
		count(RATE_LIMITED);
		report(c, RATE_LIMITED, &f);
		return TC_ACT_SHOT;
	}
	// Upwards, and nothing is lost, if there is no memory for the answer.
	if (skb->len != FULL && bpf_skb_change_tail(skb, FULL, 0) < 0)
		return TC_ACT_UNSPEC;
	report(c, reason, &f);
	turn(c, &f, reason == DEFENDED);
	if (bpf_skb_store_bytes(skb, 0, f.to, FULL, 0) < 0)
		return TC_ACT_SHOT;
	count(reason);
	return bpf_redirect(skb->ifindex, 0);
}

static __always_inline int octet(struct __sk_buff *skb, __u32 at)
{
	__u8 b;
	return bpf_skb_load_bytes(skb, at, &b, 1) < 0 ? -1 : b;
}

// The packet socket's filter: what internal/kernel/icmp6 would have passed, less
// what ndproxy_answer has settled.
SEC("socket")
int ndproxy_listen(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct config *c = bpf_map_lookup_elem(&configs, &zero);
	if (!c || skb->ifindex != c->ifindex || skb->pkt_type > PACKET_MULTICAST)
		return 0;
	int next = octet(skb, 20), type;
	__u32 at = 54;
	if (next == ICMPV6) {
		type = octet(skb, at);
		if (type == ADVERTISEMENT)
			return 1 << 18;
		if (type != SOLICITATION)
			return 0;
		struct frame f = {};
		return judge(skb, c, &f) == UNKNOWN_TARGET ? 0 : 1 << 18;
	}
	if (next == FRAGMENT) { // RFC 6980: to be counted
		if (octet(skb, 54) != ICMPV6 || octet(skb, 56) != 0 || (octet(skb, 57) & 0xf8) != 0)
			return 0;
		at += 8;
	} else if (next == 0 || next == 60) {
		int units = octet(skb, 55);
		if (octet(skb, 54) != ICMPV6 || units < 0)
			return 0;
		at += 8 * (units + 1);
	} else {
		return 0;
	}
	return octet(skb, at) == SOLICITATION ? 1 << 18 : 0;
}

char program_license[] SEC("license") = "Apache-2.0";
