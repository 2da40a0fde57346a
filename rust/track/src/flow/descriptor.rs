//! An ordinary packet with its key in one cache line.
//!
//! Fields that the packet path reads again and again are here. Rare fields (options of a SYN, payload) are read from
//! the frame again. Most descriptors are read from Ethernet frames at fixed offsets ([`Descriptor::of_frame`]), the
//! others are made of the decoder's packet ([`Descriptor::of_packet`]).

#![allow(clippy::inline_always, reason = "one copy for each protocol and family, whose branches are then constants")]

use conntrack_decode::fixed::{self, Frame, Transport, V4, V6};
use conntrack_decode::{Family, FiveTuple, L4, Packet, Tcp, Vlan, ipproto, tcpflag};

use super::words::{NARROW_TAGS, WIDE_TAGS};
use super::{FlowKey, KeyHasher, PackedKey, Side, icmp};

/// A packet of 64 bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Descriptor {
    /// Capture time, nanoseconds.
    pub ts: i64,
    /// A narrow key, or the last two words of a wide one; the other four are in a list parallel to the descriptors.
    pub key: [u64; 2],
    /// The key's hash.
    pub hash: u64,
    /// Sequence number. UDP: the first eight bytes of payload, here and in `ack`. Echo: the identifier.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Bytes above the transport header, by the lengths in the headers.
    pub payload_bytes: u16,
    /// Bytes of the datagram, IP header included.
    pub ip_bytes: u16,
    /// Window as sent.
    pub window: u16,
    /// Identification of the IPv4 header; 0 for IPv6.
    pub identification: u16,
    /// The highest right edge of SACK blocks beyond `ack`, or `ack`; of a SYN `ack`.
    pub edge: u32,
    /// With [`kind::DECODED`] or [`kind::OTHER`]: the index of the record's first packet among the decoded ones.
    pub decoded: u32,
    /// With [`kind::OTHER`]: the number of packets in the record.
    pub count: u32,
    /// Bits of [`kind`].
    pub kind: u16,
    /// TCP's flag byte.
    pub flags: u8,
    /// The offset of the payload in the frame; 0 with [`kind::DECODED`].
    pub offset: u8,
}

const _: () = assert!(size_of::<Descriptor>() == 64);

/// Kinds of packets, a bit each.
pub mod kind {
    /// Sent by side B.
    pub const SIDE_B: u16 = 1;
    /// UDP.
    pub const UDP: u16 = 1 << 1;
    /// ICMP or ICMPv6 echo.
    pub const ECHO: u16 = 1 << 2;
    /// The key is wide.
    pub const WIDE: u16 = 1 << 3;
    /// The capture cut the payload.
    pub const CUT: u16 = 1 << 4;
    /// TCP with timestamps; not looked for in a SYN.
    pub const TIMESTAMPS: u16 = 1 << 5;
    /// Sent to a multicast or broadcast address.
    pub const GROUP: u16 = 1 << 6;
    /// TCP with known flags and unknown sequence numbers.
    pub const UNNUMBERED: u16 = 1 << 7;
    /// Read by the decoder.
    pub const DECODED: u16 = 1 << 8;
    /// The record holds no single ordinary packet; only the time is set.
    pub const OTHER: u16 = 1 << 9;
    /// Other, and not tracked by a gateway.
    pub const UNTRACKED: u16 = 1 << 10;
    /// A payload of TCP or UDP with a port whose protocol [announces](super::announces) connections.
    pub const ANNOUNCES: u16 = 1 << 11;
    /// Other: a later fragment that preceded the first one of its datagram.
    pub const EARLY: u16 = 1 << 12;
    /// A protocol that a gateway tracks by the IP header alone; see `is_generic` in the module above.
    pub const GENERIC: u16 = 1 << 13;
    /// Neither TCP nor UDP.
    pub const STATELESS: u16 = ECHO | GENERIC;
}

/// Bits of the low six bits of ports whose protocols announce connections: of TCP, of UDP.
const NEAR_TCP: u64 = 1 << 21 | 1 << (5_060 % 64) | 1 << (6_667 % 64);
const NEAR_UDP: u64 = 1 << (69 % 64) | 1 << (5_060 % 64);

