//! Connections in their places: a slot is a key and a [`Compact`], and never moves.

use crate::compact::Compact;

/// Slots of a segment. Segments are added one at a time, so that growing copies nothing.
const SEGMENT: usize = 1 << 10;

/// A key of `K` words and what belongs to it.
#[derive(Clone, Copy)]
pub(super) struct Slot<const K: usize> {
    pub(super) key: [u64; K],
    pub(super) compact: Compact,
}

/// Begins with a cache line: narrow slots are two whole ones.
#[repr(align(64))]
struct Segment<const K: usize>([Slot<K>; SEGMENT]);

/// Slots by number.
pub(super) struct Slots<const K: usize> {
    segments: Vec<Box<Segment<K>>>,
    free: Vec<u32>,
    /// The first one that was never used.
    fresh: u32,
}

impl<const K: usize> Default for Slots<K> {
    fn default() -> Self {
        Self { segments: Vec::new(), free: Vec::new(), fresh: 0 }
    }
}

impl<const K: usize> Slots<K> {
    #[inline]
    pub(super) fn get(&self, slot: u32) -> Option<&Slot<K>> {
        let segment = self.segments.get(slot as usize / SEGMENT)?;
        Some(&segment.0[slot as usize % SEGMENT])
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Slot<K>> {
        let segment = self.segments.get_mut(slot as usize / SEGMENT)?;
        Some(&mut segment.0[slot as usize % SEGMENT])
    }

    /// Takes a free slot; None where there are no more numbers.
    pub(super) fn take(&mut self, content: Slot<K>) -> Option<u32> {
        let slot = if let Some(slot) = self.free.pop() {
            slot
        } else {
            let slot = self.fresh;
            self.fresh = slot.checked_add(1)?;
            slot
        };
        if slot as usize / SEGMENT == self.segments.len() {
            let empty = Slot { key: [0; K], compact: Compact::default() };
            self.segments.push(Box::new(Segment([empty; SEGMENT])));
        }
        let place = self.get_mut(slot)?;
        let armed = place.compact.armed();
        *place = content;
        place.compact.set_armed(armed);
        Some(slot)
    }

    /// Slots that there is memory for.
    pub(super) fn capacity(&self) -> usize {
        self.segments.len() * SEGMENT
    }

    /// The same once another one is taken.
    pub(super) fn next_capacity(&self) -> usize {
        let is_full = self.free.is_empty() && self.fresh as usize == self.capacity();
        self.capacity() + if is_full { SEGMENT } else { 0 }
    }

    /// How many slots were ever used.
    pub(super) fn reach(&self) -> u32 {
        self.fresh
    }

    /// Gives a slot back. The wheel's mark of it is still there, and serves the next connection.
    pub(super) fn free(&mut self, slot: u32) {
        if let Some(place) = self.get_mut(slot) {
            place.compact = place.compact.vacated();
            self.free.push(slot);
        }
    }

    /// The slots in use.
    pub(super) fn used(&self) -> impl Iterator<Item = &Slot<K>> {
        self.segments.iter().flat_map(|segment| &segment.0).filter(|slot| slot.compact.is_some())
    }

    /// The slots in use; each segment is freed once it has been walked through.
    pub(super) fn into_used(self) -> impl Iterator<Item = Slot<K>> {
        let used = |slot: &Slot<K>| slot.compact.is_some();
        self.segments.into_iter().flat_map(move |segment| (0..SEGMENT).map(move |place| segment.0[place]).filter(used))
    }
}
