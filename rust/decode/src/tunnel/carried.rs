//! A packet inside another one.

use super::super::ip::Net;
use super::super::{Tunnel, TunnelKind};

/// What a packet carries.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Carried<'a> {
    /// The way to the inner IP header.
    pub net: Net<'a>,
    /// What carries it.
    pub tunnel: Tunnel,
    /// The inner packet must not be longer than its carrier has room for. Not asked of fragments, whose carrier
    /// is not all here.
    pub must_fit: bool,
}

impl<'a> Carried<'a> {
    pub(super) fn new(kind: TunnelKind, net: Net<'a>) -> Self {
        Self { net, tunnel: Tunnel { kind, vni: 0 }, must_fit: false }
    }
}
