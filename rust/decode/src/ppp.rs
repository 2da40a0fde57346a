//! PPP (RFC 1661), its framings, and Cisco HDLC, a sibling on serial lines.

use super::bytes::{Fields, Span};
use super::{Skip, ethertype};

/// Address and control of PPP in HDLC-like framing (RFC 1662 section 3.1).
const ADDRESS_CONTROL: [u8; 2] = [0xff, 0x03];

/// EtherType of a PPP protocol number.
fn ethertype_of(protocol: u16) -> Result<u16, Skip> {
    match protocol {
        0x0021 => Ok(ethertype::IPV4),
        0x0057 => Ok(ethertype::IPV6),
        0x0281 => Ok(ethertype::MPLS),
        0x0283 => Ok(ethertype::MPLS_UPSTREAM),
        _ => Err(Skip::NotIp),
    }
}

/// Parse a PPP frame. Returns the EtherType and the payload.
pub(super) fn frame(span: Span<'_>) -> Result<(u16, Span<'_>), Skip> {
    let (protocol, behind) = protocol(span)?;
    Ok((ethertype_of(protocol)?, behind))
}

/// Protocol number and payload of a PPP frame, with or without address and control, and with or without protocol field
/// compression (RFC 1661 section 6.5).
pub(super) fn protocol(span: Span<'_>) -> Result<(u16, Span<'_>), Skip> {
    let span = match *span.head::<2>()? {
        ADDRESS_CONTROL => span.skip(ADDRESS_CONTROL.len())?,
        _ => span,
    };
    // The last byte of a protocol number is odd, earlier bytes are even.
    let first = span.head::<1>()?.byte::<0>();
    if first & 1 == 1 {
        return Ok((u16::from(first), span.skip(1)?));
    }
    Ok((span.head::<2>()?.be16::<0>(), span.skip(2)?))
}

/// Parse a PPPoE session packet (RFC 2516 section 4), behind the Ethernet header.
pub(super) fn session(span: Span<'_>) -> Result<(u16, Span<'_>), Skip> {
    const CODE: usize = 1;
    const SIZE: usize = 6;
    const SESSION_DATA: u8 = 0;
    if span.head::<SIZE>()?.byte::<CODE>() != SESSION_DATA {
        return Err(Skip::NotIp);
    }
    frame(span.skip(SIZE)?)
}

/// Parse LINKTYPE_PPP_WITH_DIR and LINKTYPE_PPP_PPPD: a direction byte first, which pppd writes in place of the
/// address.
pub(super) fn with_direction(span: Span<'_>) -> Result<(u16, Span<'_>), Skip> {
    const CONTROL: u8 = 0x03;
    let behind = span.skip(1)?;
    match behind.head::<1>()?.byte::<0>() {
        CONTROL => frame(behind.skip(1)?),
        _ => frame(behind),
    }
}

/// Parse Cisco HDLC: address, control, EtherType.
pub(super) fn cisco_hdlc(span: Span<'_>) -> Result<(u16, Span<'_>), Skip> {
    const ETHERTYPE: usize = 2;
    Ok((span.head::<4>()?.be16::<ETHERTYPE>(), span.skip(4)?))
}

/// Parse LINKTYPE_PPP and LINKTYPE_PPP_HDLC: PPP in HDLC-like framing or Cisco HDLC, by the address byte.
pub(super) fn serial(span: Span<'_>) -> Result<(u16, Span<'_>), Skip> {
    if is_cisco(span) { cisco_hdlc(span) } else { frame(span) }
}

/// True for the unicast and multicast address of Cisco HDLC.
pub(super) fn is_cisco(span: Span<'_>) -> bool {
    span.head::<1>().is_ok_and(|first| matches!(first, [0x0f | 0x8f]))
}

/// Parse Frame Relay: RFC 2427 encapsulation, or Cisco's with an EtherType.
pub(super) fn frame_relay(span: Span<'_>) -> Result<(u16, Span<'_>), Skip> {
    const LAST_ADDRESS_BYTE: u8 = 1;
    const UNNUMBERED: u8 = 0x03;
    const PAD: u8 = 0;
    // Q.922 addresses have two to four bytes; the lowest bit marks the last byte.
    let address = span.head::<4>()?.iter().position(|byte| byte & LAST_ADDRESS_BYTE != 0).ok_or(Skip::NotIp)?;
    let behind = span.skip(address + 1)?;
    if behind.head::<1>()?.byte::<0>() != UNNUMBERED {
        return Ok((behind.head::<2>()?.be16::<0>(), behind.skip(2)?));
    }
    let mut behind = behind.skip(1)?;
    if behind.head::<1>()?.byte::<0>() == PAD {
        behind = behind.skip(1)?;
    }
    network_layer(behind)
}

/// Parse a network layer protocol identifier (ISO/IEC TR 9577; RFC 2427 section 3) and its payload.
pub(super) fn network_layer(span: Span<'_>) -> Result<(u16, Span<'_>), Skip> {
    const SNAP: u8 = 0x80;
    const IPV6: u8 = 0x8e;
    const IPV4: u8 = 0xcc;
    let network = span.head::<1>()?.byte::<0>();
    let behind = span.skip(1)?;
    match network {
        IPV4 => Ok((ethertype::IPV4, behind)),
        IPV6 => Ok((ethertype::IPV6, behind)),
        SNAP => {
            const ETHERTYPE: usize = 3;
            Ok((behind.head::<5>()?.be16::<ETHERTYPE>(), behind.skip(5)?))
        }
        _ => Err(Skip::NotIp),
    }
}
