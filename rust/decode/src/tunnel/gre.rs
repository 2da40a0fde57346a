//! GRE (RFC 2784, RFC 2890), the PPTP version (RFC 2637), and ERSPAN over GRE.

use super::super::bytes::{Fields, Span};
use super::super::ip::Net;
use super::super::{Family, TunnelKind};
use super::super::{ether, ethertype, ieee80211};
use super::inner::InnerPacket;

/// Size in bytes of flags and protocol, the common part of all GRE headers.
pub(in super::super) const SIZE: usize = 4;

/// The first sixteen bits of the header.
mod flag {
    pub const CHECKSUM: u16 = 0x8000;
    /// RFC 1701 source routes, removed in RFC 2784.
    pub const ROUTING: u16 = 0x4000;
    pub const KEY: u16 = 0x2000;
    pub const SEQUENCE: u16 = 0x1000;
    /// Acknowledgement number present, in version 1 only.
    pub const ACKNOWLEDGEMENT: u16 = 0x0080;
    pub const VERSION_MASK: u16 = 0x0007;
}

/// Protocol types other than EtherTypes of Ethernet frames.
mod protocol {
    /// ERSPAN types I and II.
    pub const ERSPAN: u16 = 0x88be;
    pub const ERSPAN_III: u16 = 0x22eb;
    /// Web cache redirection.
    pub const WCCP: u16 = 0x883e;
    /// MikroTik's Ethernet over IP, in version 1.
    pub const MIKROTIK: u16 = 0x6400;

    /// Aruba access points tunnel 802.11 frames to the controller under these protocol types, one per queue.
    pub fn is_aruba(protocol: u16) -> bool {
        matches!(protocol, 0x8200..=0x8370 | 0x9000) && protocol.trailing_zeros() >= 4
    }
}

/// GRE header.
pub(in super::super) struct Gre<'a> {
    /// Version: 0, or 1 for PPTP.
    pub version: u8,
    /// Call id, or the low half of the key.
    pub key: u16,
    /// Protocol type of the payload.
    pub protocol: u16,
    flags: u16,
    /// Payload; None where the capture ends before.
    payload: Option<Span<'a>>,
}