/// Test for a port whose protocol announces connections, the ports of Linux's helpers: FTP, SIP and IRC; TFTP and SIP.
#[inline(always)]
pub fn announces(proto: u8, ports: [u16; 2]) -> bool {
    let near = match proto {
        ipproto::TCP => NEAR_TCP,
        ipproto::UDP => NEAR_UDP,
        _ => return false,
    };
    // Most ports fail at their low bits, without a comparison.
    (near >> (ports[0] & 63) | near >> (ports[1] & 63)) & 1 != 0 && is_announced_at(proto, ports)
}

#[inline(never)]
fn is_announced_at(proto: u8, ports: [u16; 2]) -> bool {
    let announces = |port| matches!((proto, port), (ipproto::TCP, 21 | 6_667) | (ipproto::UDP, 69) | (_, 5_060));
    ports.into_iter().any(announces)
}

impl Descriptor {
    /// Read an Ethernet frame into all fields but the time, and the first four words of a wide key. False: the frame
    /// is not ordinary, and the written fields are invalid.
    #[inline]
    pub fn of_frame(&mut self, frame: &[u8], wide: &mut [u64; 4], hasher: &KeyHasher) -> bool {
        let read = match fixed::open(frame) {
            Some(Frame::V4(packet)) => match packet.proto() {
                ipproto::TCP => self.take_v4::<{ ipproto::TCP }>(packet, hasher),
                ipproto::UDP => self.take_v4::<{ ipproto::UDP }>(packet, hasher),
                ipproto::ICMP => self.take_v4::<{ ipproto::ICMP }>(packet, hasher),
                _ => None,
            },
            Some(Frame::V6(packet)) => match packet.proto() {
                ipproto::TCP => self.take_v6::<{ ipproto::TCP }>(packet, wide, hasher),
                ipproto::UDP => self.take_v6::<{ ipproto::UDP }>(packet, wide, hasher),
                ipproto::ICMPV6 => self.take_v6::<{ ipproto::ICMPV6 }>(packet, wide, hasher),
                _ => None,
            },
            None => None,
        };
        read.is_some()
    }

    /// Fields are written where they are read: values kept for later are spilled.
    #[inline(always)]
    fn take_v4<const PROTO: u8>(&mut self, packet: V4<'_>, hasher: &KeyHasher) -> Option<()> {
        let wire = packet.wire()?;
        let above = packet.transport::<PROTO>(wire)?;
        self.fill(&above, packet.ip_bytes(), packet.identification());
        let kind = kind_of(PROTO) | cut_bit::<PROTO>(packet.is_cut(wire)) | timestamps_bit(&above);
        let ((src, dst), ports) = (packet.addresses(), packet.ports());
        let (src_port, dst_port, asks) = ends_of::<PROTO>(ports, &above);
        let end = |addr: u32, port: u16| u64::from(addr) << 16 | u64::from(port);
        let (src, dst) = (end(src, src_port), end(dst, dst_port));
        let (a, b) = (src.min(dst), src.max(dst));
        let rest = match PROTO {
            ipproto::TCP => 0,
            ipproto::UDP => 1 << 1,
            _ => 2 << 1 | u64::from(asks ^ (src > dst)),
        };
        self.key = [a >> 16 << 32 | b >> 16, a << 48 | (b & 0xffff) << 32 | rest];
        self.hash = hasher.narrow(&self.key);
        self.kind = kind | side_bit(src > dst);
        self.note_announcement(PROTO, packet.ports());
        self.is_ordinary::<PROTO>(src == dst, packet.is_to_group())
    }

    #[inline(always)]
    fn take_v6<const PROTO: u8>(&mut self, packet: V6<'_>, wide: &mut [u64; 4], hasher: &KeyHasher) -> Option<()> {
        let wire = packet.wire()?;
        let above = packet.transport::<PROTO>(wire)?;
        self.fill(&above, (wire + 40) as u16, 0);
        let kind = kind_of(PROTO) | cut_bit::<PROTO>(packet.is_cut(wire)) | timestamps_bit(&above);
        let ((src, dst), ports) = (packet.addresses(), packet.ports());
        let (src_port, dst_port, asks) = ends_of::<PROTO>(ports, &above);
        let (src, dst) = ((src, src_port), (dst, dst_port));
        let (a, b) = if src <= dst { (src, dst) } else { (dst, src) };
        let asked_by_a = asks ^ (src > dst && PROTO == ipproto::ICMPV6);
        *wide = [a.0[0], a.0[1], b.0[0], b.0[1]];
        let rest = u64::from(PROTO) << 56 | (Family::V6 as u64) << 48 | u64::from(asked_by_a) << 40;
        self.key = [u64::from(a.1) << 48 | u64::from(b.1) << 32, rest];
        self.hash = hasher.wide(&[wide[0], wide[1], wide[2], wide[3], self.key[0], self.key[1]]);
        self.kind = kind | kind::WIDE | side_bit(src > dst);
        self.note_announcement(PROTO, packet.ports());
        self.is_ordinary::<PROTO>(src == dst, packet.is_to_group())
    }

