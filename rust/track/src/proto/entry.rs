//! The entry that a stateful gateway (Linux nf_conntrack) would hold for a connection.
//!
//! *Original* and *reply* are the gateway's terms for a packet's direction within its entry. The original direction is
//! that of the packet that made the entry. *Originator* and *responder* are the ends of the connection by evidence;
//! where the opening was not seen, original and originator can differ.

use serde::{Deserialize, Serialize};

use conntrack_base::checkpoint::MAX_COUNT;
use conntrack_decode::ipproto;

use crate::config::Timeout;
use crate::flow::Side;

use super::memory::{SctpTrack, TcpTrack};
use super::state::{CtDir, State, Status};

/// The state of a protocol for the next packet.
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
    /// The conntrack ORIGINAL side.
    pub orig: Side,
    /// The protocol's state.
    pub state: State,
    /// A reply was accepted.
    pub seen_reply: bool,
    /// The entry survives early drop.
    pub assured: bool,
    /// The running timeout.
    pub timeout: Timeout,
    /// Capture time of the packet that made the entry, nanoseconds.
    pub created: i64,
    /// Capture time at which the entry expires, nanoseconds; at that very moment the entry is already gone.
    pub deadline: i64,
    /// Datagrams and IP bytes that the gateway counts, by [`CtDir`]: those that renew the timeout.
    pub counted: [(u64, u64); 2],
    /// The protocol's memory.
    pub track: Track,
}

impl Gateway {
    /// Test for a state and a memory of this protocol, and counts with room for more; for state from outside.
    pub fn is_sound(&self, proto: u8) -> bool {
        let is_of_protocol = match &self.track {
            Track::Tcp(track) => proto == ipproto::TCP && self.state.is_tcp() && track.is_sound(),
            Track::Sctp(_) => proto == ipproto::SCTP && self.state.is_sctp(),
            Track::None => self.state == State::None,
        };
        let is_count = |count: u64| count <= MAX_COUNT;
        is_of_protocol && self.counted.iter().all(|(packets, bytes)| is_count(*packets) && is_count(*bytes))
    }

    /// The direction, within this entry, of a packet from `side`.
    pub fn dir(&self, side: Side) -> CtDir {
        if side == self.orig { CtDir::Original } else { CtDir::Reply }
    }

    /// The status bits.
    #[inline]
    pub fn status(&self) -> Status {
        Status { seen_reply: self.seen_reply, assured: self.assured }
    }

    /// The state to report; for stateless protocols, derived from the entry's status.
    pub fn reported_state(&self) -> State {
        self.state.reported(self.status())
    }
}
