//! Capacity of a table, and early drop.
//!
//! Slots and places of cold parts keep their memory. So that a flood of one kind leaves room for the others, narrow
//! slots, wide slots, and cold parts with the lists of tags each have a share of the memory that no other takes. The
//! first segment of slots is free of the bound.
//!
//! Source of early drop: `early_drop` of nf_conntrack_core.c.

use crate::config::Bounds;
use crate::conn::{Flags, Shared};
use crate::connection::Connection;
use crate::flow::FlowKey;

use super::width::{EVICTION_RANGE, NO_SLOT, Table};
use super::{FlowTable, Lookup, SlotId};

/// Shares of the memory, of which narrow slots, wide slots and cold parts have one each.
const SHARES: usize = 16;
/// Bytes of the least share.
const LEAST_SHARE: usize = 65_536;

/// A bound that leaves no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The number of connections.
    Connections,
    /// The memory of slots of this width.
    Slots,
    /// The memory of cold parts.
    Colds,
}

/// Bytes of each kind.
#[derive(Clone, Copy)]
struct Bytes {
    narrow: usize,
    wide: usize,
    cold: usize,
}

impl Bytes {
    /// Test for memory for these slots.
    fn slots_fit(self, limit: usize) -> bool {
        let share = share(limit);
        self.narrow.max(share) + self.wide.max(share) + self.cold.max(share) <= limit
    }

    /// Test for memory for these cold parts.
    fn colds_fit(self, limit: usize) -> bool {
        let share = share(limit);
        self.cold <= limit.saturating_sub(self.narrow.max(share) + self.wide.max(share)).max(share)
    }

    fn sum(self) -> usize {
        self.narrow + self.wide + self.cold
    }
}

fn share(limit: usize) -> usize {
    (limit / SHARES).max(LEAST_SHARE)
}

impl FlowTable {
    /// Test for a bound.
    #[inline]
    pub fn is_bounded(&self) -> bool {
        self.bounds != Bounds::default()
    }

    /// The bounds.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Set other bounds. A table beyond them shrinks as connections begin.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// The bound that keeps a connection out: one with such a key, with a cold part or without.
    #[inline]
    pub fn full(&self, is_wide: bool, is_cold: bool) -> Option<Full> {
        if self.is_bounded() { self.full_at(is_wide, is_cold) } else { None }
    }

    fn full_at(&self, is_wide: bool, is_cold: bool) -> Option<Full> {
        if self.len() >= self.bounds.connections {
            return Some(Full::Connections);
        }
        if self.bounds.bytes == usize::MAX {
            return None;
        }
        let (now, limit) = (self.parts(), self.bounds.bytes);
        let (with_slot, has_slots) = if is_wide {
            let wide = Table::<6>::bytes(self.wide.slots.next_capacity());
            (Bytes { wide, ..now }, self.wide.slots.capacity() > 0)
        } else {
            let narrow = Table::<2>::bytes(self.narrow.slots.next_capacity());
            (Bytes { narrow, ..now }, self.narrow.slots.capacity() > 0)
        };
        if has_slots && with_slot.sum() > now.sum() && !with_slot.slots_fit(limit) {
            return Some(Full::Slots);
        }
        let with_cold = Bytes { cold: self.cold_bytes(self.colds.next_bytes()), ..with_slot };
        (is_cold && !with_cold.colds_fit(limit)).then_some(Full::Colds)
    }

    /// Test whether the cold parts have outgrown their memory.
    #[inline]
    pub fn has_outgrown(&self) -> bool {
        self.bounds.bytes != usize::MAX && !self.parts().colds_fit(self.bounds.bytes)
    }

    /// Test for room for the lists of tags at this size.
    pub(super) fn has_room_for_tags(&self, replies: usize, halves: [usize; 2]) -> bool {
        let now = self.parts();
        let cold = now.cold - self.tags.bytes() + self.tags.bytes_with(replies, halves);
        self.bounds.bytes == usize::MAX || Bytes { cold, ..now }.colds_fit(self.bounds.bytes)
    }

    /// The next connection in slot order that is not assured, to make room for one with such a key. As the kernel's
    /// early drop, the search visits a few places and gives up; a visited one comes last in the next round.
    pub fn victim(&mut self, full: Full, is_wide: bool) -> Option<SlotId> {
        if full == Full::Colds {
            let key = self.colds.victim(EVICTION_RANGE).map(|connection| connection.key)?;
            return self.slot_of(&key);
        }
        let Self { colds, narrow, wide, .. } = self;
        let colds = &*colds;
        let is_assured = |hot: &Shared| match Flags(hot.flags.get()) {
            flags if flags.kind() == Flags::COLD => colds.get(hot.cold.get()).is_some_and(Connection::is_assured),
            flags => flags.has(Flags::ASSURED) && !flags.is_refused(),
        };
        // A slot of the other width gives back no memory.
        let any = full == Full::Connections;
        let mut of_narrow = || narrow.victim(is_assured).map(SlotId::V4);
        let mut of_wide = || wide.victim(is_assured).map(SlotId::Wide);
        match (is_wide, any) {
            (false, false) => of_narrow(),
            (true, false) => of_wide(),
            (false, true) => of_narrow().or_else(of_wide),
            (true, true) => of_wide().or_else(of_narrow),
        }
    }

    fn slot_of(&self, key: &FlowKey) -> Option<SlotId> {
        let words = key.words();
        self.find(&Lookup { words, hash: self.hasher.words(&words) }, NO_SLOT)
    }

    /// Bytes of memory that the live connections take.
    pub fn bytes(&self) -> usize {
        self.parts().sum()
    }

    fn parts(&self) -> Bytes {
        Bytes {
            narrow: Table::<2>::bytes(self.narrow.slots.capacity()),
            wide: Table::<6>::bytes(self.wide.slots.capacity()),
            cold: self.cold_bytes(self.colds.bytes()),
        }
    }

    /// Bytes of cold parts, their copies for readers, and the lists of tags.
    fn cold_bytes(&self, colds: usize) -> usize {
        colds * (1 + usize::from(self.has_readers)) + self.tags.bytes()
    }
}
