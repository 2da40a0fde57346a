//! Link layers: from the first byte of a record to the IP header.

use super::bytes::{Fields, Span};
use super::ip::Net;
use super::{Family, Skip, ether, ethertype, ieee80211, ppp};
use conntrack_capture::LinkType;

/// All link types with a decoder, in numeric order.
pub const SUPPORTED: &[LinkType] = &[
    LinkType::NULL,
    LinkType::ETHERNET,
    LinkType::IEEE802_5,
    LinkType::SLIP,
    LinkType::PPP,
    LinkType::FDDI,
    LinkType::PPP_HDLC,
    LinkType::PPP_ETHER,
    LinkType::RAW,
    LinkType::C_HDLC,
    LinkType::IEEE802_11,
    LinkType::FRELAY,
    LinkType::LOOP,
    LinkType::ENC,
    LinkType::LINUX_SLL,
    LinkType::PFLOG,
    LinkType::IEEE802_11_PRISM,
    LinkType::IEEE802_11_RADIOTAP,
    LinkType::IEEE802_11_AVS,
    LinkType::PPP_PPPD,
    LinkType::PPI,
    LinkType::PPP_WITH_DIR,
    LinkType::C_HDLC_WITH_DIR,
    LinkType::FRELAY_WITH_DIR,
    LinkType::MPLS,
    LinkType::IPV4,
    LinkType::IPV6,
    LinkType::NFLOG,
    LinkType::PKTAP,
    LinkType::LINUX_SLL2,
];

/// True if the decoder supports records of this link type.
pub fn supports(linktype: LinkType) -> bool {
    SUPPORTED.binary_search(&linktype).is_ok()
}