    #[inline(always)]
    fn fill(&mut self, above: &Transport, ip_bytes: u16, identification: u16) {
        (self.seq, self.ack, self.edge) = (above.seq, above.ack, above.edge);
        (self.payload_bytes, self.ip_bytes, self.window) = (above.payload_bytes, ip_bytes, above.window);
        (self.identification, self.flags, self.offset) = (identification, above.flags, above.offset);
    }

    /// Note a payload that may announce a connection: at the end, since its condition would keep other values waiting.
    #[inline(always)]
    fn note_announcement(&mut self, proto: u8, ports: [u16; 2]) {
        if self.payload_bytes > 0 && announces(proto, ports) {
            self.kind |= kind::ANNOUNCES;
        }
    }

    /// None where both ends are equal, or TCP went to a group address.
    #[inline(always)]
    fn is_ordinary<const PROTO: u8>(&mut self, is_self: bool, to_group: bool) -> Option<()> {
        if to_group {
            self.kind |= kind::GROUP;
        }
        let is_odd = is_self || (to_group && PROTO == ipproto::TCP);
        (!is_odd).then_some(())
    }

    /// Test whether a decoded packet may have a descriptor: a complete and valid one of TCP, UDP, echo or a generic
    /// protocol.
    pub fn may_be_of(packet: &Packet) -> bool {
        let is_whole = packet.complete && !packet.fragment && packet.packets == 1;
        let is_sound = !packet.malformed && !packet.bad_checksum && !packet.bad_header;
        let tuple = &packet.tuple;
        // The ports of an echo's key are the identifier and the question.
        let ports = match packet.l4 {
            L4::Icmp { kind, code, id } => (icmp::question(tuple.proto, kind, code).0, id),
            _ => (tuple.sport, tuple.dport),
        };
        let is_self = (tuple.src, ports.0) == (tuple.dst, ports.1);
        let is_lite = packet.l4 == L4::Udp && tuple.proto != ipproto::UDP;
        let is_odd = is_self || is_lite || (tuple.proto == ipproto::TCP && packet.to_group);
        let is_known = match packet.l4 {
            L4::Tcp(_) | L4::Udp => true,
            L4::Icmp { kind, .. } => is_echo(tuple.proto, kind),
            L4::Other => is_generic(tuple.proto),
            _ => false,
        };
        is_known && is_whole && is_sound && !is_odd
    }

    /// The descriptor of a decoded packet with this key; None where the packet is not ordinary. `frame`: the bytes of
    /// its record.
    pub fn of_packet(packet: &Packet, ts: i64, key: (PackedKey, Side), frame: &[u8]) -> Option<(Self, [u64; 4])> {
        if Self::may_be_of(packet) { Self::of_any(packet, ts, key, frame) } else { None }
    }

    /// The descriptor of any TCP segment, UDP datagram, echo or packet of a generic protocol; None for others, or where
    /// a length overflows.
    pub fn of_any(
        packet: &Packet,
        ts: i64,
        (words, side): (PackedKey, Side),
        frame: &[u8],
    ) -> Option<(Self, [u64; 4])> {
        let mut one = Self { ts, ..Self::default() };
        match packet.l4 {
            L4::Tcp(tcp) => one.take_tcp(&tcp),
            L4::Udp => {
                let begins = packet.payload_in(frame).first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
                (one.seq, one.ack) = ((begins >> 32) as u32, begins as u32);
                one.kind = kind::UDP;
            }
            L4::Icmp { kind, .. } if is_echo(packet.tuple.proto, kind) => one.seq = packet.flow_id.into(),
            L4::Other if is_generic(packet.tuple.proto) => {}
            _ => return None,
        }
        one.payload_bytes = packet.payload_bytes.try_into().ok()?;
        one.ip_bytes = packet.ip_bytes.try_into().ok()?;
        one.identification = packet.identification;
        one.kind |= kind::DECODED
            | kind_of(packet.tuple.proto)
            | if side == Side::B { kind::SIDE_B } else { 0 }
            | if packet.cut { kind::CUT } else { 0 }
            | if packet.to_group { kind::GROUP } else { 0 };
        one.note_announcement(packet.tuple.proto, [packet.tuple.sport, packet.tuple.dport]);
        let wide = match words {
            PackedKey::V4(key) => {
                one.key = key;
                [0; 4]
            }
            PackedKey::Wide([first @ .., high, low]) => {
                one.kind |= kind::WIDE;
                one.key = [high, low];
                first
            }
        };
        Some((one, wide))
    }

