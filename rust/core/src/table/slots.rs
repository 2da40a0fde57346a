//! Connections in their places: a slot is a key and a [`Compact`]. Narrow ones are two whole cache lines.

use crate::compact::Compact;
use crate::slab::Slab;

/// A key of `K` words and what belongs to it.
#[derive(Clone, Copy)]
pub(super) struct Slot<const K: usize> {
    pub(super) key: [u64; K],
    pub(super) compact: Compact,
}

impl<const K: usize> Default for Slot<K> {
    fn default() -> Self {
        Self { key: [0; K], compact: Compact::default() }
    }
}

impl<const K: usize> Slot<K> {
    pub(super) fn is_used(&self) -> bool {
        self.compact.is_some()
    }
}

/// Slots by number.
pub(super) type Slots<const K: usize> = Slab<Slot<K>>;

/// Takes a free slot; None where there are no more numbers. If the wheel has a mark of it, that is there still.
pub(super) fn take<const K: usize>(slots: &mut Slots<K>, content: Slot<K>) -> Option<u32> {
    let (number, place) = slots.take()?;
    let armed = place.compact.armed();
    *place = content;
    place.compact.set_armed(armed);
    Some(number)
}

/// Gives a slot back. The wheel's mark of it is still there, and serves the next connection.
pub(super) fn free<const K: usize>(slots: &mut Slots<K>, number: u32) {
    if let Some(place) = slots.get_mut(number) {
        place.compact = place.compact.vacated();
        slots.give_back(number);
    }
}
