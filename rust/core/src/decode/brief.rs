//! The ordinary packet in brief: a whole, well-formed TCP segment or UDP datagram in no tunnel, as nearly all are.
//!
//! [`Brief::read`] reads one from its record at fixed offsets, several times faster than the decoder, which reads
//! everything; where it gives None the decoder is asked. Both say the same of a packet (`brief_is_what_the_decoder_says`
//! in `tests/brief.rs`), so that it does not matter which of them was asked.

use super::bytes::Fields;
use super::{Addr, Family, FiveTuple, L4, Packet, Tcp, Vlan, ipproto, tcp, transport, tunnel};
use crate::capture::{Lacks, LinkType, Record};

/// What is needed of an ordinary packet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Brief {
    /// Addresses, ports, protocol (TCP or UDP), as it travelled.
    pub tuple: FiveTuple,
    /// VLAN tags.
    pub vlan: Vlan,
    /// Bytes of the datagram, IP header included.
    pub ip_bytes: u32,
    /// Bytes above the transport header.
    pub payload_bytes: u32,
    /// Where in its record the payload begins, and how many bytes of it are there.
    pub payload: (u32, u32),
    /// The TCP header; of UDP all zero.
    pub tcp: Tcp,
    /// Identification of the IPv4 header; 0 for IPv6.
    pub identification: u16,
    /// The capture cut the payload.
    pub cut: bool,
    /// Sent to a group or to everybody.
    pub to_group: bool,
}

/// An Ethernet header with an EtherType.
const ETHERNET: usize = 14;
const ETHERTYPE: usize = 12;
/// What stands before the transport header: no IP options or extension headers.
const BEFORE_IPV4: usize = ETHERNET + 20;
const BEFORE_IPV6: usize = ETHERNET + 40;

/// Sent to a group address of the link layer.
#[inline]
fn is_for_group(ethernet: &[u8; ETHERNET]) -> bool {
    ethernet.byte::<0>() & super::ether::GROUP_BIT != 0
}

impl Brief {
    /// Reads a record whose link layer is Ethernet; None where it is anything but ordinary.
    pub fn read(record: &Record, bytes: &[u8]) -> Option<Self> {
        let mut brief = Self::default();
        brief.fill(record, bytes).then_some(brief)
    }

    /// Reads a record in place of what was read before; false where it is anything but ordinary, and what is left in place
    /// is of no use.
    #[inline]
    pub fn fill(&mut self, record: &Record, bytes: &[u8]) -> bool {
        self.try_fill(record, bytes).is_some()
    }

    #[inline]
    fn try_fill(&mut self, record: &Record, bytes: &[u8]) -> Option<()> {
        if record.linktype != LinkType::ETHERNET {
            return None;
        }
        let ethernet = bytes.first_chunk::<ETHERNET>()?;
        self.vlan = Vlan::default();
        match ethernet.be16::<ETHERTYPE>() {
            super::ether::ethertype::IPV4 => self.ipv4(bytes),
            super::ether::ethertype::IPV6 => self.ipv6(bytes),
            _ => None,
        }
    }

    /// An IPv4 header without options, of a datagram that is no fragment, and what is above it.
    #[inline]
    fn ipv4(&mut self, bytes: &[u8]) -> Option<()> {
        use super::ip::v4_field::{
            DST, FLAGS_OFFSET, ID, MORE_FRAGMENTS, OFFSET_MASK, PROTOCOL, SIZE, SRC, TOTAL_LENGTH,
        };
        const VERSION_AND_LENGTH: u8 = 0x45;
        let (ethernet, ip) = bytes.split_first_chunk::<ETHERNET>()?;
        let (header, above) = ip.split_first_chunk::<SIZE>()?;
        let length = u32::from(header.be16::<TOTAL_LENGTH>());
        let is_fragment = header.be16::<FLAGS_OFFSET>() & (MORE_FRAGMENTS | OFFSET_MASK) != 0;
        let wire = length.checked_sub(SIZE as u32)?;
        if header.byte::<0>() != VERSION_AND_LENGTH || is_fragment {
            return None;
        }
        self.tuple.src = Addr::v4(header.array::<SRC, 4>());
        self.tuple.dst = Addr::v4(header.array::<DST, 4>());
        self.tuple.family = Family::V4;
        self.identification = header.be16::<ID>();
        self.ip_bytes = length;
        self.to_group = is_for_group(ethernet) || transport::is_group(Family::V4, self.tuple.dst);
        self.transport::<BEFORE_IPV4>(header.byte::<PROTOCOL>(), above, wire)
    }

    /// An IPv6 header without extension headers, and what is above it.
    #[inline]
    fn ipv6(&mut self, bytes: &[u8]) -> Option<()> {
        use super::ip::v6_field::{DST, NEXT_HEADER, PAYLOAD_LENGTH, SIZE, SRC, VERSION};
        const VERSION_6: u8 = 6;
        let (ethernet, ip) = bytes.split_first_chunk::<ETHERNET>()?;
        let (header, above) = ip.split_first_chunk::<SIZE>()?;
        let wire = u32::from(header.be16::<PAYLOAD_LENGTH>());
        if header.byte::<VERSION>() >> 4 != VERSION_6 || wire == 0 {
            return None;
        }
        self.tuple.src = Addr::v6(header.array::<SRC, 16>());
        self.tuple.dst = Addr::v6(header.array::<DST, 16>());
        self.tuple.family = Family::V6;
        self.identification = 0;
        self.ip_bytes = SIZE as u32 + wire;
        self.to_group = is_for_group(ethernet) || transport::is_group(Family::V6, self.tuple.dst);
        self.transport::<BEFORE_IPV6>(header.byte::<NEXT_HEADER>(), above, wire)
    }

