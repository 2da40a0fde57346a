//! Link layers: from the first byte of a record to its IP header.

use super::bytes::{Fields, Span};
use super::ip::Net;
use super::{Skip, ether, ieee80211, ppp};
use crate::capture::LinkType;
use crate::flow::Family;

/// LINKTYPE_ numbers, as registered at <https://www.tcpdump.org/linktypes.html>.
mod number {
    pub const NULL: u16 = 0;
    pub const ETHERNET: u16 = 1;
    pub const IEEE802_5: u16 = 6;
    pub const SLIP: u16 = 8;
    pub const PPP: u16 = 9;
    pub const FDDI: u16 = 10;
    /// DLT_RAW where files carry DLT_ numbers.
    pub const RAW_DLT: u16 = 12;
    /// DLT_RAW on OpenBSD.
    pub const RAW_OPENBSD: u16 = 14;
    pub const PPP_HDLC: u16 = 50;
    pub const PPP_ETHER: u16 = 51;
    pub const RAW: u16 = 101;
    pub const C_HDLC: u16 = 104;
    pub const IEEE802_11: u16 = 105;
    pub const FRELAY: u16 = 107;
    pub const LOOP: u16 = 108;
    pub const ENC: u16 = 109;
    pub const LINUX_SLL: u16 = 113;
    pub const PFLOG: u16 = 117;
    pub const IEEE802_11_PRISM: u16 = 119;
    pub const IEEE802_11_RADIOTAP: u16 = 127;
    pub const IEEE802_11_AVS: u16 = 163;
    pub const PPP_PPPD: u16 = 166;
    pub const PPI: u16 = 192;
    pub const PPP_WITH_DIR: u16 = 204;
    pub const C_HDLC_WITH_DIR: u16 = 205;
    pub const IPV4: u16 = 228;
    pub const IPV6: u16 = 229;
    pub const NFLOG: u16 = 239;
    pub const PKTAP: u16 = 258;
    pub const LINUX_SLL2: u16 = 276;
}

/// Every link type that has a decoder, in the order of their numbers.
pub const SUPPORTED: &[LinkType] = &[
    LinkType(number::NULL),
    LinkType(number::ETHERNET),
    LinkType(number::IEEE802_5),
    LinkType(number::SLIP),
    LinkType(number::PPP),
    LinkType(number::FDDI),
    LinkType(number::RAW_DLT),
    LinkType(number::RAW_OPENBSD),
    LinkType(number::PPP_HDLC),
    LinkType(number::PPP_ETHER),
    LinkType(number::RAW),
    LinkType(number::C_HDLC),
    LinkType(number::IEEE802_11),
    LinkType(number::FRELAY),
    LinkType(number::LOOP),
    LinkType(number::ENC),
    LinkType(number::LINUX_SLL),
    LinkType(number::PFLOG),
    LinkType(number::IEEE802_11_PRISM),
    LinkType(number::IEEE802_11_RADIOTAP),
    LinkType(number::IEEE802_11_AVS),
    LinkType(number::PPP_PPPD),
    LinkType(number::PPI),
    LinkType(number::PPP_WITH_DIR),
    LinkType(number::C_HDLC_WITH_DIR),
    LinkType(number::IPV4),
    LinkType(number::IPV6),
    LinkType(number::NFLOG),
    LinkType(number::PKTAP),
    LinkType(number::LINUX_SLL2),
];

/// Whether records of this link type can be decoded.
pub fn supports(linktype: LinkType) -> bool {
    SUPPORTED.binary_search(&linktype).is_ok()
}

