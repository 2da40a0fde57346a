//! The inner packet of a tunnel.

use super::super::ip::{self, Net};
use super::super::{Family, Skip, Tunnel, TunnelKind};

/// Kind, network identifier and inner packet of a tunnel.
pub(super) type Decapsulation<'a> = Result<(TunnelKind, u32, Net<'a>), Skip>;

/// Inner packet of a tunnel, undecoded.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct InnerPacket<'a> {
    /// Inner IP header and the layers around the header.
    pub net: Net<'a>,
    /// Tunnel around the inner packet.
    pub tunnel: Tunnel,
    /// True if the inner packet must not be longer than the carrier's payload. False for fragments, whose payload is
    /// incomplete.
    pub must_fit: bool,
}

impl<'a> InnerPacket<'a> {
    pub(super) fn new(kind: TunnelKind, net: Net<'a>) -> Self {
        Self { net, tunnel: Tunnel { kind, vni: 0 }, must_fit: false }
    }

    /// The same for a tunnel whose inner packet must fit.
    pub(super) fn fitting(kind: TunnelKind, net: Net<'a>) -> Self {
        Self { must_fit: true, ..Self::new(kind, net) }
    }
}

/// True if a valid IP packet begins there, and is not longer than what is there.
pub(super) fn fits(net: &Net<'_>) -> bool {
    ip::read(net, false).is_ok_and(|ip| ip.length as usize <= net.span.wire())
}

/// True if a valid IP packet begins there that fills the datagram, or has an IPv4 header with the right checksum. For
/// tunnels whose own header refutes little: other protocols use their ports, too.
pub(super) fn fills(net: &Net<'_>) -> bool {
    ip::read(net, true).is_ok_and(|ip| {
        let (length, room) = (ip.length as usize, net.span.wire());
        length == room || (length < room && net.family == Family::V4 && !ip.bad_checksum)
    })
}

/// The 24-bit VNI, in the common position of VXLAN, GENEVE and LISP.
pub(super) fn network_identifier([high, middle, low, _]: [u8; 4]) -> u32 {
    u32::from_be_bytes([0, high, middle, low])
}