/// Parse a GRE header; None without captured flags and protocol.
pub(in super::super) fn header(span: Span<'_>) -> Option<Gre<'_>> {
    const FLAGS: usize = 0;
    const PROTOCOL: usize = 2;
    /// Size in bytes of each optional field: checksum and offset, key, sequence number, acknowledgement number.
    const FIELD: usize = 4;
    let first = span.head::<SIZE>().ok()?;
    let flags = first.be16::<FLAGS>();
    let version = flags & flag::VERSION_MASK;
    let mut size = SIZE;
    if version == 0 && flags & (flag::CHECKSUM | flag::ROUTING) != 0 {
        size += FIELD;
    }
    let mut key = 0;
    if flags & flag::KEY != 0 {
        key = span.at::<FIELD>(size).map_or(0, Fields::be16::<2>);
        size += FIELD;
    }
    if flags & flag::SEQUENCE != 0 {
        size += FIELD;
    }
    if version == 1 && flags & flag::ACKNOWLEDGEMENT != 0 {
        size += FIELD;
    }
    let protocol = first.be16::<PROTOCOL>();
    Some(Gre { version: version as u8, key, protocol, flags, payload: span.skip(size).ok() })
}

pub(super) fn inner(span: Span<'_>) -> Option<InnerPacket<'_>> {
    let gre = header(span)?;
    let payload = gre.payload?;
    match (gre.version, gre.protocol) {
        (0, _) if gre.flags & flag::ROUTING != 0 => None,
        (0, protocol::ERSPAN) if gre.flags & flag::SEQUENCE == 0 => erspan(ether::frame(payload).ok()?),
        (0, protocol::ERSPAN) => erspan_ii(payload),
        (0, protocol::ERSPAN_III) => erspan_iii(payload),
        (0, other) if protocol::is_aruba(other) => {
            Some(InnerPacket::new(TunnelKind::Gre, ieee80211::frame(payload, false).ok()?))
        }
        (0, protocol::WCCP) => redirected(payload),
        (0, other) => {
            // A number below the EtherTypes would parse as an LLC length.
            let net = (other > 1500).then(|| ether::typed(other, payload, false).ok())??;
            Some(InnerPacket::new(TunnelKind::Gre, net))
        }
        (1, ethertype::PPP) => {
            let net = ether::typed(ethertype::PPP, payload, false).ok()?;
            Some(InnerPacket::new(TunnelKind::Gre, net))
        }
        (1, protocol::MIKROTIK) => Some(InnerPacket::fitting(TunnelKind::Gre, ether::frame(payload).ok()?)),
        _ => None,
    }
}

/// Parse GRE in UDP (RFC 8086 section 3.2), whose header has no reserved bit set.
pub(super) fn over_udp(span: Span<'_>) -> Option<InnerPacket<'_>> {
    const POSSIBLE: u16 = flag::CHECKSUM | flag::KEY | flag::SEQUENCE;
    (header(span)?.flags & !POSSIBLE == 0).then(|| inner(span))?
}

/// Parse a packet for a web cache: version 2 of WCCP has a header of four bytes (Linux, `gre_parse_header`).
fn redirected(span: Span<'_>) -> Option<InnerPacket<'_>> {
    const SIZE: usize = 4;
    const VERSION_4: u8 = 4;
    let bare = span.head::<1>().ok()?.byte::<0>() >> 4 == VERSION_4;
    let packet = if bare { span } else { span.skip(SIZE).ok()? };
    Some(InnerPacket::fitting(TunnelKind::Gre, Net::plain(Family::V4, packet)))
}

#[expect(clippy::unnecessary_wraps, reason = "the last step of functions that return an Option")]
fn erspan(net: Net<'_>) -> Option<InnerPacket<'_>> {
    Some(InnerPacket::new(TunnelKind::Erspan, net))
}

/// Version in the four bits at the front of ERSPAN II and III headers.
fn erspan_version(header: u8) -> u8 {
    header >> 4
}

/// Parse ERSPAN type II: eight bytes, then the mirrored frame (draft-foschiano-erspan-03 section 4.2).
fn erspan_ii(span: Span<'_>) -> Option<InnerPacket<'_>> {
    const SIZE: usize = 8;
    const VERSION: u8 = 1;
    let first = span.head::<SIZE>().ok()?.byte::<0>();
    if erspan_version(first) != VERSION {
        return None;
    }
    erspan(ether::frame(span.skip(SIZE).ok()?).ok()?)
}

/// Parse ERSPAN type III: twelve bytes, eight more with the O bit, then a frame or a bare IP packet (section 4.3).
fn erspan_iii(span: Span<'_>) -> Option<InnerPacket<'_>> {
    const SIZE: usize = 12;
    const SUBHEADER: usize = 8;
    const VERSION: u8 = 2;
    const FRAME_TYPE: usize = 10;
    const FRAME_TYPE_MASK: u8 = 0x7c;
    const FRAME_TYPE_IP: u8 = 2 << 2;
    const OPTIONS: usize = 11;
    const HAS_SUBHEADER: u8 = 1;
    let header = span.head::<SIZE>().ok()?;
    if erspan_version(header.byte::<0>()) != VERSION {
        return None;
    }
    let more = if header.byte::<OPTIONS>() & HAS_SUBHEADER != 0 { SUBHEADER } else { 0 };
    let payload = span.skip(SIZE + more).ok()?;
    match header.byte::<FRAME_TYPE>() & FRAME_TYPE_MASK {
        0 => erspan(ether::frame(payload).ok()?),
        FRAME_TYPE_IP => erspan(Net::by_version(payload).ok()?),
        _ => None,
    }
}