/// The frame that most captures are full of: Ethernet II with IPv4. None for all others.
#[inline]
pub(super) fn usual(linktype: LinkType, span: Span<'_>) -> Option<Net<'_>> {
    if linktype == LinkType(number::ETHERNET) { ether::plain_ipv4(span) } else { None }
}

/// Finds the IP header of a record.
pub(super) fn open(linktype: LinkType, span: Span<'_>) -> Result<Net<'_>, Skip> {
    match linktype.0 {
        number::PPI => {
            let (linktype, behind) = per_packet_information(span)?;
            open_wrapped(linktype, behind)
        }
        number::PKTAP => {
            let (linktype, behind) = packet_tap(span)?;
            open_wrapped(linktype, behind)
        }
        other => open_frame(other, span),
    }
}

/// Link layers that wrap no other one.
fn open_frame(linktype: u16, span: Span<'_>) -> Result<Net<'_>, Skip> {
    let unicast = |(kind, behind)| ether::typed(kind, behind, false);
    match linktype {
        number::ETHERNET => ether::frame(span),
        number::NULL | number::LOOP => loopback(span),
        number::RAW | number::RAW_DLT | number::RAW_OPENBSD => Net::by_version(span),
        number::IPV4 => Ok(Net::plain(Family::V4, span)),
        number::IPV6 => Ok(Net::plain(Family::V6, span)),
        number::LINUX_SLL => cooked(span),
        number::LINUX_SLL2 => cooked_v2(span),
        number::PPP => ppp::frame(span).and_then(unicast),
        number::PPP_HDLC => ppp::serial(span).and_then(unicast),
        number::PPP_ETHER => ppp::session(span).and_then(unicast),
        number::PPP_PPPD | number::PPP_WITH_DIR => ppp::with_direction(span).and_then(unicast),
        number::C_HDLC => ppp::cisco_hdlc(span).and_then(unicast),
        number::C_HDLC_WITH_DIR => ppp::cisco_hdlc(span.skip(1)?).and_then(unicast),
        number::FRELAY => ppp::frame_relay(span).and_then(unicast),
        number::IEEE802_11 => ieee80211::frame(span, false),
        number::IEEE802_11_RADIOTAP => ieee80211::radiotap(span),
        number::IEEE802_11_PRISM => ieee80211::prism(span),
        number::IEEE802_11_AVS => ieee80211::avs(span),
        number::NFLOG => netfilter_log(span),
        number::ENC => encapsulated(span),
        number::PFLOG => packet_filter_log(span),
        number::FDDI => fddi(span),
        number::IEEE802_5 => token_ring(span),
        number::SLIP => slip(span),
        _ => Err(Skip::LinkType),
    }
}

/// The frame inside PPI or PKTAP, which name its link type; neither goes into another one.
fn open_wrapped(linktype: u32, span: Span<'_>) -> Result<Net<'_>, Skip> {
    open_frame(u16::try_from(linktype).map_err(|_| Skip::LinkType)?, span)
}

/// Address families as the systems that write captures number them.
fn family(number: u32) -> Result<Family, Skip> {
    match number {
        2 => Ok(Family::V4),
        // Linux, NetBSD and OpenBSD, FreeBSD, Darwin.
        10 | 24 | 28 | 30 => Ok(Family::V6),
        _ => Err(Skip::NotIp),
    }
}

/// A family in 32 bits, in the byte order of whoever wrote it: no family has a number above 65,535.
fn family_in_either_order(bytes: [u8; 4]) -> Result<Family, Skip> {
    family(u32::from_be_bytes(bytes)).or_else(|_| family(u32::from_le_bytes(bytes)))
}

/// LINKTYPE_NULL and LINKTYPE_LOOP: the address family.
fn loopback(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const SIZE: usize = 4;
    Ok(Net::plain(family_in_either_order(*span.head::<SIZE>()?)?, span.skip(SIZE)?))
}

/// LINKTYPE_ENC, OpenBSD's IPsec interface: family, SPI, flags.
fn encapsulated(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const FAMILY: usize = 0;
    const SIZE: usize = 12;
    Ok(Net::plain(family_in_either_order(span.head::<SIZE>()?.array::<FAMILY, 4>())?, span.skip(SIZE)?))
}

/// LINKTYPE_PFLOG: its length without padding, then the family.
fn packet_filter_log(span: Span<'_>) -> Result<Net<'_>, Skip> {
    let [length, number] = *span.head::<2>()?;
    Ok(Net::plain(family(u32::from(number))?, span.skip(usize::from(length).next_multiple_of(4))?))
}

/// Packet types of Linux' cooked captures: 1 broadcast, 2 multicast.
fn is_group_type(kind: u16) -> bool {
    matches!(kind, 1 | 2)
}

/// Device types of Linux' cooked captures (ARPHRD_ numbers) whose protocol field is not an EtherType.
mod device {
    pub const FRAD: u16 = 770;
    pub const IEEE80211_RADIOTAP: u16 = 803;
    pub const NETLINK: u16 = 824;
}

/// What a cooked header leads to.
fn cooked_payload(device: u16, protocol: u16, to_group: bool, span: Span<'_>) -> Result<Net<'_>, Skip> {
    match device {
        device::IEEE80211_RADIOTAP => ieee80211::radiotap(span),
        device::FRAD | device::NETLINK => Err(Skip::NotIp),
        _ if protocol == ether::ethertype::LINUX_LLC => ether::llc(span, to_group),
        // Below the EtherTypes there are Linux' own numbers, none of them IP.
        _ if protocol <= 1500 => Err(Skip::NotIp),
        _ => ether::typed(protocol, span, to_group),
    }
}

/// LINKTYPE_LINUX_SLL.
fn cooked(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const PACKET_TYPE: usize = 0;
    const DEVICE: usize = 2;
    const PROTOCOL: usize = 14;
    const SIZE: usize = 16;
    let header = span.head::<SIZE>()?;
    let to_group = is_group_type(header.be16::<PACKET_TYPE>());
    cooked_payload(header.be16::<DEVICE>(), header.be16::<PROTOCOL>(), to_group, span.skip(SIZE)?)
}

/// LINKTYPE_LINUX_SLL2.
fn cooked_v2(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const PROTOCOL: usize = 0;
    const DEVICE: usize = 8;
    const PACKET_TYPE: usize = 10;
    const SIZE: usize = 20;
    let header = span.head::<SIZE>()?;
    let to_group = is_group_type(u16::from(header.byte::<PACKET_TYPE>()));
    cooked_payload(header.be16::<DEVICE>(), header.be16::<PROTOCOL>(), to_group, span.skip(SIZE)?)
}

/// LINKTYPE_PPI: header length and link type, little-endian.
fn per_packet_information(span: Span<'_>) -> Result<(u32, Span<'_>), Skip> {
    const LENGTH: usize = 2;
    const LINKTYPE: usize = 4;
    const SIZE: usize = 8;
    let header = span.head::<SIZE>()?;
    let length = usize::from(u16::from_le_bytes(header.array::<LENGTH, 2>()));
    Ok((u32::from_le_bytes(header.array::<LINKTYPE, 4>()), span.skip(length.max(SIZE))?))
}

/// LINKTYPE_PKTAP, Darwin's wrapper, written by little-endian machines.
fn packet_tap(span: Span<'_>) -> Result<(u32, Span<'_>), Skip> {
    const LENGTH: usize = 0;
    const KIND: usize = 4;
    const LINKTYPE: usize = 8;
    const SIZE: usize = 12;
    const KIND_PACKET: u32 = 1;
    let header = span.head::<SIZE>()?;
    if u32::from_le_bytes(header.array::<KIND, 4>()) != KIND_PACKET {
        return Err(Skip::NotIp);
    }
    let length = u32::from_le_bytes(header.array::<LENGTH, 4>()) as usize;
    Ok((u32::from_le_bytes(header.array::<LINKTYPE, 4>()), span.skip(length.max(SIZE))?))
}

/// LINKTYPE_NFLOG: attributes in the byte order of whoever captured, which nothing names. The order in which they
/// lead to a payload is the right one.
fn netfilter_log(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const FAMILY: usize = 0;
    const SIZE: usize = 4;
    let number = span.head::<SIZE>()?.byte::<FAMILY>();
    let attributes = span.skip(SIZE)?;
    let payload = nflog_payload(attributes, u16::from_le_bytes)
        .or_else(|skip| nflog_payload(attributes, u16::from_be_bytes).map_err(|_| skip))?;
    match family(u32::from(number)) {
        Ok(family) => Ok(Net::plain(family, payload)),
        // Rules on bridges and devices log IP too.
        Err(_) => Net::by_version(payload),
    }
}

fn nflog_payload(mut span: Span<'_>, order: fn([u8; 2]) -> u16) -> Result<Span<'_>, Skip> {
    const LENGTH: usize = 0;
    const KIND: usize = 2;
    const SIZE: usize = 4;
    const PAYLOAD: u16 = 9;
    /// The kernel writes fewer than twenty kinds, each once.
    const MOST_ATTRIBUTES: usize = 64;
    for _ in 0..MOST_ATTRIBUTES {
        let header = span.head::<SIZE>()?;
        let length = usize::from(order(header.array::<LENGTH, 2>()));
        if length < SIZE {
            return Err(Skip::NotIp);
        }
        if order(header.array::<KIND, 2>()) == PAYLOAD {
            return span.limit(length).skip(SIZE);
        }
        span = span.skip(length.next_multiple_of(4))?;
    }
    Err(Skip::TooDeep)
}

/// Frame control of FDDI and token ring: frames that carry LLC.
fn is_llc(frame_control: u8) -> bool {
    frame_control & 0xc0 == 0x40
}

/// LINKTYPE_FDDI.
fn fddi(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const CONTROL: usize = 0;
    const DST: usize = 1;
    const SIZE: usize = 13;
    let header = span.head::<SIZE>()?;
    if !is_llc(header.byte::<CONTROL>()) {
        return Err(Skip::NotIp);
    }
    ether::llc(span.skip(SIZE)?, header.byte::<DST>() & ether::GROUP_BIT != 0)
}

/// LINKTYPE_IEEE802_5, token ring: addresses have their bits in the opposite order, and a source route may follow.
fn token_ring(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const CONTROL: usize = 1;
    const DST: usize = 2;
    const SRC: usize = 8;
    const SIZE: usize = 14;
    const FIRST_BIT: u8 = 0x80;
    const ROUTE_LENGTH_MASK: u8 = 0x1f;
    let header = span.head::<SIZE>()?;
    if !is_llc(header.byte::<CONTROL>()) {
        return Err(Skip::NotIp);
    }
    let behind = span.skip(SIZE)?;
    let route = match header.byte::<SRC>() & FIRST_BIT {
        0 => 0,
        _ => usize::from(behind.head::<1>()?.byte::<0>() & ROUTE_LENGTH_MASK),
    };
    ether::llc(behind.skip(route)?, header.byte::<DST>() & FIRST_BIT != 0)
}

/// LINKTYPE_SLIP: direction, kind, and the compressed header as it came; then the packet.
fn slip(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const KIND: usize = 1;
    const SIZE: usize = 16;
    /// Compressed TCP (RFC 1144) has no IP header to read.
    const COMPRESSED: u8 = 0x80;
    if span.head::<SIZE>()?.byte::<KIND>() & COMPRESSED != 0 {
        return Err(Skip::NotIp);
    }
    Net::by_version(span.skip(SIZE)?)
}
