//! Ordinary packets at fixed offsets: whole, well-formed TCP segments, UDP datagrams and ICMP echo in no tunnel, right behind
//! an Ethernet header, as nearly all are.
//!
//! Several times faster than the decoder, which reads everything; the decoder is asked where this gives None. Both say the
//! same of a packet (`flow/descriptor/tests.rs`), so that it does not matter which of them was asked.

#![allow(
    clippy::inline_always,
    reason = "one copy for each protocol and header in front, whose offsets are then constants"
)]

use super::bytes::Fields;
use super::{Tcp, ipproto, tcp, tcpflag, tunnel};

const ETHERNET: usize = 14;
const ETHERTYPE: usize = 12;
/// Bytes in front of the transport header of IPv4 without options.
const BEFORE_V4: usize = ETHERNET + super::ip::v4_field::SIZE;
/// Bytes in front of the transport header of IPv6 without extension headers.
const BEFORE_V6: usize = ETHERNET + super::ip::v6_field::SIZE;
/// The shortest frames that are ordinary: a TCP header fits, whatever is there.
const LEAST_V4: usize = BEFORE_V4 + tcp::field::SIZE;
const LEAST_V6: usize = BEFORE_V6 + tcp::field::SIZE;
/// The longest IPv6 payload whose packet has a length of sixteen bits.
const LONGEST_V6: u32 = u16::MAX as u32 - super::ip::v6_field::SIZE as u32;

/// The beginning of an IPv4 frame.
#[derive(Clone, Copy)]
pub struct V4<'a>(&'a [u8], &'a [u8; LEAST_V4]);
/// The beginning of an IPv6 frame.
#[derive(Clone, Copy)]
pub struct V6<'a>(&'a [u8], &'a [u8; LEAST_V6]);

/// A frame that may be ordinary.
pub enum Frame<'a> {
    /// With an IPv4 header without options, of a datagram that is no fragment.
    V4(V4<'a>),
    /// With an IPv6 header.
    V6(V6<'a>),
}

/// A transport header.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transport {
    /// Sequence number; of UDP, the first eight bytes of payload are here and in `ack`; of ICMP the identifier.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// The highest right edge of SACK blocks beyond `ack`, or `ack`; of a SYN `ack`.
    pub edge: u32,
    /// Window as sent.
    pub window: u16,
    /// TCP's flag byte.
    pub flags: u8,
    /// Where in the record the payload begins.
    pub offset: u8,
    /// Bytes above the header, as the headers say.
    pub payload_bytes: u16,
    /// TCP's timestamps option is there; not looked for in a SYN.
    pub timestamps: bool,
}

/// The frame, if it may be ordinary.
#[inline(always)]
pub fn open(frame: &[u8]) -> Option<Frame<'_>> {
    use super::ethertype::{IPV4, IPV6};
    use super::ip::v4_field::{FLAGS_OFFSET, MORE_FRAGMENTS, OFFSET_MASK};
    const VERSION_AND_LENGTH: u8 = 0x45;
    let head = frame.first_chunk::<LEAST_V4>()?;
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

    /// Bytes of the datagram, IP header included.
    #[inline(always)]
    pub fn ip_bytes(&self) -> u16 {
        self.1.be16::<{ ETHERNET + super::ip::v4_field::TOTAL_LENGTH }>()
    }

    /// Identification.
    #[inline(always)]
    pub fn identification(&self) -> u16 {
        self.1.be16::<{ ETHERNET + super::ip::v4_field::ID }>()
    }

    /// The link layer or the address says that it was sent to a group or to everybody.
    #[inline(always)]
    pub fn is_to_group(&self) -> bool {
        // From the first multicast address on there are the others, class E, and everybody's.
        const MULTICAST: u32 = 0xe000_0000;
        let (_, dst) = self.addresses();
        self.1[0] & super::ether::GROUP_BIT != 0
            || (dst >= MULTICAST && (dst >> 28 == MULTICAST >> 28 || dst == u32::MAX))
    }

    /// Bytes above the IP header; None where the header contradicts itself.
    #[inline(always)]
    pub fn wire(&self) -> Option<u32> {
        u32::from(self.ip_bytes()).checked_sub(super::ip::v4_field::SIZE as u32)
    }

    /// The capture cut the packet.
    #[inline(always)]
    pub fn is_cut(&self, wire: u32) -> bool {
        ((self.0.len() - BEFORE_V4) as u32) < wire
    }

    /// Both ports of TCP and UDP; type and code of ICMP.
    #[inline(always)]
    pub fn ports(&self) -> [u16; 2] {
        [self.1.be16::<BEFORE_V4>(), self.1.be16::<{ BEFORE_V4 + 2 }>()]
    }

    /// The header of protocol `PROTO` above, of so many bytes on the wire.
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

    /// The link layer or the address says that it was sent to a group.
    #[inline(always)]
    pub fn is_to_group(&self) -> bool {
        let (_, dst) = self.addresses();
        self.1[0] & super::ether::GROUP_BIT != 0 || dst[0] >> 56 == 0xff
    }

    /// Bytes above the IP header; None where there are none, or the packet is a jumbogram.
    #[inline(always)]
    pub fn wire(&self) -> Option<u32> {
        let wire = u32::from(self.1.be16::<{ ETHERNET + super::ip::v6_field::PAYLOAD_LENGTH }>());
        (wire != 0 && wire <= LONGEST_V6).then_some(wire)
    }

    /// The capture cut the packet.
    #[inline(always)]
    pub fn is_cut(&self, wire: u32) -> bool {
        ((self.0.len() - BEFORE_V6) as u32) < wire
    }

    /// Both ports of TCP and UDP; type and code of ICMPv6.
    #[inline(always)]
    pub fn ports(&self) -> [u16; 2] {
        [self.1.be16::<BEFORE_V6>(), self.1.be16::<{ BEFORE_V6 + 2 }>()]
    }

    /// The header of protocol `PROTO` above, of so many bytes on the wire.
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
    // What a SYN offers is read where it is of use.
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

/// The highest right edge of SACK blocks beyond `ack`, or `ack`; and whether timestamps are among the options.
#[inline(always)]
fn options(above: &[u8], size: usize, ack: u32) -> (u32, bool) {
    if tcp::are_usual(above, size) { (ack, true) } else { any_options(above, size, ack) }
}

#[inline(never)]
fn any_options(above: &[u8], size: usize, ack: u32) -> (u32, bool) {
    let mut tcp = Tcp { ack, ..Tcp::default() };
    tcp::take_options(&mut tcp, above, size);
    (tcp.sack.unwrap_or(ack), tcp.timestamps)
}

/// The TCP header of an ordinary segment whose payload begins `offset` bytes into its frame, with all options.
pub fn tcp_header(frame: &[u8], is_v6: bool, offset: u8) -> Option<Tcp> {
    let at = if is_v6 { BEFORE_V6 } else { BEFORE_V4 };
    let above = frame.get(at..)?;
    let mut tcp = tcp::of_header(above.first_chunk()?);
    let size = usize::from(offset).checked_sub(at)?;
    if size > tcp::field::SIZE {
        tcp::take_options(&mut tcp, above, size);
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
    let is_v6 = payload.first().is_some_and(|byte| byte >> 4 == 6);
    if AT == BEFORE_V4 && is_v6 && tunnel::begins_as_teredo(payload) {
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

/// Echo request or reply.
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