/// Fast path: Ethernet II with IPv4. None for all others.
#[inline]
pub(super) fn fast_path(linktype: LinkType, span: Span<'_>) -> Option<Net<'_>> {
    if linktype == LinkType::ETHERNET { ether::plain_ipv4(span) } else { None }
}

/// Find the IP header of a record.
pub(super) fn open(linktype: LinkType, span: Span<'_>) -> Result<Net<'_>, Skip> {
    match linktype {
        LinkType::PPI => {
            let (linktype, behind) = per_packet_information(span)?;
            open_wrapped(linktype, behind)
        }
        LinkType::PKTAP => {
            let (linktype, behind) = packet_tap(span)?;
            open_wrapped(linktype, behind)
        }
        other => open_frame(other, span),
    }
}

/// Parse a link layer that does not wrap another link layer.
fn open_frame(linktype: LinkType, span: Span<'_>) -> Result<Net<'_>, Skip> {
    let unicast = |(kind, behind)| ether::typed(kind, behind, false);
    match linktype {
        LinkType::ETHERNET => ether::frame(span),
        LinkType::NULL | LinkType::LOOP => loopback(span),
        LinkType::RAW => Net::by_version(span),
        LinkType::IPV4 => Ok(Net::plain(Family::V4, span)),
        LinkType::IPV6 => Ok(Net::plain(Family::V6, span)),
        LinkType::LINUX_SLL => cooked(span),
        LinkType::LINUX_SLL2 => cooked_v2(span),
        LinkType::PPP => ppp::frame(span).and_then(unicast),
        LinkType::PPP_HDLC => ppp::serial(span).and_then(unicast),
        LinkType::PPP_ETHER => ppp::session(span).and_then(unicast),
        LinkType::PPP_PPPD | LinkType::PPP_WITH_DIR => ppp::with_direction(span).and_then(unicast),
        LinkType::C_HDLC => ppp::cisco_hdlc(span).and_then(unicast),
        LinkType::C_HDLC_WITH_DIR => ppp::cisco_hdlc(span.skip(1)?).and_then(unicast),
        LinkType::FRELAY => ppp::frame_relay(span).and_then(unicast),
        LinkType::FRELAY_WITH_DIR => ppp::frame_relay(span.skip(1)?).and_then(unicast),
        LinkType::MPLS => ether::typed(ethertype::MPLS, span, false),
        LinkType::IEEE802_11 => ieee80211::frame(span, false),
        LinkType::IEEE802_11_RADIOTAP => ieee80211::radiotap(span),
        LinkType::IEEE802_11_PRISM => ieee80211::prism(span),
        LinkType::IEEE802_11_AVS => ieee80211::avs(span),
        LinkType::NFLOG => netfilter_log(span),
        LinkType::ENC => encapsulated(span),
        LinkType::PFLOG => packet_filter_log(span),
        LinkType::FDDI => fddi(span),
        LinkType::IEEE802_5 => token_ring(span),
        LinkType::SLIP => slip(span),
        _ => Err(Skip::LinkType),
    }
}

/// Parse the inner frame of PPI or PKTAP, which name its link type; neither wrapper nests.
fn open_wrapped(linktype: u32, span: Span<'_>) -> Result<Net<'_>, Skip> {
    open_frame(LinkType::from_header(linktype), span)
}

/// IP version of an address family, as numbered by the capturing systems.
fn family(number: u32) -> Result<Family, Skip> {
    match number {
        2 => Ok(Family::V4),
        // Linux, NetBSD and OpenBSD, FreeBSD, Darwin.
        10 | 24 | 28 | 30 => Ok(Family::V6),
        _ => Err(Skip::NotIp),
    }
}

/// IP version of a 32-bit address family in the writer's byte order: family numbers are at most 65,535.
fn family_in_either_order(bytes: [u8; 4]) -> Result<Family, Skip> {
    family(u32::from_be_bytes(bytes)).or_else(|_| family(u32::from_le_bytes(bytes)))
}

/// Parse LINKTYPE_NULL and LINKTYPE_LOOP: the address family.
fn loopback(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const SIZE: usize = 4;
    Ok(Net::plain(family_in_either_order(*span.head::<SIZE>()?)?, span.skip(SIZE)?))
}

/// Parse LINKTYPE_ENC, OpenBSD's IPsec interface: family, SPI, flags.
fn encapsulated(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const FAMILY: usize = 0;
    const SIZE: usize = 12;
    Ok(Net::plain(family_in_either_order(span.head::<SIZE>()?.array::<FAMILY, 4>())?, span.skip(SIZE)?))
}

/// Parse LINKTYPE_PFLOG: header length without padding, then the family.
fn packet_filter_log(span: Span<'_>) -> Result<Net<'_>, Skip> {
    let [length, number] = *span.head::<2>()?;
    Ok(Net::plain(family(u32::from(number))?, span.skip(usize::from(length).next_multiple_of(4))?))
}

/// True for group packet types of Linux cooked captures: 1 broadcast, 2 multicast.
fn is_group_type(kind: u16) -> bool {
    matches!(kind, 1 | 2)
}

/// Device types of Linux cooked captures (ARPHRD_ numbers) whose protocol field is not an EtherType.
mod device {
    pub const FRAD: u16 = 770;
    pub const IEEE80211_RADIOTAP: u16 = 803;
    pub const NETLINK: u16 = 824;
}

/// Parse the payload of a cooked header.
fn cooked_payload(device: u16, protocol: u16, to_group: bool, span: Span<'_>) -> Result<Net<'_>, Skip> {
    match device {
        device::IEEE80211_RADIOTAP => ieee80211::radiotap(span),
        device::FRAD | device::NETLINK => Err(Skip::NotIp),
        _ if protocol == ethertype::LINUX_LLC => ether::llc(span, to_group),
        // Numbers below the EtherTypes are Linux-specific, none of them IP.
        _ if protocol <= 1500 => Err(Skip::NotIp),
        _ => ether::typed(protocol, span, to_group),
    }
}

/// Parse LINKTYPE_LINUX_SLL.
fn cooked(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const PACKET_TYPE: usize = 0;
    const DEVICE: usize = 2;
    const PROTOCOL: usize = 14;
    const SIZE: usize = 16;
    let header = span.head::<SIZE>()?;
    let to_group = is_group_type(header.be16::<PACKET_TYPE>());
    cooked_payload(header.be16::<DEVICE>(), header.be16::<PROTOCOL>(), to_group, span.skip(SIZE)?)
}

/// Parse LINKTYPE_LINUX_SLL2.
fn cooked_v2(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const PROTOCOL: usize = 0;
    const DEVICE: usize = 8;
    const PACKET_TYPE: usize = 10;
    const SIZE: usize = 20;
    let header = span.head::<SIZE>()?;
    let to_group = is_group_type(u16::from(header.byte::<PACKET_TYPE>()));
    cooked_payload(header.be16::<DEVICE>(), header.be16::<PROTOCOL>(), to_group, span.skip(SIZE)?)
}

/// Parse LINKTYPE_PPI: header length and link type, little-endian.
fn per_packet_information(span: Span<'_>) -> Result<(u32, Span<'_>), Skip> {
    const LENGTH: usize = 2;
    const LINKTYPE: usize = 4;
    const SIZE: usize = 8;
    let header = span.head::<SIZE>()?;
    let length = usize::from(u16::from_le_bytes(header.array::<LENGTH, 2>()));
    Ok((u32::from_le_bytes(header.array::<LINKTYPE, 4>()), span.skip(length.max(SIZE))?))
}

/// Parse LINKTYPE_PKTAP, Darwin's wrapper, written by little-endian hosts.
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

/// Parse LINKTYPE_NFLOG: attributes in the capturing host's byte order, which no field names. The order that leads to
/// a payload is right.
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
    /// Maximum number of attributes; the kernel writes fewer than twenty kinds, each once.
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

/// True for the frame control of LLC frames in FDDI and token ring.
fn is_llc(frame_control: u8) -> bool {
    frame_control & 0xc0 == 0x40
}

/// Parse LINKTYPE_FDDI.
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

/// Parse LINKTYPE_IEEE802_5, token ring: addresses are bit-reversed, and a source route may follow.
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

/// Parse LINKTYPE_SLIP: direction, kind, and the compressed header as received; then the packet.
fn slip(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const KIND: usize = 1;
    const SIZE: usize = 16;
    /// Kind of compressed TCP (RFC 1144), which has no IP header.
    const COMPRESSED: u8 = 0x80;
    if span.head::<SIZE>()?.byte::<KIND>() & COMPRESSED != 0 {
        return Err(Skip::NotIp);
    }
    Net::by_version(span.skip(SIZE)?)
}
