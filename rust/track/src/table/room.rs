//! Capacity of a table, and early drop.

use crate::config::Bounds;
use crate::conn::{Flags, Image};
use crate::connection::Connection;

use super::wheel::Wheel;
use super::{FlowTable, SlotId};

impl FlowTable {
    /// Test whether a connection with this key may be added.
    #[inline]
    pub fn may_insert(&self, is_broad: bool) -> bool {
        self.bounds == Bounds::default() || self.has_room(is_broad)
    }

    fn has_room(&self, is_broad: bool) -> bool {
        let (mut narrow, mut broad) = (self.narrow.slots.capacity(), self.broad.slots.capacity());
        if is_broad {
            broad = self.broad.slots.next_capacity();
        } else {
            narrow = self.narrow.slots.next_capacity();
        }
        let bytes = self.bytes_with(narrow, broad) + Wheel::MARK_BYTES;
        self.len() < self.bounds.connections && bytes <= self.bounds.bytes
    }

    /// The next connection in slot order that is not assured, to make room for one with such a key. As the kernel's
    /// early drop, the search visits a few slots and gives up; a visited one comes last in the next round.
    pub fn victim(&mut self, is_broad: bool) -> Option<SlotId> {
        let Self { colds, narrow, broad, bounds, .. } = self;
        let is_assured = |image: &Image| match image.flags().kind() {
            Flags::COLD => colds.get(image.cold).is_some_and(Connection::is_assured),
            _ => image.is_assured(),
        };
        // Where memory is short, only a slot of the same width helps.
        let any = narrow.index.len() + broad.index.len() >= bounds.connections;
        let found = if !is_broad || any { narrow.victim(is_assured) } else { None };
        match found {
            None if is_broad || any => broad.victim(is_assured).map(SlotId::Broad),
            found => found.map(SlotId::Narrow),
        }
    }

    /// Bytes of memory that the live connections take.
    pub fn bytes(&self) -> usize {
        self.bytes_with(self.narrow.slots.capacity(), self.broad.slots.capacity())
    }

    /// Bytes of memory with this many slots of each width.
    fn bytes_with(&self, narrow: usize, broad: usize) -> usize {
        let shown = if self.has_readers { self.colds.bytes() } else { 0 };
        self.narrow.bytes(narrow) + self.broad.bytes(broad) + self.colds.bytes() + shown
    }
}