    /// What is above an IP header and begins `BEFORE` bytes into the record: `wire` bytes, of which `above` was captured, and
    /// perhaps padding of the link layer behind them.
    #[inline]
    fn transport<const BEFORE: usize>(&mut self, proto: u8, above: &[u8], wire: u32) -> Option<()> {
        self.tuple.proto = proto;
        let header = match proto {
            ipproto::TCP => self.tcp_header(above, wire)?,
            ipproto::UDP => self.udp_header(above, wire)?,
            _ => return None,
        };
        let captured = wire.min(above.len() as u32);
        self.cut = captured < wire;
        self.payload = if captured > header { (BEFORE as u32 + header, captured - header) } else { (0, 0) };
        Some(())
    }

    /// Returns the size of the header.
    #[inline]
    fn tcp_header(&mut self, above: &[u8], wire: u32) -> Option<u32> {
        use tcp::field::{DATA_OFFSET, SIZE};
        let header = above.first_chunk::<SIZE>()?;
        let size = tcp::header_size(header.byte::<DATA_OFFSET>());
        self.payload_bytes = wire.checked_sub(size as u32)?;
        if size < SIZE {
            return None;
        }
        (self.tuple.sport, self.tuple.dport) = (header.be16::<0>(), header.be16::<2>());
        self.tcp = tcp::of_header(header);
        if size > SIZE {
            tcp::take_options(&mut self.tcp, above, size);
        }
        Some(size as u32)
    }

    /// Returns the size of the header; None also where it may carry a tunnel.
    #[inline]
    fn udp_header(&mut self, above: &[u8], wire: u32) -> Option<u32> {
        use transport::udp_field::{LENGTH, SIZE};
        let (header, payload) = above.split_first_chunk::<SIZE>()?;
        let length = u32::from(header.be16::<LENGTH>());
        self.payload_bytes = length.checked_sub(SIZE as u32)?;
        if length > wire {
            return None;
        }
        (self.tuple.sport, self.tuple.dport) = (header.be16::<0>(), header.be16::<2>());
        let payload = payload.get(..wire as usize - SIZE).unwrap_or(payload);
        if tunnel::may_carry(&self.tuple, payload) {
            return None;
        }
        self.tcp = Tcp::default();
        Some(SIZE as u32)
    }

    /// The same of a packet that the decoder has read; None where it is not ordinary.
    pub fn of(packet: &Packet) -> Option<Self> {
        let tcp = match packet.l4 {
            L4::Tcp(tcp) => tcp,
            L4::Udp if packet.tuple.proto == ipproto::UDP => Tcp::default(),
            _ => return None,
        };
        let is_whole = packet.complete && !packet.fragment && packet.packets == 1;
        if !is_whole || packet.malformed || packet.bad_checksum || packet.bad_header {
            return None;
        }
        Some(Self {
            tuple: packet.tuple,
            vlan: packet.vlan,
            ip_bytes: packet.ip_bytes,
            payload_bytes: packet.payload_bytes,
            payload: packet.payload,
            tcp,
            identification: packet.identification,
            cut: packet.cut,
            to_group: packet.to_group,
        })
    }

    /// Takes out what its source lacks.
    pub fn lack(&mut self, lacks: Lacks) {
        self.cut &= !lacks.payloads;
        if lacks.numbers && self.tuple.proto == ipproto::TCP {
            self.tcp = self.tcp.without_numbers();
        }
    }

    /// Both ends are one.
    #[inline]
    pub fn is_self(&self) -> bool {
        self.tuple.sport == self.tuple.dport && self.tuple.src == self.tuple.dst
    }

    /// The packet in full, as the decoder gives it.
    pub fn packet(&self) -> Packet {
        Packet {
            tuple: self.tuple,
            vlan: self.vlan,
            packets: 1,
            ip_bytes: self.ip_bytes,
            payload_bytes: self.payload_bytes,
            to_group: self.to_group,
            complete: true,
            segment_bytes: self.payload_bytes,
            datagram_bytes: self.ip_bytes,
            cut: self.cut,
            identification: self.identification,
            l4: if self.tuple.proto == ipproto::TCP { L4::Tcp(self.tcp) } else { L4::Udp },
            payload: self.payload,
            ..Packet::default()
        }
    }

    /// The payload in the bytes of its record, as far as captured.
    #[inline]
    pub fn payload_in<'a>(&self, record: &'a [u8]) -> &'a [u8] {
        let (at, length) = (self.payload.0 as usize, self.payload.1 as usize);
        record.get(at..at + length).unwrap_or_default()
    }
}
