//! Roles of endpoints and hosts, as counts that add up over parts of a capture.

use conntrack_decode::{Addr, ipproto};
use conntrack_output::rows::Row;
use conntrack_track::connection::Evidence;

/// Connections from which a host that only initiates has a role.
const ENOUGH: u32 = 3;

/// Roles of an endpoint over all rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EndpointRoles {
    /// Accepted connections.
    pub(super) accepted: u32,
    /// True if the endpoint ever initiated.
    pub(super) initiates: bool,
    /// Peers with which data was exchanged, a bit of a hash each.
    pub(super) peers: u64,
}

/// Connections of a host by role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) initiated: u32,
    pub(super) answered: u32,
}

impl EndpointRoles {
    /// Counts a service of which the endpoint is this end; `accepted`: by the responder.
    pub(super) fn serve(&mut self, end: usize, accepted: bool) {
        self.initiates |= end == 0;
        self.accepted = self.accepted.saturating_add(u32::from(end == 1 && accepted));
    }

    /// Adds the roles in other rows.
    pub(super) fn add(&mut self, other: Self) {
        self.accepted = self.accepted.saturating_add(other.accepted);
        self.initiates |= other.initiates;
        self.peers |= other.peers;
    }
}

impl Host {
    /// True for a host that only initiates, often enough for a role.
    pub(super) fn only_asks(self) -> bool {
        self.initiated >= ENOUGH && self.answered == 0
    }

    /// As of an endpoint.
    pub(super) fn serve(&mut self, end: usize, accepted: bool) {
        self.initiated = self.initiated.saturating_add(u32::from(end == 0));
        self.answered = self.answered.saturating_add(u32::from(end == 1 && accepted));
    }

    /// Adds the connections in other rows.
    pub(super) fn add(&mut self, other: Self) {
        self.initiated = self.initiated.saturating_add(other.initiated);
        self.answered = self.answered.saturating_add(other.answered);
    }
}

/// The bit of a peer, of a hash that is equal in every run.
pub(super) fn peer_bit((addr, port): (Addr, u16)) -> u64 {
    let mixed =
        (addr.0 as u64 ^ (addr.0 >> 64) as u64 ^ u64::from(port).rotate_left(40)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    1 << (mixed >> 58)
}

/// True for a request of a service: neither an echo nor an error.
pub(super) fn is_service(row: Row<'_>) -> bool {
    matches!(row.proto(), ipproto::TCP | ipproto::UDP | ipproto::SCTP) && row.evidence() > Evidence::Related
}
