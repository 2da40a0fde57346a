//! Records → packets: link layers, IP, fragments, transports and tunnels.
//!
//! A packet is described by its headers: lengths come from the IP header, so snaplen-limited captures count right. No
//! input causes a panic or an out-of-bounds read; an undecodable record is a [`Skip`] with a reason.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};

mod assembly;
mod bytes;
mod checksum;
mod decoder;
mod ether;
mod ethertype;
pub mod fixed;
pub mod flat;
pub mod fragment;
mod icmp;
mod ieee80211;
mod ip;
mod link;
pub mod names;
mod ports;
mod ppp;
mod sctp;
mod tcp;
mod transport;
mod tunnel;
pub mod tuple;
mod udp;
mod unread;

#[cfg(any(test, feature = "testkit"))]
#[doc(hidden)]
pub mod testkit;
#[cfg(test)]
mod tests;

pub use decoder::Decoder;
pub use flat::Flat;
pub use icmp::query;
pub use link::{SUPPORTED, supports};
pub use tcp::LARGEST_SHIFT;
pub use tuple::{Addr, Family, FiveTuple};
pub use unread::Unread;

use conntrack_capture::Lacks;

/// IP protocol numbers (IANA).
pub mod ipproto {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// IPv4 in IP.
    pub const IPIP: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP (6in4).
    pub const IPV6: u8 = 41;
    /// GRE.
    pub const GRE: u8 = 47;
    /// ESP.
    pub const ESP: u8 = 50;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// EtherIP.
    pub const ETHERIP: u8 = 97;
    /// L2TP version 3.
    pub const L2TP: u8 = 115;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// Mobility header of IPv6.
    pub const MOBILITY: u8 = 135;
    /// UDP-Lite.
    pub const UDPLITE: u8 = 136;
    /// MPLS in IP.
    pub const MPLS: u8 = 137;
    /// Ethernet in IPv6 (RFC 8986).
    pub const ETHERNET: u8 = 143;
}

/// Choice of the IP packet of a tunnelled record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TunnelMode {
    /// The inner view: the innermost decodable IP packet.
    #[default]
    Inner,
    /// The gateway's view: the outermost IP packet.
    Outer,
    /// Every IP packet of the stack, outermost first.
    Both,
}

conntrack_base::words! {
    /// Tunnel protocol of an IP packet.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    pub enum TunnelKind {
        /// No tunnel.
        #[default]
        None = "none",
        /// GRE, RFC 2784, also in UDP, RFC 8086.
        Gre = "gre",
        /// ERSPAN types I, II and III.
        Erspan = "erspan",
        /// IPv4 or IPv6 in IPv4 or IPv6 (RFC 2003, RFC 2473), except 6in4 (RFC 4213).
        IpIp = "ipip",
        /// IPv6 in IPv4, RFC 4213.
        SixInFour = "6in4",
        /// Teredo, RFC 4380.
        Teredo = "teredo",
        /// VXLAN, RFC 7348, and VXLAN-GPE.
        Vxlan = "vxlan",
        /// GENEVE, RFC 8926.
        Geneve = "geneve",
        /// GTP-U, 3GPP TS 29.281.
        Gtpu = "gtpu",
        /// MPLS in UDP, RFC 7510, and in IP, RFC 4023.
        Mpls = "mpls",
        /// L2TP, RFC 2661 and RFC 3931.
        L2tp = "l2tp",
        /// LISP, RFC 9300.
        Lisp = "lisp",
        /// AYIYA, draft-massar-v6ops-ayiya.
        Ayiya = "ayiya",
        /// Ethernet in IP: EtherIP, RFC 3378, and segment routing, RFC 8986.
        EtherIp = "etherip",
    }
}

/// Innermost tunnel around a packet: its kind and, if common to both directions, its network identifier (VNI).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tunnel {
    /// Tunnel protocol.
    pub kind: TunnelKind,
    /// VXLAN and GENEVE: the 24-bit VNI. 0 elsewhere, because GRE keys and GTP TEIDs differ by direction.
    pub vni: u32,
}

/// VLAN tags of the frame directly around the IP packet, inside the innermost tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vlan {
    /// VID + 1 of the outer tag; 0: untagged.
    pub outer: u16,
    /// VID + 1 of the second tag; 0: none.
    pub inner: u16,
}

