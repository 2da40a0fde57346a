//! Link types with a header of the capturing device or of a switch around a frame, and rarer networks.
//!
//! The layouts are those of <https://www.tcpdump.org/linktypes.html> and, where that page names none, of tcpdump.

use super::atm;
use super::family::family;
use crate::bytes::{Fields, Span};
use crate::ip::Net;
use crate::{Skip, ether, ethertype, ppp};

/// Destination and source address of an Ethernet header.
const STATIONS: usize = 12;

/// Tag of a switch in front of the EtherType.
#[derive(Clone, Copy)]
pub(super) enum SwitchTag {
    /// Four bytes.
    Broadcom,
    /// Four bytes in place of an 802.1Q tag, which they may contain.
    Marvell,
    /// An EtherType and two reserved bytes, then the same.
    MarvellTyped,
}

/// Parse LINKTYPE_DSA_TAG_BRCM, _DSA and _EDSA.
pub(super) fn switched(tag: SwitchTag, span: Span<'_>) -> Result<Net<'_>, Skip> {
    const SIZE: usize = 4;
    /// True for a frame with a VLAN tag, in the first byte.
    const TAGGED: u8 = 0x20;
    const CONTROL: usize = 2;
    let to_group = span.head::<STATIONS>()?.byte::<0>() & ether::GROUP_BIT != 0;
    let before = match tag {
        SwitchTag::MarvellTyped => STATIONS + 4,
        SwitchTag::Broadcom | SwitchTag::Marvell => STATIONS,
    };
    let header = span.at::<SIZE>(before)?;
    let behind = span.skip(before + SIZE)?;
    match tag {
        // The last two bytes are those of an 802.1Q tag, whose EtherType the switch has replaced.
        SwitchTag::Marvell | SwitchTag::MarvellTyped if header.byte::<0>() & TAGGED != 0 => {
            ether::typed(ethertype::CUSTOMER_VLAN, span.skip(before + CONTROL)?, to_group)
        }
        _ => ether::typed(u16::from_be_bytes(*behind.head::<2>()?), behind.skip(2)?, to_group),
    }
}

/// Parse LINKTYPE_ERF, Endace's extensible record format: a header, extension headers, then a frame by the type.
pub(super) fn extensible_record(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const TYPE: usize = 8;
    const SIZE: usize = 16;
    const HAS_EXTENSIONS: u8 = 0x80;
    const EXTENSION: usize = 8;
    /// Maximum number of extension headers.
    const MOST_EXTENSIONS: usize = 16;
    /// Size in bytes of the pad in front of an Ethernet frame, and of an ATM or multichannel header.
    const PAD: usize = 2;
    const CHANNEL: usize = 4;
    let kind = span.head::<SIZE>()?.byte::<TYPE>();
    let mut behind = span.skip(SIZE)?;
    let mut more = kind & HAS_EXTENSIONS != 0;
    for _ in 0..MOST_EXTENSIONS {
        if !more {
            break;
        }
        more = behind.head::<EXTENSION>()?.byte::<0>() & HAS_EXTENSIONS != 0;
        behind = behind.skip(EXTENSION)?;
    }
    if more {
        return Err(Skip::TooDeep);
    }
    let unicast = |(kind, behind)| ether::typed(kind, behind, false);
    match kind & !HAS_EXTENSIONS {
        1 | 10 | 15 | 19 => ppp::serial(behind).and_then(unicast),
        5 | 17 => ppp::serial(behind.skip(CHANNEL)?).and_then(unicast),
        2 | 11 | 16 | 20 => ether::frame(behind.skip(PAD)?),
        4 | 9 | 18 => atm::multiplexed(behind.skip(CHANNEL)?),
        22 | 23 => Net::by_version(behind),
        _ => Err(Skip::NotIp),
    }
}

/// Parse LINKTYPE_IPOIB: a global routing header and the encapsulation of RFC 4391 section 6, or the latter alone.
pub(super) fn infiniband(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const ROUTING: usize = 40;
    const SIZE: usize = 4;
    let bare = matches!(*span.head::<SIZE>()?, [0x08, 0x00, 0, 0] | [0x86, 0xdd, 0, 0]);
    let span = if bare { span } else { span.skip(ROUTING)? };
    ether::typed(span.head::<SIZE>()?.be16::<0>(), span.skip(SIZE)?, false)
}

/// Parse LINKTYPE_IPNET of Solaris: version and address family, then zones and interfaces.
pub(super) fn solaris(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const FAMILY: usize = 1;
    const SIZE: usize = 24;
    const INET6: u8 = 26;
    let number = match span.head::<SIZE>()?.byte::<FAMILY>() {
        INET6 => 10,
        other => u32::from(other),
    };
    Ok(Net::plain(family(number)?, span.skip(SIZE)?))
}

/// Parse LINKTYPE_ARCNET_BSD (RFC 1201) and LINKTYPE_ARCNET_LINUX, which has two bytes more in front of the type.
pub(super) fn arcnet(is_linux: bool, span: Span<'_>) -> Result<Net<'_>, Skip> {
    const IPV4_OLD: u8 = 0xf0;
    const IPV4: u8 = 0xd4;
    const IPV6: u8 = 0xc4;
    /// Split flag of an exception packet, whose header follows.
    const EXCEPTION: u8 = 0xff;
    /// Destination is broadcast 0.
    const DESTINATION: usize = 1;
    let before = if is_linux { 4 } else { 2 };
    let to_group = span.head::<2>()?.byte::<DESTINATION>() == 0;
    let kind = match span.at::<1>(before)?.byte::<0>() {
        IPV4_OLD => return ether::typed(ethertype::IPV4, span.skip(before + 1)?, to_group),
        IPV4 => ethertype::IPV4,
        IPV6 => ethertype::IPV6,
        _ => return Err(Skip::NotIp),
    };
    // Type, split flag and sequence number.
    match span.at::<1>(before + 1)?.byte::<0>() {
        EXCEPTION => ether::typed(kind, span.skip(before + 8)?, to_group),
        // Later fragments have an even flag.
        flag if flag != 0 && flag & 1 == 0 => Err(Skip::NotIp),
        _ => ether::typed(kind, span.skip(before + 4)?, to_group),
    }
}

/// Parse LINKTYPE_MFR, multilink frame relay (FRF.16): bits of fragments, and a sequence number.
pub(super) fn multilink_frame_relay(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const BEGINS: u8 = 0x80;
    const IS_CONTROL: u8 = 0x20;
    const SIZE: usize = 2;
    let first = span.head::<SIZE>()?.byte::<0>();
    if first & BEGINS == 0 || first & IS_CONTROL != 0 {
        return Err(Skip::NotIp);
    }
    ppp::frame_relay(span.skip(SIZE)?).and_then(|(kind, behind)| ether::typed(kind, behind, false))
}

/// Parse LINKTYPE_IP_OVER_FC (RFC 2625): two addresses of eight bytes, then LLC.
pub(super) fn fibre_channel(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const SIZE: usize = 16;
    ether::llc(span.skip(SIZE)?, false)
}

/// Parse LINKTYPE_APPLE_IP_OVER_IEEE1394: two addresses of eight bytes, then an EtherType.
pub(super) fn firewire(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const ETHERTYPE: usize = 16;
    const SIZE: usize = 18;
    let header = span.head::<SIZE>()?;
    let to_group = header.array::<0, 8>() == [0xff; 8];
    ether::typed(header.be16::<ETHERTYPE>(), span.skip(SIZE)?, to_group)
}

/// Parse LINKTYPE_SYMANTEC_FIREWALL: an EtherType within 44 bytes.
pub(super) fn symantec(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const ETHERTYPE: usize = 6;
    const SIZE: usize = 44;
    ether::typed(span.head::<SIZE>()?.be16::<ETHERTYPE>(), span.skip(SIZE)?, false)
}
