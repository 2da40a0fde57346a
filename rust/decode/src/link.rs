//! Link layers: from the first byte of a record to the IP header.

mod atm;
mod family;
mod juniper;
mod wrapped;

use family::{family, family_in_either_order};
use juniper::Content;
use wrapped::SwitchTag;

use super::bytes::{Fields, Span};
use super::ip::Net;
use super::{Family, Skip, ether, ethertype, ieee80211, ppp};
use conntrack_capture::LinkType;

/// All link types with a decoder, in numeric order.
pub const SUPPORTED: &[LinkType] = &[
    LinkType::NULL,
    LinkType::ETHERNET,
    LinkType::IEEE802_5,
    LinkType::ARCNET_BSD,
    LinkType::SLIP,
    LinkType::PPP,
    LinkType::FDDI,
    LinkType::PPP_HDLC,
    LinkType::PPP_ETHER,
    LinkType::SYMANTEC_FIREWALL,
    LinkType::ATM_RFC1483,
    LinkType::RAW,
    LinkType::C_HDLC,
    LinkType::IEEE802_11,
    LinkType::ATM_CLIP,
    LinkType::FRELAY,
    LinkType::LOOP,
    LinkType::ENC,
    LinkType::LANE8023,
    LinkType::LINUX_SLL,
    LinkType::PFLOG,
    LinkType::IEEE802_11_PRISM,
    LinkType::IP_OVER_FC,
    LinkType::SUNATM,
    LinkType::IEEE802_11_RADIOTAP,
    LinkType::ARCNET_LINUX,
    LinkType::JUNIPER_MLPPP,
    LinkType::JUNIPER_MLFR,
    LinkType::JUNIPER_GGSN,
    LinkType::JUNIPER_MFR,
    LinkType::JUNIPER_ATM2,
    LinkType::JUNIPER_ATM1,
    LinkType::APPLE_IP_OVER_IEEE1394,
    LinkType::IEEE802_11_AVS,
    LinkType::PPP_PPPD,
    LinkType::JUNIPER_PPPOE,
    LinkType::JUNIPER_PPPOE_ATM,
    LinkType::JUNIPER_ETHER,
    LinkType::JUNIPER_PPP,
    LinkType::JUNIPER_FRELAY,
    LinkType::JUNIPER_CHDLC,
    LinkType::MFR,
    LinkType::PPI,
    LinkType::ERF,
    LinkType::PPP_WITH_DIR,
    LinkType::C_HDLC_WITH_DIR,
    LinkType::FRELAY_WITH_DIR,
    LinkType::MPLS,
    LinkType::IPNET,
    LinkType::IPV4,
    LinkType::IPV6,
    LinkType::NFLOG,
    LinkType::NETANALYZER,
    LinkType::NETANALYZER_TRANSPARENT,
    LinkType::IPOIB,
    LinkType::PKTAP,
    LinkType::ETHERNET_MPACKET,
    LinkType::LINUX_SLL2,
    LinkType::DSA_TAG_BRCM,
    LinkType::DSA_TAG_BRCM_PREPEND,
    LinkType::DSA_TAG_DSA,
    LinkType::DSA_TAG_EDSA,
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
        LinkType::PPP | LinkType::PPP_HDLC => ppp::serial(span).and_then(unicast),
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
        other => open_rare(other, span),
    }
}

