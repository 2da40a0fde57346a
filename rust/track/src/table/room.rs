//! Capacity of a table, and early drop.

use crate::config::Bounds;
use crate::conn::{Flags, Image};
use crate::connection::Connection;

use super::wheel::Wheel;
use super::{FlowTable, SlotId};

impl FlowTable {
    /// Test whether a connection with this key may be added.
    #[inline]
    pub fn may_insert(&self, is_wide: bool) -> bool {
        self.bounds == Bounds::default() || self.has_room(is_wide)
    }

    fn has_room(&self, is_wide: bool) -> bool {
        let (mut narrow, mut wide) = (self.narrow.slots.capacity(), self.wide.slots.capacity());
        if is_wide {
            wide = self.wide.slots.next_capacity();
        } else {
            narrow = self.narrow.slots.next_capacity();
        }
        let bytes = self.bytes_with(narrow, wide) + Wheel::MARK_BYTES;
        self.len() < self.bounds.connections && bytes <= self.bounds.bytes
    }

    /// The next connection in slot order that is not assured, to make room for one with such a key. As the kernel's
    /// early drop, the search visits a few slots and gives up; a visited one comes last in the next round.
    pub fn victim(&mut self, is_wide: bool) -> Option<SlotId> {
        let Self { colds, narrow, wide, bounds, .. } = self;
        let is_assured = |image: &Image| match image.flags().kind() {
            Flags::COLD => colds.get(image.cold).is_some_and(Connection::is_assured),
            _ => image.is_assured(),
        };
        // Where memory is short, only a slot of the same width helps.
        let any = narrow.index.len() + wide.index.len() >= bounds.connections;
        let found = if !is_wide || any { narrow.victim(is_assured) } else { None };
        match found {
            None if is_wide || any => wide.victim(is_assured).map(SlotId::Wide),
            found => found.map(SlotId::V4),
        }
    }

    /// Bytes of memory that the live connections take.
    pub fn bytes(&self) -> usize {
        self.bytes_with(self.narrow.slots.capacity(), self.wide.slots.capacity())
    }

    /// Bytes of memory with this many slots of each width.
    fn bytes_with(&self, narrow: usize, wide: usize) -> usize {
        let shown = if self.has_readers { self.colds.bytes() } else { 0 };
        self.narrow.bytes(narrow) + self.wide.bytes(wide) + self.colds.bytes() + shown + self.tags.bytes()
    }
}