    fn take_tcp(&mut self, tcp: &Tcp) {
        let opens = tcp.flags & tcpflag::SYN != 0;
        (self.seq, self.ack) = (tcp.seq, tcp.ack);
        self.edge = tcp.sack.filter(|_| !opens).unwrap_or(tcp.ack);
        (self.window, self.flags) = (tcp.window, tcp.flags);
        self.kind |= if tcp.timestamps && !opens { kind::TIMESTAMPS } else { 0 };
        self.kind |= if tcp.unnumbered { kind::UNNUMBERED } else { 0 };
    }

    /// Test whether any of these bits of [`kind`] is set.
    #[inline]
    pub fn is(&self, kinds: u16) -> bool {
        self.kind & kinds != 0
    }

    /// Test for a key with a VLAN tag or a network identifier.
    #[inline]
    pub fn is_tagged(&self) -> bool {
        let [first, second] = self.key;
        if self.is(kind::WIDE) { (first | second) & WIDE_TAGS != 0 } else { second & NARROW_TAGS != 0 }
    }

    /// The sender's side.
    #[inline]
    pub fn side(&self) -> Side {
        if self.is(kind::SIDE_B) { Side::B } else { Side::A }
    }

    /// The key.
    #[inline]
    pub fn words(&self, wide: &[u64; 4]) -> PackedKey {
        if self.is(kind::WIDE) { PackedKey::Wide(self.wide(wide)) } else { PackedKey::V4(self.key) }
    }

    /// The six words of a wide key.
    #[inline]
    pub fn wide(&self, [a, b, c, d]: &[u64; 4]) -> [u64; 6] {
        [*a, *b, *c, *d, self.key[0], self.key[1]]
    }

    /// The ports of TCP or UDP, from source to destination.
    #[inline]
    pub fn ports(&self) -> [u16; 2] {
        let word = if self.is(kind::WIDE) { self.key[0] } else { self.key[1] };
        let [a, b] = [(word >> 48) as u16, (word >> 32) as u16];
        if self.is(kind::SIDE_B) { [b, a] } else { [a, b] }
    }
}

/// Test for the type of an echo request or reply.
fn is_echo(proto: u8, kind: u8) -> bool {
    match proto {
        ipproto::ICMP => matches!(kind, 0 | 8),
        _ => matches!(kind, 128 | 129),
    }
}

/// The key's ports for source and destination, and whether the source sent the request (echo); see [`FlowKey`].
#[inline(always)]
fn ends_of<const PROTO: u8>([sport, dport]: [u16; 2], above: &Transport) -> (u16, u16, bool) {
    if PROTO == ipproto::TCP || PROTO == ipproto::UDP {
        return (sport, dport, false);
    }
    let (question, is_answer) = icmp::question(PROTO, (sport >> 8) as u8, sport as u8);
    if is_answer { (question, above.seq as u16, false) } else { (above.seq as u16, question, true) }
}

#[inline(always)]
fn cut_bit<const PROTO: u8>(is_cut: bool) -> u16 {
    if PROTO == ipproto::TCP || PROTO == ipproto::UDP { u16::from(is_cut) * kind::CUT } else { 0 }
}

#[inline(always)]
fn timestamps_bit(above: &Transport) -> u16 {
    u16::from(above.timestamps) * kind::TIMESTAMPS
}

#[inline(always)]
fn side_bit(is_b: bool) -> u16 {
    u16::from(is_b) * kind::SIDE_B
}

#[inline]
fn kind_of(proto: u8) -> u16 {
    match proto {
        ipproto::TCP => 0,
        ipproto::UDP | ipproto::UDPLITE => kind::UDP,
        ipproto::ICMP | ipproto::ICMPV6 => kind::ECHO,
        _ => kind::GENERIC,
    }
}

