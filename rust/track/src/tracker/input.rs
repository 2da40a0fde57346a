//! A packet on the slow path.

use conntrack_decode::Packet;

use super::label::Label;

/// Knowledge of a packet from other connections: the label of the connection that an error quotes, and the connection
/// of the carrying tunnel.
#[derive(Clone, Copy, Default)]
pub(super) struct Context {
    pub(super) related: Option<Label>,
    pub(super) carrier: Option<u64>,
}

/// A packet on the slow path, with the bytes of its record.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) packet: &'a Packet,
    pub(super) frame: &'a [u8],
    pub(super) ts: i64,
    pub(super) context: Context,
}
