//! The inner packet of a tunnel.

use super::super::ip::Net;
use super::super::{Tunnel, TunnelKind};

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
}