/// Test for a protocol that Linux tracks by the IP header alone (`nf_conntrack_proto_generic.c`): without ports, and
/// without a tracker of its own.
fn is_generic(proto: u8) -> bool {
    use ipproto::{GRE, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE};
    !matches!(proto, TCP | UDP | UDPLITE | SCTP | ICMP | ICMPV6 | GRE)
}

/// Test whether descriptors of this protocol, if any, are [`kind::STATELESS`].
pub fn is_stateless(proto: u8) -> bool {
    matches!(proto, ipproto::ICMP | ipproto::ICMPV6) || is_generic(proto)
}

/// A descriptor with its frame, wide key and decoded packet.
#[derive(Clone, Copy)]
pub struct Arrival<'a> {
    /// The descriptor.
    pub descriptor: &'a Descriptor,
    /// The first four words of a wide key.
    pub wide: &'a [u64; 4],
    /// The bytes of the record.
    pub frame: &'a [u8],
    /// The packet, with [`kind::DECODED`].
    pub decoded: Option<&'a Packet>,
}

impl<'a> Arrival<'a> {
    /// The payload of TCP or UDP as far as captured, with the padding of the IP packet after a UDP datagram.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        if let Some(packet) = self.decoded {
            return packet.payload_in(self.frame);
        }
        if self.descriptor.is(kind::ECHO) {
            return &[];
        }
        let (from, end) = (usize::from(self.descriptor.offset), 14 + usize::from(self.descriptor.ip_bytes));
        self.frame.get(from..end.min(self.frame.len())).unwrap_or_default()
    }

    /// The TCP header with its options.
    pub fn tcp(&self) -> Tcp {
        match self.decoded {
            Some(Packet { l4: L4::Tcp(tcp), .. }) => *tcp,
            Some(_) => Tcp::default(),
            None => {
                let is_v6 = self.descriptor.is(kind::WIDE);
                let tcp = fixed::tcp_header(self.frame, is_v6, self.descriptor.offset).unwrap_or_default();
                if self.descriptor.is(kind::UNNUMBERED) { tcp.without_numbers() } else { tcp }
            }
        }
    }

    /// The packet in full, as decoded.
    pub fn packet(&self) -> Packet {
        if let Some(packet) = self.decoded {
            return *packet;
        }
        let one = self.descriptor;
        let (key, from) = (self.key(), one.side());
        let mut tuple = FiveTuple {
            src: key.addr(from),
            dst: key.addr(from.other()),
            sport: key.port(from),
            dport: key.port(from.other()),
            proto: key.proto,
            family: key.family,
        };
        let (mut flow_id, mut payload) = (0, self.payload().len() as u32);
        let l4 = if one.is(kind::UDP) {
            L4::Udp
        } else if one.is(kind::ECHO) {
            let asks = if from == Side::A { key.a_asks } else { !key.a_asks };
            let (question, id) = if asks { (tuple.dport, tuple.sport) } else { (tuple.sport, tuple.dport) };
            let [ask, code] = question.to_be_bytes();
            let kind = if asks { ask } else { icmp::answer_to(key.proto, ask) };
            (tuple.sport, tuple.dport, flow_id, payload) = (kind.into(), code.into(), id, 0);
            L4::Icmp { kind, code, id }
        } else {
            L4::Tcp(self.tcp())
        };
        Packet {
            tuple,
            vlan: Vlan::default(),
            packets: 1,
            ip_bytes: one.ip_bytes.into(),
            payload_bytes: one.payload_bytes.into(),
            to_group: one.is(kind::GROUP),
            complete: true,
            segment_bytes: one.payload_bytes.into(),
            datagram_bytes: one.ip_bytes.into(),
            cut: one.is(kind::CUT),
            identification: one.identification,
            flow_id,
            l4,
            payload: if payload > 0 { (one.offset.into(), payload) } else { (0, 0) },
            ..Packet::default()
        }
    }

    /// The key.
    pub fn key(&self) -> FlowKey {
        match self.descriptor.words(self.wide) {
            PackedKey::V4(key) => key.into(),
            PackedKey::Wide(key) => key.into(),
        }
    }

    /// The five-tuple from source to destination.
    pub fn tuple(&self) -> FiveTuple {
        self.packet().tuple
    }
}

#[cfg(test)]
mod tests;
