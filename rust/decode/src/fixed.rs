//! Fast path for ordinary packets, decoded at fixed offsets.
//!
//! Ordinary packets are whole, well-formed TCP segments, UDP datagrams and ICMP echoes, without tunnel, directly
//! behind an Ethernet header. Nearly all packets are ordinary. The fast path is several times faster than the general
//! decoder, the slow path, which handles every packet that gives None here. Both paths agree on each packet
//! (`flow/descriptor/tests.rs`), so the choice has no effect.

#![allow(
    clippy::inline_always,
    reason = "one copy for each protocol and header in front, whose offsets are then constants"
)]

use super::bytes::Fields;
use super::{Tcp, ipproto, tcp, tcpflag, tunnel};

const ETHERNET: usize = 14;
const ETHERTYPE: usize = 12;
/// Bytes before the transport header of IPv4 without options.
const BEFORE_V4: usize = ETHERNET + super::ip::v4_field::SIZE;
/// Bytes before the transport header of IPv6 without extension headers.
const BEFORE_V6: usize = ETHERNET + super::ip::v6_field::SIZE;
/// Minimum size of an ordinary frame, so that a TCP header fits for any protocol.
const MIN_V4: usize = BEFORE_V4 + tcp::field::SIZE;
const MIN_V6: usize = BEFORE_V6 + tcp::field::SIZE;
/// Maximum IPv6 payload whose packet length fits into sixteen bits.
const LONGEST_V6: u32 = u16::MAX as u32 - super::ip::v6_field::SIZE as u32;

/// Head of an IPv4 frame.
#[derive(Clone, Copy)]
pub struct V4<'a>(&'a [u8], &'a [u8; MIN_V4]);
/// Head of an IPv6 frame.
#[derive(Clone, Copy)]
pub struct V6<'a>(&'a [u8], &'a [u8; MIN_V6]);

/// Candidate for the fast path.
pub enum Frame<'a> {
    /// Frame with an IPv4 header without options, of an unfragmented datagram.
    V4(V4<'a>),
    /// Frame with an IPv6 header.
    V6(V6<'a>),
}

/// Transport header.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transport {
    /// TCP sequence number. UDP: the first eight bytes of payload are here and in `ack`. ICMP: the identifier.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Highest right edge of SACK blocks beyond `ack`, else `ack`; always `ack` in a SYN.
    pub edge: u32,
    /// Window as sent.
    pub window: u16,
    /// TCP's flag byte.
    pub flags: u8,
    /// Offset of the payload in the record.
    pub offset: u8,
    /// Bytes above the header, by the length fields.
    pub payload_bytes: u16,
    /// True with a TCP timestamps option; not evaluated in a SYN.
    pub timestamps: bool,
}

/// The frame as a candidate for the fast path.
#[inline(always)]
pub fn open(frame: &[u8]) -> Option<Frame<'_>> {
    use super::ethertype::{IPV4, IPV6};
    use super::ip::v4_field::{FLAGS_OFFSET, MORE_FRAGMENTS, OFFSET_MASK};
    const VERSION_AND_LENGTH: u8 = 0x45;
    let head = frame.first_chunk::<MIN_V4>()?;
    let first = head.byte::<ETHERNET>();
    match head.be16::<ETHERTYPE>() {
        IPV4 if first == VERSION_AND_LENGTH
            && head.be16::<{ ETHERNET + FLAGS_OFFSET }>() & (MORE_FRAGMENTS | OFFSET_MASK) == 0 =>
        {
            Some(Frame::V4(V4(frame, head)))
        }
        IPV6 if first >> 4 == 6 => Some(Frame::V6(V6(frame, frame.first_chunk()?))),
        _ => None,
    }
}

