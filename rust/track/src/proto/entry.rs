//! The entry that a stateful gateway (Linux nf_conntrack) would hold for a connection.
//!
//! *Original* and *reply* are the gateway's words for a packet's direction within its entry: the sender of the packet
//! that made the entry is the original direction. *Originator* and *responder* are ours, for who initiated; where the
//! start was not seen they can differ.

use serde::{Deserialize, Serialize};

use crate::config::Timeout;
use crate::flow::Side;

use super::memory::{SctpTrack, TcpTrack};
use super::state::{CtDir, State};

/// What a protocol keeps to judge the next packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Track {
    /// Nothing beyond the entry's status.
    #[default]
    None,
    /// TCP's windows and last segment.
    Tcp(TcpTrack),
    /// SCTP's verification tags.
    Sctp(SctpTrack),
}

/// The entry.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gateway {
    /// Who sent the packet that made the entry.
    pub orig: Side,
    /// The protocol's state.
    pub state: State,
    /// A reply was accepted.
    pub seen_reply: bool,
    /// It survives a full table.
    pub assured: bool,
    /// Which timeout runs.
    pub timeout: Timeout,
    /// Capture time of the packet that made it, in nanoseconds.
    pub created: i64,
    /// Capture time at which it expires (it is gone at that very moment), in nanoseconds.
    pub deadline: i64,
    /// Datagrams and their IP bytes that the gateway counts, by [`CtDir`]: those that renew the timeout.
    pub counted: [(u64, u64); 2],
    /// The protocol's memory.
    pub track: Track,
}

impl Gateway {
    /// The direction, within this entry, of a packet from `side`.
    pub fn dir(&self, side: Side) -> CtDir {
        if side == self.orig { CtDir::Original } else { CtDir::Reply }
    }

    /// The state to report: for protocols without states of their own, what was seen.
    pub fn reported_state(&self) -> State {
        self.state.reported((self.seen_reply, self.assured))
    }
}
