//! Records → packets: link layers, IP, fragments, transports and tunnels.
//!
//! A packet is what its headers say: lengths come from the IP header, so captures cut by snaplen count right. Nothing
//! here panics or reads out of bounds, whatever the bytes are; what cannot be read is a [`Skip`] with its reason.
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
mod fragment;
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

#[cfg(any(test, feature = "testkit"))]
#[doc(hidden)]
pub mod testkit;
#[cfg(test)]
mod tests;

pub use decoder::Decoder;
pub use flat::Flat;
pub use link::{SUPPORTED, supports};
pub use tuple::{Addr, Family, FiveTuple};

use conntrack_capture::Lacks;

/// IP protocol numbers used by name.
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
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDPLITE: u8 = 136;
}

/// Which IP packet of a tunnelled stack is the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TunnelMode {
    /// What the tunnel carries: the innermost IP packet that can be read.
    #[default]
    Inner,
    /// What a gateway on the path sees: the outermost IP packet.
    Outer,
    /// Every IP packet of the stack, outermost first.
    Both,
}

conntrack_base::words! {
    /// What carried this IP packet.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    pub enum TunnelKind {
        /// Nothing: it was not in a tunnel.
        #[default]
        None = "none",
        /// GRE, RFC 2784.
        Gre = "gre",
        /// ERSPAN types I, II and III.
        Erspan = "erspan",
        /// IPv4 or IPv6 in IPv4 or IPv6 (RFC 2003, RFC 2473), 6in4 (RFC 4213) apart.
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
    }
}

/// The tunnel next to the packet: its kind and, where both directions share one, its network identifier (VNI).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tunnel {
    /// What carried the packet.
    pub kind: TunnelKind,
    /// VXLAN and GENEVE: the 24-bit VNI. 0 elsewhere: GRE keys and GTP TEIDs differ by direction.
    pub vni: u32,
}

/// VLAN tags of the frame that carried the IP packet directly (inside the innermost tunnel).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Vlan {
    /// Outer tag's VID + 1; 0: untagged.
    pub outer: u16,
    /// Second tag's VID + 1; 0: none.
    pub inner: u16,
}

/// One IP packet (a whole datagram, its first fragment, or a later fragment given its first one's ports).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one packet, not a state")]
pub struct Packet {
    /// Addresses, ports, protocol, as this packet travelled.
    pub tuple: FiveTuple,
    /// VLAN tags.
    pub vlan: Vlan,
    /// Tunnel.
    pub tunnel: Tunnel,
    /// Datagrams this record adds: 1; 0 for a later fragment.
    pub packets: u32,
    /// IP bytes this record adds, as the headers say: total length; for a later fragment its payload only.
    pub ip_bytes: u32,
    /// Bytes above the TCP, UDP, UDP-Lite, ICMP (8 bytes) or SCTP (12 bytes) header, as the headers say; 0 for other
    /// protocols. Over the fragments of a datagram it adds up to what the whole datagram would have had.
    pub payload_bytes: u32,
    /// True where the link layer or the address says that it was sent to a group or to everybody.
    pub to_group: bool,
    /// True for fragments (first or later).
    pub fragment: bool,
    /// A gateway gives its verdict on it: a whole datagram, or the fragment that makes one whole.
    pub complete: bool,
    /// Bytes above the transport header of the whole datagram, where it is complete.
    pub segment_bytes: u32,
    /// IP bytes of the whole datagram, where it is complete.
    pub datagram_bytes: u32,
    /// The transport header contradicts itself or the IP header: TCP data offset, UDP length, UDP-Lite coverage, an
    /// SCTP chunk length, or less IP payload than the header takes.
    pub malformed: bool,
    /// A checksum (IPv4 header or transport) is wrong; looked at only with [`Options::checksum`].
    pub bad_checksum: bool,
    /// It is that of the IPv4 header.
    pub bad_header: bool,
    /// The capture cut the payload of TCP or UDP.
    pub cut: bool,
    /// Identification of the IPv4 header; 0 for IPv6.
    pub identification: u16,
    /// What tells flows apart besides addresses and ports: the identifier of an ICMP query, the call id of GRE
    /// version 1; 0 elsewhere. Later fragments have their first one's.
    pub flow_id: u16,
    /// The transport header's facts; of a fragment that completes its datagram, the first one's.
    pub l4: L4,
    /// Where in its record the payload of TCP or UDP begins, and how many bytes of it are there.
    pub payload: (u32, u32),
}

impl Packet {
    /// The segment of a source that [lacks](conntrack_capture::Lacks) its numbers.
    #[inline]
    pub fn is_unnumbered(&self) -> bool {
        matches!(self.l4, L4::Tcp(Tcp { unnumbered: true, .. }))
    }

