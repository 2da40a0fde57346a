//! The label of a packet.

use crate::flow::Side;
use crate::proto::{CtDir, CtState, State};

use super::gateway::{Outcome, REFUSED};

/// What a tracker says of one packet. Who initiated may still change; `side` is what stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The connection's number, or None: not tracked. An ICMP error that a gateway finds related carries the number of
    /// the connection it speaks of.
    pub connection: Option<u64>,
    /// The gateway's word.
    pub ctstate: CtState,
    /// The direction within the gateway's entry.
    pub ctdir: CtDir,
    /// The state of the gateway's entry after this packet.
    pub state: State,
    /// The side of the connection that sent it.
    pub side: Side,
}

impl Label {
    pub(super) fn new(connection: u64, (ctstate, ctdir, state): Outcome, side: Side) -> Self {
        Self { connection: Some(connection), ctstate, ctdir, state, side }
    }

    /// The gateway's policy let it open no entry.
    pub fn is_refused(&self) -> bool {
        (self.ctstate, self.ctdir, self.state) == REFUSED
    }

    /// The label of a record that is in no connection.
    pub const fn outside(ctstate: CtState) -> Self {
        Self { connection: None, ctstate, ctdir: CtDir::None, state: State::None, side: Side::A }
    }
}
