//! The lists of halves and of replies; [`super::tags`] has their rules.

use super::index::Index;
use super::width::Table;

/// The lists of connections whose tags may differ by direction.
#[derive(Default)]
pub(super) struct Tagged {
    /// Packets may join connections with other tags.
    pub(super) joins: bool,
    pub(super) halves: Option<Box<Halves>>,
    /// By a key in its wide form; the record has the connection's slot and number.
    pub(super) replies: Table<6>,
    /// Connections with no later deadline are over for every packet.
    pub(super) over_until: i64,
    /// Connections with tags that no packet may join, for lack of room.
    pub(super) crowded: u64,
}

/// Slots of the connections with tags.
#[derive(Default)]
pub(super) struct Halves {
    pub(super) narrow: Index,
    pub(super) wide: Index,
    /// The most entries of both at any time: an index does not shrink.
    pub(super) most: [usize; 2],
}

impl Tagged {
    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes_with(self.replies.slots.capacity(), [0; 2])
    }

    /// Bytes with so many replies, and indices for at least so many halves.
    pub(super) fn bytes_with(&self, replies: usize, least: [usize; 2]) -> usize {
        let most = self.halves.as_ref().map_or([0; 2], |halves| halves.most);
        let halves = [0, 1].map(|at| Index::most_bytes(most[at].max(least[at])));
        Table::<6>::bytes(replies) + halves[0] + halves[1]
    }
}
