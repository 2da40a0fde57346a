//! Connections evicted, and the live ICMP errors, which a bounded table limits.

use std::collections::VecDeque;

use crate::table::{FinalConnection, SlotId};

/// Connections of one-way ICMP messages (errors) in a bounded table.
pub const MOST_ERRORS: usize = 65_536;
/// Connections evicted, by the bound that was hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evictions {
    /// The number of connections.
    pub connections: u64,
    /// The memory of connections.
    pub memory: u64,
    /// The number of ICMP errors.
    pub errors: u64,
}

impl Evictions {
    /// All evictions.
    pub fn sum(&self) -> u64 {
        self.connections + self.memory + self.errors
    }

    /// Add the evictions of another part.
    pub fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.memory += other.memory;
        self.errors += other.errors;
    }
}

/// One-way ICMP messages with a connection, the oldest first. Some have ended.
#[derive(Debug, Default)]
pub(super) struct Errors {
    pub(super) begun: VecDeque<(SlotId, u64)>,
    pub(super) live: usize,
}

impl Errors {
    /// Note the end of a connection, which may be that of an error.
    #[inline]
    pub(super) fn note_end(&mut self, last: &FinalConnection) {
        if self.live > 0
            && let FinalConnection::Whole(connection) = last
            && connection.key.is_one_way()
        {
            self.live -= 1;
        }
    }
}