/// Parse a link layer of a capturing device, a switch, or a rarer network.
fn open_rare(linktype: LinkType, span: Span<'_>) -> Result<Net<'_>, Skip> {
    /// Sizes in bytes of headers in front of an Ethernet frame: of netANALYZER, of Broadcom, and the preamble.
    const NETANALYZER: usize = 4;
    const BROADCOM: usize = 4;
    const PREAMBLE: usize = 8;
    match linktype {
        LinkType::DSA_TAG_BRCM => wrapped::switched(SwitchTag::Broadcom, span),
        LinkType::DSA_TAG_BRCM_PREPEND => ether::frame(span.skip(BROADCOM)?),
        LinkType::DSA_TAG_DSA => wrapped::switched(SwitchTag::Marvell, span),
        LinkType::DSA_TAG_EDSA => wrapped::switched(SwitchTag::MarvellTyped, span),
        LinkType::ERF => wrapped::extensible_record(span),
        LinkType::NETANALYZER => ether::frame(span.skip(NETANALYZER)?),
        LinkType::NETANALYZER_TRANSPARENT => ether::frame(span.skip(NETANALYZER + PREAMBLE)?),
        LinkType::ETHERNET_MPACKET => ether::frame(span.skip(PREAMBLE)?),
        LinkType::IPOIB => wrapped::infiniband(span),
        LinkType::IPNET => wrapped::solaris(span),
        LinkType::ARCNET_BSD => wrapped::arcnet(false, span),
        LinkType::ARCNET_LINUX => wrapped::arcnet(true, span),
        LinkType::MFR => wrapped::multilink_frame_relay(span),
        LinkType::IP_OVER_FC => wrapped::fibre_channel(span),
        LinkType::APPLE_IP_OVER_IEEE1394 => wrapped::firewire(span),
        LinkType::SYMANTEC_FIREWALL => wrapped::symantec(span),
        LinkType::ATM_RFC1483 | LinkType::ATM_CLIP => atm::multiplexed(span),
        LinkType::SUNATM => atm::sun(span),
        LinkType::LANE8023 => atm::lan_emulation(span),
        other => juniper::frame(juniper_content(other)?, span),
    }
}

/// Frame behind the header of a Juniper link type.
fn juniper_content(linktype: LinkType) -> Result<Content, Skip> {
    match linktype {
        LinkType::JUNIPER_ETHER | LinkType::JUNIPER_PPPOE => Ok(Content::Ethernet),
        LinkType::JUNIPER_PPP => Ok(Content::Ppp),
        LinkType::JUNIPER_FRELAY => Ok(Content::FrameRelay),
        LinkType::JUNIPER_CHDLC => Ok(Content::CiscoHdlc),
        LinkType::JUNIPER_PPPOE_ATM => Ok(Content::Typed),
        LinkType::JUNIPER_MLPPP | LinkType::JUNIPER_MLFR | LinkType::JUNIPER_MFR => Ok(Content::Services),
        LinkType::JUNIPER_ATM1 | LinkType::JUNIPER_GGSN => Ok(Content::Multiplexed(4)),
        LinkType::JUNIPER_ATM2 => Ok(Content::Multiplexed(8)),
        _ => Err(Skip::LinkType),
    }
}

/// Parse the inner frame of PPI or PKTAP, which name its link type; neither wrapper nests.
fn open_wrapped(linktype: u32, span: Span<'_>) -> Result<Net<'_>, Skip> {
    open_frame(LinkType::from_header(linktype), span)
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
    pub const IEEE80211: u16 = 801;
    pub const IEEE80211_PRISM: u16 = 802;
    pub const IEEE80211_RADIOTAP: u16 = 803;
    pub const NETLINK: u16 = 824;
}

/// Parse the payload of a cooked header.
fn cooked_payload(device: u16, protocol: u16, to_group: bool, span: Span<'_>) -> Result<Net<'_>, Skip> {
    match device {
        device::IEEE80211 => ieee80211::frame(span, false),
        device::IEEE80211_PRISM => ieee80211::prism(span),
        device::IEEE80211_RADIOTAP => ieee80211::radiotap(span),
        device::FRAD | device::NETLINK => Err(Skip::NotIp),
        _ if protocol == ethertype::LINUX_LLC => ether::llc(span, to_group),
        _ if protocol == ethertype::LINUX_ALL => ether::frame(span),
        _ if protocol == ethertype::LINUX_PPP => {
            ppp::frame(span).and_then(|(kind, behind)| ether::typed(kind, behind, to_group))
        }
        // Other numbers below the EtherTypes are Linux-specific, none of them IP.
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