impl V4<'_> {
    /// Source and destination address.
    #[inline(always)]
    pub fn addresses(&self) -> (u32, u32) {
        use super::ip::v4_field::{DST, SRC};
        (self.1.be32::<{ ETHERNET + SRC }>(), self.1.be32::<{ ETHERNET + DST }>())
    }

    /// IP protocol number.
    #[inline(always)]
    pub fn proto(&self) -> u8 {
        self.1.byte::<{ ETHERNET + super::ip::v4_field::PROTOCOL }>()
    }

    /// Bytes of the datagram by the length field, IP header included.
    #[inline(always)]
    pub fn ip_bytes(&self) -> u16 {
        self.1.be16::<{ ETHERNET + super::ip::v4_field::TOTAL_LENGTH }>()
    }

    /// Identification.
    #[inline(always)]
    pub fn identification(&self) -> u16 {
        self.1.be16::<{ ETHERNET + super::ip::v4_field::ID }>()
    }

    /// True for broadcast and multicast, by link layer or address.
    #[inline(always)]
    pub fn is_to_group(&self) -> bool {
        // The range from the first multicast address on also covers class E and the limited broadcast.
        const MULTICAST: u32 = 0xe000_0000;
        let (_, dst) = self.addresses();
        self.1[0] & super::ether::GROUP_BIT != 0
            || (dst >= MULTICAST && (dst >> 28 == MULTICAST >> 28 || dst == u32::MAX))
    }

    /// Bytes above the IP header; None if the header contradicts itself.
    #[inline(always)]
    pub fn wire(&self) -> Option<u32> {
        u32::from(self.ip_bytes()).checked_sub(super::ip::v4_field::SIZE as u32)
    }

    /// True if the capture truncated the packet.
    #[inline(always)]
    pub fn is_cut(&self, wire: u32) -> bool {
        ((self.0.len() - BEFORE_V4) as u32) < wire
    }

    /// Both ports of TCP and UDP; type and code of ICMP.
    #[inline(always)]
    pub fn ports(&self) -> [u16; 2] {
        [self.1.be16::<BEFORE_V4>(), self.1.be16::<{ BEFORE_V4 + 2 }>()]
    }

    /// Header of protocol `PROTO`; `wire` is the number of bytes above the IP header on the wire.
    #[inline(always)]
    pub fn transport<const PROTO: u8>(&self, wire: u32) -> Option<Transport> {
        let above = self.0.get(BEFORE_V4..)?;
        match PROTO {
            ipproto::TCP => segment::<BEFORE_V4>(above, self.1[BEFORE_V4..].first_chunk()?, wire),
            ipproto::UDP => datagram::<BEFORE_V4>(above, self.ports(), wire),
            _ => echo::<BEFORE_V4>(above, [8, 0], wire),
        }
    }
}

impl V6<'_> {
    /// Source and destination address.
    #[inline(always)]
    pub fn addresses(&self) -> ([u64; 2], [u64; 2]) {
        use super::ip::v6_field::{DST, SRC};
        let addr = |bytes: [u8; 16]| {
            let addr = u128::from_be_bytes(bytes);
            [(addr >> 64) as u64, addr as u64]
        };
        (addr(self.1.array::<{ ETHERNET + SRC }, 16>()), addr(self.1.array::<{ ETHERNET + DST }, 16>()))
    }

    /// IP protocol number.
    #[inline(always)]
    pub fn proto(&self) -> u8 {
        self.1.byte::<{ ETHERNET + super::ip::v6_field::NEXT_HEADER }>()
    }

    /// True for multicast, by link layer or address.
    #[inline(always)]
    pub fn is_to_group(&self) -> bool {
        let (_, dst) = self.addresses();
        self.1[0] & super::ether::GROUP_BIT != 0 || dst[0] >> 56 == 0xff
    }

    /// Bytes above the IP header; None without any, and for jumbograms.
    #[inline(always)]
    pub fn wire(&self) -> Option<u32> {
        let wire = u32::from(self.1.be16::<{ ETHERNET + super::ip::v6_field::PAYLOAD_LENGTH }>());
        (wire != 0 && wire <= LONGEST_V6).then_some(wire)
    }

    /// True if the capture truncated the packet.
    #[inline(always)]
    pub fn is_cut(&self, wire: u32) -> bool {
        ((self.0.len() - BEFORE_V6) as u32) < wire
    }

    /// Both ports of TCP and UDP; type and code of ICMPv6.
    #[inline(always)]
    pub fn ports(&self) -> [u16; 2] {
        [self.1.be16::<BEFORE_V6>(), self.1.be16::<{ BEFORE_V6 + 2 }>()]
    }

    /// Header of protocol `PROTO`; `wire` is the number of bytes above the IP header on the wire.
    #[inline(always)]
    pub fn transport<const PROTO: u8>(&self, wire: u32) -> Option<Transport> {
        let above = self.0.get(BEFORE_V6..)?;
        match PROTO {
            ipproto::TCP => segment::<BEFORE_V6>(above, self.1[BEFORE_V6..].first_chunk()?, wire),
            ipproto::UDP => datagram::<BEFORE_V6>(above, self.ports(), wire),
            _ => echo::<BEFORE_V6>(above, [128, 129], wire),
        }
    }
}