/// IP packet: a whole datagram, a first fragment, or a later fragment with the first fragment's ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one packet, not a state")]
pub struct Packet {
    /// Addresses, ports and protocol, in the packet's direction.
    pub tuple: FiveTuple,
    /// VLAN tags.
    pub vlan: Vlan,
    /// Innermost tunnel.
    pub tunnel: Tunnel,
    /// Datagrams that the packet counts for: 1; 0 for a later fragment.
    pub packets: u32,
    /// IP bytes by the length field; for a later fragment its payload only.
    pub ip_bytes: u32,
    /// Bytes above the TCP, UDP, UDP-Lite, ICMP (8 bytes) or SCTP (12 bytes) header by the length fields; 0 for other
    /// protocols. The sum over all fragments is the payload of the whole datagram.
    pub payload_bytes: u32,
    /// True for broadcast and multicast, by link layer or address.
    pub to_group: bool,
    /// True for first and later fragments.
    pub fragment: bool,
    /// True if a gateway judges the datagram at this packet: a whole datagram, or the completing fragment.
    pub complete: bool,
    /// Bytes above the transport header of a complete datagram.
    pub segment_bytes: u32,
    /// IP bytes of a complete datagram.
    pub datagram_bytes: u32,
    /// True if the transport header contradicts itself or the IP header. Causes: TCP data offset, UDP length,
    /// UDP-Lite coverage, an SCTP chunk length, or less IP payload than the header needs.
    pub malformed: bool,
    /// True if the IPv4 header or transport checksum is wrong; computed only with [`Options::checksum`].
    pub bad_checksum: bool,
    /// True if the wrong checksum is the IPv4 header's.
    pub bad_header: bool,
    /// True if the capture truncated the payload of TCP or UDP.
    pub cut: bool,
    /// Identification of the IPv4 header; 0 for IPv6.
    pub identification: u16,
    /// Flow discriminator besides addresses and ports: the identifier of an ICMP query, the call id of GRE version 1,
    /// 0 elsewhere. Later fragments inherit the first fragment's.
    pub flow_id: u16,
    /// Transport header; for a completing fragment, the first fragment's.
    pub l4: L4,
    /// Offset in the record and captured bytes of the TCP or UDP payload.
    pub payload: (u32, u32),
}

impl Packet {
    /// True for a TCP segment of a source that [lacks](conntrack_capture::Lacks) sequence numbers.
    #[inline]
    pub fn is_unnumbered(&self) -> bool {
        matches!(self.l4, L4::Tcp(Tcp { unnumbered: true, .. }))
    }

    /// Clear the properties that the source lacks.
    pub fn lack(&mut self, lacks: Lacks) {
        self.cut &= !lacks.payloads;
        if lacks.checksums {
            (self.bad_checksum, self.bad_header) = (false, false);
        }
        if lacks.numbers
            && let L4::Tcp(segment) = &mut self.l4
        {
            *segment = segment.without_numbers();
        }
    }

    /// Captured TCP or UDP payload in the record's bytes; empty if the payload came with another record.
    #[inline]
    pub fn payload_in<'a>(&self, record: &'a [u8]) -> &'a [u8] {
        let (at, length) = (self.payload.0 as usize, self.payload.1 as usize);
        record.get(at..at.saturating_add(length)).unwrap_or_default()
    }
}

/// Transport header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum L4 {
    /// No decoded header: other protocols, later fragments, headers truncated right behind the ports.
    #[default]
    Other,
    /// TCP, RFC 9293.
    Tcp(Tcp),
    /// UDP and UDP-Lite.
    Udp,
    /// ICMP or ICMPv6 other than an error.
    Icmp {
        /// Message type.
        kind: u8,
        /// Message code.
        code: u8,
        /// Identifier of query messages (0 for others).
        id: u16,
    },
    /// An ICMP or ICMPv6 error and the quoted packet.
    IcmpError {
        /// Message type.
        kind: u8,
        /// Message code.
        code: u8,
        /// Tuple of the quoted packet in that packet's direction; None if undecodable. Quoted ICMP queries: see
        /// `quoted_id`.
        quoted: Option<FiveTuple>,
        /// Identifier of a quoted ICMP query.
        quoted_id: u16,
    },
    /// SCTP, RFC 9260.
    Sctp(Sctp),
    /// GRE.
    Gre {
        /// Version: 0, or 1 for PPTP (RFC 2637).
        version: u8,
        /// Call id (version 1) or the low 16 bits of the key.
        key: u16,
    },
}

/// TCP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one header, not a state")]
pub struct Tcp {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number, meaningful with the ACK flag.
    pub ack: u32,
    /// Window as sent, unscaled.
    pub window: u16,
    /// The flag byte: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.
    pub flags: u8,
    /// True if the header has options, so that its size exceeds 20 bytes.
    pub has_options: bool,
    /// Window scale option: shift (at most 14, RFC 7323 section 2.3) + 1; 0: absent.
    pub wscale: u8,
    /// SACK-permitted option.
    pub sack_permitted: bool,
    /// Timestamps option (RFC 7323).
    pub timestamps: bool,
    /// Highest right edge of the SACK blocks beyond `ack` (modulo 2^32), or None. A duplicate SACK (RFC 2883) lies
    /// below `ack` and carries no new information.
    pub sack: Option<u32>,
    /// True if only the flags are known; see [`conntrack_capture::Lacks::numbers`].
    pub unnumbered: bool,
}

