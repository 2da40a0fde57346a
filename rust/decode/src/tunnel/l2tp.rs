//! L2TP: version 2 (RFC 2661) over UDP, version 3 (RFC 3931) over UDP and IP.
//!
//! A version 3 packet names neither the size of its cookie (section 4.1) nor its pseudowire: the ends agreed on both.
//! The first offset at which an Ethernet or PPP frame has an IP packet that fits is taken.

use super::inner::{InnerPacket, fits};
use crate::bytes::{Fields, Span};
use crate::ip::Net;
use crate::{Skip, TunnelKind, ether, ppp};

/// Flags and version, the first sixteen bits over UDP.
mod flag {
    pub const CONTROL: u16 = 0x8000;
    pub const LENGTH: u16 = 0x4000;
    pub const SEQUENCE: u16 = 0x0800;
    pub const OFFSET: u16 = 0x0200;
    pub const VERSION_MASK: u16 = 0x000f;
}

/// Parse a datagram.
pub(super) fn over_udp(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const RESERVED: usize = 4;
    let flags = u16::from_be_bytes(*span.head::<2>()?);
    match flags & flag::VERSION_MASK {
        _ if flags & flag::CONTROL != 0 => Err(Skip::NotIp),
        2 => version_2(flags, span.skip(2)?),
        3 => session(span.skip(RESERVED)?),
        _ => Err(Skip::NotIp),
    }
}

/// Parse the payload of IP protocol 115.
pub(super) fn over_ip(span: Span<'_>) -> Option<InnerPacket<'_>> {
    Some(InnerPacket::fitting(TunnelKind::L2tp, session(span).ok()?))
}

/// Parse a data message of version 2 behind flags and version.
fn version_2(flags: u16, span: Span<'_>) -> Result<Net<'_>, Skip> {
    const TUNNEL_AND_SESSION: usize = 4;
    const SEQUENCE: usize = 4;
    let mut at = TUNNEL_AND_SESSION;
    if flags & flag::LENGTH != 0 {
        at += 2;
    }
    if flags & flag::SEQUENCE != 0 {
        at += SEQUENCE;
    }
    if flags & flag::OFFSET != 0 {
        at += 2 + usize::from(u16::from_be_bytes(*span.at(at)?));
    }
    framed(span.skip(at)?)
}

/// Parse a PPP frame.
fn framed(span: Span<'_>) -> Result<Net<'_>, Skip> {
    ppp::frame(span).and_then(|(kind, behind)| ether::typed(kind, behind, false))
}

/// Parse a data message of version 3 from its session id on.
fn session(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const ID: usize = 4;
    /// Sizes in bytes of cookie and sublayer together.
    const COOKIE_AND_SUBLAYER: [usize; 4] = [0, 4, 8, 12];
    /// Session of control messages over IP.
    const CONTROL: u32 = 0;
    if span.head::<ID>()?.be32::<0>() == CONTROL {
        return Err(Skip::NotIp);
    }
    let behind = span.skip(ID)?;
    COOKIE_AND_SUBLAYER
        .into_iter()
        .filter_map(|size| behind.skip(size).ok())
        .flat_map(|frame| [ether::frame(frame), framed(frame)])
        .flatten()
        .find(fits)
        .ok_or(Skip::NotIp)
}
