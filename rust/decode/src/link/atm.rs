//! Frames in ATM adaptation layer 5, RFC 2684.

use crate::bytes::{Fields, Span};
use crate::ip::Net;
use crate::{Skip, ether, ppp};

/// Parse a frame whose circuit has LLC encapsulation or a single protocol; the first bytes tell which.
pub(super) fn multiplexed(span: Span<'_>) -> Result<Net<'_>, Skip> {
    /// Unnumbered information, in front of a network layer identifier in Cisco's encapsulation.
    const UNNUMBERED: u8 = 0x03;
    let unicast = |(kind, behind)| ether::typed(kind, behind, false);
    match *span.head::<3>()? {
        [0xaa, 0xaa, 0x03] | [0xfe, 0xfe, 0x03] => ether::llc(span, false),
        [0xfe, 0xfe, _] => Err(Skip::NotIp),
        // LLC encapsulated PPP (RFC 2364 section 6).
        [0xff, 0x03, _] | [0x00, 0x21 | 0x57, _] => ppp::frame(span).and_then(unicast),
        [UNNUMBERED, ..] => ppp::network_layer(span.skip(1)?).and_then(unicast),
        _ => Net::by_version(span),
    }
}

/// Parse LINKTYPE_SUNATM: kind of traffic, path and circuit.
pub(super) fn sun(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const KIND: usize = 0;
    const KIND_MASK: u8 = 0x0f;
    const SIZE: usize = 4;
    const LAN_EMULATION: u8 = 1;
    /// Signalling and management.
    const SIGNALLING: [u8; 4] = [3, 4, 5, 6];
    let behind = span.skip(SIZE)?;
    match span.head::<SIZE>()?.byte::<KIND>() & KIND_MASK {
        LAN_EMULATION => lan_emulation(behind),
        kind if SIGNALLING.contains(&kind) => Err(Skip::NotIp),
        _ => multiplexed(behind),
    }
}

/// Parse LAN emulation: a client identifier, then an Ethernet frame; control frames have no client.
pub(super) fn lan_emulation(span: Span<'_>) -> Result<Net<'_>, Skip> {
    const CLIENT: usize = 2;
    const CONTROL: u16 = 0xff00;
    if span.head::<CLIENT>()?.be16::<0>() == CONTROL {
        return Err(Skip::NotIp);
    }
    ether::frame(span.skip(CLIENT)?)
}
