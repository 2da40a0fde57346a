//! The label of a packet.

use crate::flow::Side;
use crate::proto::{CtDir, CtState, State};

use super::gateway::{Outcome, REFUSED};

/// A tracker's label of one packet. The originator may still change; `side` is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// The connection's number; None: not tracked. An ICMP error that a gateway finds related carries the number of the
    /// quoted connection.
    pub connection: Option<u64>,
    /// The gateway's `ctstate`.
    pub ctstate: CtState,
    /// The direction within the gateway's entry.
    pub ctdir: CtDir,
    /// The state of the gateway's entry after this packet.
    pub state: State,
    /// The sender's side of the connection.
    pub side: Side,
}

impl Label {
    pub(super) fn new(connection: u64, (ctstate, ctdir, state): Outcome, side: Side) -> Self {
        Self { connection: Some(connection), ctstate, ctdir, state, side }
    }

    /// Test for a packet that the gateway's policy refused an entry.
    pub fn is_refused(&self) -> bool {
        (self.ctstate, self.ctdir, self.state) == REFUSED
    }

    /// The label of a record without a connection.
    pub const fn outside(ctstate: CtState) -> Self {
        Self { connection: None, ctstate, ctdir: CtDir::None, state: State::None, side: Side::A }
    }
}
