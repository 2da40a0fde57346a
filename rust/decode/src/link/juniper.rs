//! Juniper's link types: a header of their own, a cookie of the interface card, then the frame.
//!
//! No document describes them; the layouts are those of tcpdump (`print-juniper.c`) and Wireshark
//! (`packet-juniper.c`).

use super::atm;
use crate::bytes::{Fields, Span};
use crate::ip::Net;
use crate::{Family, Skip, ether, ethertype, ppp};

/// Frame behind the header.
#[derive(Clone, Copy)]
pub(super) enum Content {
    Ethernet,
    Ppp,
    FrameRelay,
    CiscoHdlc,
    /// An EtherType and its payload.
    Typed,
    /// A cookie of this many bytes, then a frame whose first bytes tell its kind.
    Multiplexed(usize),
    /// A cookie whose first byte tells its size, then the same.
    Services,
}

/// Parse a record.
pub(super) fn frame(content: Content, span: Span<'_>) -> Result<Net<'_>, Skip> {
    const FLAGS: usize = 3;
    const SIZE: usize = 4;
    const MAGIC: [u8; 3] = *b"MGC";
    const NO_LINK_LAYER: u8 = 0x02;
    const HAS_EXTENSIONS: u8 = 0x80;
    /// Size in bytes of the protocol of a frame without a link layer.
    const PROTOCOL: usize = 4;
    let header = span.head::<SIZE>()?;
    if header.array::<0, 3>() != MAGIC {
        return Err(Skip::NotIp);
    }
    let flags = header.byte::<FLAGS>();
    let mut behind = span.skip(SIZE)?;
    if flags & HAS_EXTENSIONS != 0 {
        let length = usize::from(u16::from_be_bytes(*behind.head::<2>()?));
        behind = behind.skip(2 + length)?;
    }
    if flags & NO_LINK_LAYER != 0 {
        return Net::by_version(behind.skip(PROTOCOL)?);
    }
    let unicast = |(kind, behind)| ether::typed(kind, behind, false);
    match content {
        Content::Ethernet => ether::frame(behind),
        Content::Ppp => ppp::frame(behind).and_then(unicast),
        Content::FrameRelay => ppp::frame_relay(behind).and_then(unicast),
        Content::CiscoHdlc => ppp::cisco_hdlc(behind).and_then(unicast),
        Content::Typed => ether::typed(u16::from_be_bytes(*behind.head::<2>()?), behind.skip(2)?, false),
        Content::Multiplexed(cookie) => atm::multiplexed(behind.skip(cookie)?),
        Content::Services => services(behind),
    }
}

/// Parse a frame of a bundle (MLPPP, MLFR, MFR), behind the cookie of the card that has the bundle, or of a child link.
fn services(span: Span<'_>) -> Result<Net<'_>, Skip> {
    /// Adaptive services cards: eight bytes, with the protocol in the upper half of the sixth.
    const ADAPTIVE: [u8; 2] = [0x40, 0x47];
    const PROTOCOL: usize = 5;
    const SIZE: usize = 8;
    /// Link services cards.
    const LINK: u8 = 0x54;
    const LINK_SIZE: usize = 4;
    /// Cookie of multilink cards, which no byte announces.
    const MULTILINK_SIZE: usize = 2;
    let first = span.head::<1>()?.byte::<0>();
    if ADAPTIVE.contains(&first) {
        let behind = span.skip(SIZE)?;
        return match span.head::<SIZE>()?.byte::<PROTOCOL>() >> 4 {
            1 => Ok(Net::plain(Family::V6, behind)),
            2 => ether::typed(ethertype::MPLS, behind, false),
            _ => atm::multiplexed(behind),
        };
    }
    if first == LINK {
        return atm::multiplexed(span.skip(LINK_SIZE)?);
    }
    atm::multiplexed(span).or_else(|_| atm::multiplexed(span.skip(MULTILINK_SIZE)?))
}