#[inline(always)]
fn segment<const AT: usize>(above: &[u8], header: &[u8; tcp::field::SIZE], wire: u32) -> Option<Transport> {
    use tcp::field::{ACK, DATA_OFFSET, FLAGS, SEQ, SIZE, WINDOW};
    let size = tcp::header_size(header.byte::<DATA_OFFSET>());
    if size < SIZE || wire < size as u32 {
        return None;
    }
    let ack = header.be32::<ACK>();
    let flags = header.byte::<FLAGS>();
    // SYN options are parsed on demand.
    let reads = size > SIZE && flags & tcpflag::SYN == 0;
    let (edge, timestamps) = if reads { options(above, size, ack) } else { (ack, false) };
    Some(Transport {
        seq: header.be32::<SEQ>(),
        ack,
        edge,
        window: header.be16::<WINDOW>(),
        flags,
        offset: (AT + size) as u8,
        payload_bytes: (wire - size as u32) as u16,
        timestamps,
    })
}

/// Highest right edge of SACK blocks beyond `ack`, else `ack`; and true if timestamps are among the options.
#[inline(always)]
fn options(above: &[u8], size: usize, ack: u32) -> (u32, bool) {
    if tcp::are_timestamps_only(above, size) { (ack, true) } else { scan_options(above, size, ack) }
}

#[inline(never)]
fn scan_options(above: &[u8], size: usize, ack: u32) -> (u32, bool) {
    let mut tcp = Tcp { ack, ..Tcp::default() };
    tcp::parse_options(&mut tcp, above, size);
    (tcp.sack.unwrap_or(ack), tcp.timestamps)
}

/// Full TCP header of an ordinary segment whose payload begins at `offset` in its frame.
pub fn tcp_header(frame: &[u8], is_v6: bool, offset: u8) -> Option<Tcp> {
    let at = if is_v6 { BEFORE_V6 } else { BEFORE_V4 };
    let above = frame.get(at..)?;
    let mut tcp = tcp::of_header(above.first_chunk()?);
    let size = usize::from(offset).checked_sub(at)?;
    if size > tcp::field::SIZE {
        tcp::parse_options(&mut tcp, above, size);
    }
    Some(tcp)
}

#[inline(always)]
fn datagram<const AT: usize>(above: &[u8], ports: [u16; 2], wire: u32) -> Option<Transport> {
    use super::udp::field::{LENGTH, SIZE};
    let (header, payload) = above.split_first_chunk::<SIZE>()?;
    let length = u32::from(header.be16::<LENGTH>());
    if length < SIZE as u32 || length > wire || tunnel::is_port(ports[0]) || tunnel::is_port(ports[1]) {
        return None;
    }
    let captured = (wire as usize - SIZE).min(payload.len());
    let begins = payload.first_chunk::<8>().filter(|_| captured >= 8).map_or(0, |bytes| u64::from_ne_bytes(*bytes));
    let first = payload.first().map_or(0, |byte| byte >> 4);
    if AT == BEFORE_V4 && first == 6 && tunnel::begins_as_teredo(payload) {
        return None;
    }
    if first == 3 && ports[0] == ports[1] && tunnel::begins_as_gtpu(payload) {
        return None;
    }
    Some(Transport {
        seq: (begins >> 32) as u32,
        ack: begins as u32,
        offset: (AT + SIZE) as u8,
        payload_bytes: (length - SIZE as u32) as u16,
        ..Transport::default()
    })
}

/// True for an echo request or reply.
#[inline(always)]
fn echo<const AT: usize>(above: &[u8], kinds: [u8; 2], wire: u32) -> Option<Transport> {
    const SIZE: usize = 8;
    let header = above.first_chunk::<SIZE>()?;
    if wire < SIZE as u32 || !kinds.contains(&header.byte::<0>()) {
        return None;
    }
    Some(Transport {
        seq: u32::from(header.be16::<4>()),
        offset: (AT + SIZE) as u8,
        payload_bytes: (wire - SIZE as u32) as u16,
        ..Transport::default()
    })
}