    /// Takes out what its source lacks.
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

    /// The payload of TCP or UDP in the bytes of its record, as far as captured; nothing where it came with another one.
    #[inline]
    pub fn payload_in<'a>(&self, record: &'a [u8]) -> &'a [u8] {
        let (at, length) = (self.payload.0 as usize, self.payload.1 as usize);
        record.get(at..at.saturating_add(length)).unwrap_or_default()
    }
}

/// What the transport header says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum L4 {
    /// No header to look at: other protocols, later fragments, headers cut off right behind the ports.
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
    /// An ICMP or ICMPv6 error and the packet it quotes.
    IcmpError {
        /// Message type.
        kind: u8,
        /// Message code.
        code: u8,
        /// The quoted packet's tuple, as *it* travelled; None where it cannot be read. ICMP queries quoted: see
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

/// TCP header facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one header, not a state")]
pub struct Tcp {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number (meaningful with ACK).
    pub ack: u32,
    /// Window as sent, unscaled.
    pub window: u16,
    /// The flag byte: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.
    pub flags: u8,
    /// There are options of any kind: the header is longer than 20 bytes.
    pub has_options: bool,
    /// Window scale option: shift (at most 14, RFC 7323 section 2.3) + 1; 0: absent.
    pub wscale: u8,
    /// SACK-permitted option.
    pub sack_permitted: bool,
    /// Timestamps option (RFC 7323).
    pub timestamps: bool,
    /// Highest right edge of the SACK blocks that lies beyond `ack` (modulo 2^32), or None. A duplicate SACK
    /// (RFC 2883) lies below `ack` and says nothing new.
    pub sack: Option<u32>,
    /// Of the header only the flags are known: see [`conntrack_capture::Lacks::numbers`].
    pub unnumbered: bool,
}

impl Tcp {
    /// What is left where only the flags are known.
    #[must_use]
    pub fn without_numbers(self) -> Self {
        Self { flags: self.flags, unnumbered: true, ..Self::default() }
    }

    /// With numbers as if everything had come once and in order, and the largest window.
    #[must_use]
    pub fn numbered(self, (seq, ack): (u32, u32)) -> Self {
        Self { seq, ack, window: u16::MAX, ..self }
    }
}

/// SCTP facts: the chunks that mean something to a state machine, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sctp {
    /// Verification tag.
    pub vtag: u32,
    /// Initiate tag of an INIT or INIT ACK chunk that is there in full.
    pub init_tag: Option<u32>,
    /// The chunk types of [`sctp_chunk`], five bits each (type, then the T bit), the first one lowest.
    pub(crate) order: u64,
    /// There is a DATA chunk.
    pub has_data: bool,
    /// There are chunks (DATA, SACK, ...) that are not in `order`.
    pub has_others: bool,
    /// Chunks that must be alone or first are, and every chunk has a length.
    pub well_formed: bool,
}

impl Sctp {
    /// The chunks that mean something: type, and whether the T bit is set.
    pub fn chunks(&self) -> impl Iterator<Item = (u8, bool)> + use<> {
        let order = self.order;
        (0..12)
            .map(move |place| (order >> (5 * place)) as u8 & 31)
            .take_while(|code| *code != 0)
            .map(|code| (code & 15, code & 16 != 0))
    }
}

/// SCTP chunk types that mean something to a state machine, RFC 9260 section 3.2.
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
    /// Why a record gave no packet. The words are the keys of `stats.skipped`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Skip {
        /// A frame that carries no IP: ARP, LLC, discovery and control frames.
        NotIp = "not_ip",
        /// A link type without a decoder.
        LinkType = "link_type",
        /// The packet ends before its addresses and ports, mostly because the capture cut it.
        Truncated = "truncated",
        /// An 802.11 frame whose payload is encrypted.
        Encrypted = "encrypted",
        /// An IP header that contradicts itself.
        BadIpHeader = "bad_ip_header",
        /// A later fragment whose first one was not seen, or was forgotten. Known only afterwards, so that `decode` never
        /// returns it: [`Decoder::orphans`] counts them.
        FragmentWithoutFirst = "fragment_without_first",
        /// More headers inside headers than anybody sends.
        TooDeep = "too_deep",
        /// An IPv6 packet that ends with its header (next header 59, RFC 8200 section 4.7).
        NoNextHeader = "no_next_header",
    }
}

impl TunnelKind {
    /// The kind with this number; `None` where there is none.
    pub fn numbered(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }
}

/// What the decoder is asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Which IP packet of a tunnelled stack counts.
    pub tunnels: TunnelMode,
    /// Verify IPv4, TCP, UDP, UDP-Lite, ICMP, ICMPv6 and SCTP checksums where the whole packet was captured.
    pub checksum: bool,
}