impl Tcp {
    /// The header reduced to its flags.
    #[must_use]
    pub fn without_numbers(self) -> Self {
        Self { flags: self.flags, unnumbered: true, ..Self::default() }
    }

    /// The header with numbers of a loss-free, ordered stream, and the largest window.
    #[must_use]
    pub fn numbered(self, (seq, ack): (u32, u32)) -> Self {
        Self { seq, ack, window: u16::MAX, ..self }
    }
}

/// SCTP header and the chunks that matter to the state machine, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sctp {
    /// Verification tag.
    pub vtag: u32,
    /// Initiate tag of a complete INIT or INIT ACK chunk.
    pub init_tag: Option<u32>,
    /// Chunk types of [`sctp_chunk`], five bits each (type, then the T bit), the first chunk lowest.
    pub(crate) order: u64,
    /// True if there is a DATA chunk.
    pub has_data: bool,
    /// True if there are chunks (DATA, SACK, ...) outside of `order`.
    pub has_others: bool,
    /// True if every chunk has a valid length, and no chunk violates the rules for sole and first chunks.
    pub well_formed: bool,
}

impl Sctp {
    /// Iterate over the chunks that matter to the state machine: type and T bit.
    pub fn chunks(&self) -> impl Iterator<Item = (u8, bool)> + use<> {
        let order = self.order;
        (0..12)
            .map(move |index| (order >> (5 * index)) as u8 & 31)
            .take_while(|code| *code != 0)
            .map(|code| (code & 15, code & 16 != 0))
    }
}

/// SCTP chunk types that matter to the state machine, RFC 9260 section 3.2.
#[allow(missing_docs, reason = "the names are the RFC's")]
pub mod sctp_chunk {
    pub const INIT: u8 = 1;
    pub const INIT_ACK: u8 = 2;
    pub const HEARTBEAT: u8 = 4;
    pub const HEARTBEAT_ACK: u8 = 5;
    pub const ABORT: u8 = 6;
    pub const SHUTDOWN: u8 = 7;
    pub const SHUTDOWN_ACK: u8 = 8;
    pub const ERROR: u8 = 9;
    pub const COOKIE_ECHO: u8 = 10;
    pub const COOKIE_ACK: u8 = 11;
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// TCP flag bits.
pub mod tcpflag {
    /// FIN.
    pub const FIN: u8 = 1;
    /// SYN.
    pub const SYN: u8 = 2;
    /// RST.
    pub const RST: u8 = 4;
    /// PSH.
    pub const PSH: u8 = 8;
    /// ACK.
    pub const ACK: u8 = 16;
    /// URG.
    pub const URG: u8 = 32;
}

conntrack_base::words! {
    /// Reason why a record gave no packet. The words are the keys of `stats.skipped`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Skip {
        /// A frame without IP: ARP, LLC, discovery and control frames.
        NotIp = "not_ip",
        /// A link type without a decoder.
        LinkType = "link_type",
        /// A packet that ends before its addresses and ports, usually truncated by the capture.
        Truncated = "truncated",
        /// An 802.11 or MACsec frame whose payload is encrypted.
        Encrypted = "encrypted",
        /// An IP header that contradicts itself.
        BadIpHeader = "bad_ip_header",
        /// A later fragment whose first fragment was missing or evicted. Known only afterwards, so `decode` never
        /// returns this reason; [`Decoder::orphans`] counts such fragments.
        FragmentWithoutFirst = "fragment_without_first",
        /// A subframe of an 802.11 aggregate (A-MSDU) beside the one that is decoded. Its record has a packet, so `decode`
        /// never returns this reason; [`Decoder::subframes`] counts such subframes.
        Subframe = "subframe",
        /// Implausibly many nested headers.
        TooDeep = "too_deep",
        /// An IPv6 packet that ends with its header (next header 59, RFC 8200 section 4.7).
        NoNextHeader = "no_next_header",
    }
}

impl TunnelKind {
    /// The kind of a number; `None` for unknown numbers.
    pub fn numbered(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }
}

/// Options of the decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Choice of the IP packet of a tunnelled record.
    pub tunnels: TunnelMode,
    /// Verify IPv4, TCP, UDP, UDP-Lite, ICMP, ICMPv6 and SCTP checksums of completely captured packets.
    pub checksum: bool,
}
