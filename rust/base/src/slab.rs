//! Slabs with stable indices: an occupied slot never moves, and concurrent readers reach a slot by its index.
//!
//! Memory grows a segment at a time, so that growth copies nothing and the millionth insertion costs as little as the
//! first. Collections that reallocate would stall a packet.

use std::io::{self, Read, Write};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checkpoint::{CheckpointError, Reader, Writer};
use crate::sync::Published;

/// Slots of a segment.
pub const SEGMENT: usize = if cfg!(feature = "models") { 2 } else { 1 << 10 };

/// Segments are constructed in place, because construction elsewhere ends in a copy.
type Segment<T> = Arc<[T]>;

/// Slab for the owner. Slots change through a shared reference, because concurrent readers may hold references.
pub struct Slab<T> {
    segments: Vec<Segment<T>>,
    published: Places<T>,
    free: Vec<u32>,
    /// Lowest index that was never taken.
    fresh: u32,
}

/// Cell of a segment that readers see once the segment is allocated.
type SegmentCell<T> = Published<Option<Segment<T>>>;

/// Read-only handle of a [`Slab`], for concurrent readers.
pub struct Places<T>(Arc<boxcar::Vec<SegmentCell<T>>>);

impl<T> Clone for Places<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Places<T> {
    /// Apply `look` to a slot; None for an index without memory.
    pub fn with<R>(&self, number: u32, look: impl FnOnce(&T) -> R) -> Option<R> {
        let segment = self.0.get(number as usize / SEGMENT)?.get();
        Option::as_ref(&segment).and_then(|segment| segment.get(number as usize % SEGMENT)).map(look)
    }

    /// Indices of the allocated slots.
    pub fn numbers(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.0.count() * SEGMENT).unwrap_or(u32::MAX)
    }

    fn publish(&self, at: usize, segment: &Segment<T>) {
        match self.0.get(at) {
            Some(cell) => cell.show(Some(segment.clone())),
            None => {
                self.0.push(Published::new(Some(segment.clone())));
            }
        }
    }

    fn unpublish(&self, at: usize) {
        if let Some(cell) = self.0.get(at) {
            cell.show(None);
        }
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { segments: Vec::new(), published: Places(Arc::default()), free: Vec::new(), fresh: 0 }
    }
}

impl<T: Default> Slab<T> {
    /// Take a free slot; returns the index and the slot with its stale contents. None once all indices are in use.
    pub fn take(&mut self) -> Option<(u32, &T)> {
        let number = if let Some(number) = self.free.pop() {
            number
        } else {
            let number = self.fresh;
            self.fresh = number.checked_add(1)?;
            number
        };
        self.cover(number);
        Some((number, self.get(number)?))
    }

    /// Allocate segments up to this index; no slot becomes taken.
    #[inline]
    pub fn cover(&mut self, number: u32) {
        while number as usize / SEGMENT >= self.segments.len() {
            self.add_segment();
        }
    }

    #[cold]
    fn add_segment(&mut self) {
        let segment = (0..SEGMENT).map(|_| T::default()).collect();
        self.published.publish(self.segments.len(), &segment);
        self.segments.push(segment);
    }

    /// Restore a slab from [`Self::save`] into an empty slab; `fill` restores one slot.
    pub fn load<V: DeserializeOwned>(
        from: &mut Reader<impl Read>,
        mut fill: impl FnMut(&T, V) -> Result<(), CheckpointError>,
    ) -> Result<Self, CheckpointError> {
        let mut slab = Self::default();
        from.get_all(|content| {
            let number = slab.fresh;
            slab.fresh = number.checked_add(1).ok_or(CheckpointError::damaged("too many places"))?;
            slab.cover(number);
            if let Some(place) = slab.get(number) {
                fill(place, content)?;
            }
            Ok(())
        })?;
        let mut is_free = vec![false; slab.fresh as usize];
        from.get_all(|number: u32| {
            match is_free.get_mut(number as usize) {
                Some(free) if !*free => *free = true,
                _ => return Err(CheckpointError::damaged("a free place is none")),
            }
            slab.free.push(number);
            Ok(())
        })?;
        Ok(slab)
    }

    /// Indices of the free list.
    pub fn free(&self) -> &[u32] {
        &self.free
    }
}

impl<T> Slab<T> {
    /// The slot of an index.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&T> {
        self.segments.get(number as usize / SEGMENT)?.get(number as usize % SEGMENT)
    }

    /// Return a taken slot to the free list.
    pub fn give_back(&mut self, number: u32) {
        self.free.push(number);
    }

    /// A read-only handle for concurrent readers.
    pub fn places(&self) -> Places<T> {
        self.published.clone()
    }

    /// Number of allocated slots.
    pub fn capacity(&self) -> usize {
        self.segments.len() * SEGMENT
    }

    /// Number of allocated slots after one more [`Self::take`].
    pub fn next_capacity(&self) -> usize {
        let is_full = self.free.is_empty() && self.fresh as usize == self.capacity();
        self.capacity() + if is_full { SEGMENT } else { 0 }
    }

    /// Upper bound of the indices ever taken, exclusive.
    pub fn reach(&self) -> u32 {
        self.fresh
    }

    /// Number of taken slots.
    pub fn len(&self) -> usize {
        self.fresh as usize - self.free.len()
    }

    /// True if no slot is taken.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Iterate over all allocated slots, free slots included, in index order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.segments.iter().flat_map(|segment| segment.iter())
    }

    /// Save the view `look` of every slot, and the free list: a restored slab takes slots in an unchanged order.
    pub fn save<V: Serialize>(&self, out: &mut Writer<'_, impl Write>, look: impl Fn(&T) -> V) -> io::Result<()> {
        let count = self.fresh as usize;
        out.put_all(count, self.iter().take(count).map(look))?;
        out.put_all(self.free.len(), self.free.iter())
    }

    /// Visit every slot a last time and leave the slab empty. A segment's memory is released after its last slot,
    /// once no reader holds the segment.
    pub fn drain(&mut self, mut gone: impl FnMut(&T)) {
        self.free.clear();
        self.fresh = 0;
        for (at, segment) in std::mem::take(&mut self.segments).into_iter().enumerate() {
            segment.iter().for_each(&mut gone);
            self.published.unpublish(at);
        }
    }
}

/// Single-owner slab of values with stable indices.
pub struct Pool<T> {
    segments: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    len: usize,
}

/// Values of a segment of a [`Pool`].
const POOL_SEGMENT: usize = 1 << 8;

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { segments: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Pool<T> {
    /// Insert a value and return its index; None once all indices are in use.
    pub fn insert(&mut self, value: T) -> Option<u32> {
        self.len += 1;
        if let Some(number) = self.free.pop() {
            *self.segments.get_mut(number as usize / POOL_SEGMENT)?.get_mut(number as usize % POOL_SEGMENT)? =
                Some(value);
            return Some(number);
        }
        if self.segments.last().is_none_or(|last| last.len() == POOL_SEGMENT) {
            self.segments.push(Vec::with_capacity(POOL_SEGMENT));
        }
        let segments = self.segments.len() - 1;
        let last = self.segments.last_mut()?;
        let number = u32::try_from(segments * POOL_SEGMENT + last.len()).ok()?;
        last.push(Some(value));
        Some(number)
    }

    /// The value of an index.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&T> {
        self.segments.get(number as usize / POOL_SEGMENT)?.get(number as usize % POOL_SEGMENT)?.as_ref()
    }

    /// The value of an index, mutable.
    #[inline]
    pub fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.segments.get_mut(number as usize / POOL_SEGMENT)?.get_mut(number as usize % POOL_SEGMENT)?.as_mut()
    }

    /// Remove a value and return it.
    #[inline]
    pub fn remove(&mut self, number: u32) -> Option<T> {
        let place = self.segments.get_mut(number as usize / POOL_SEGMENT)?.get_mut(number as usize % POOL_SEGMENT)?;
        let value = place.take()?;
        self.free.push(number);
        self.len -= 1;
        Some(value)
    }

    /// Upper bound of the indices ever used, exclusive: the places that have memory.
    pub fn reach(&self) -> usize {
        let full = self.segments.len().saturating_sub(1) * POOL_SEGMENT;
        full + self.segments.last().map_or(0, Vec::len)
    }

    /// Number of places with memory after one more [`Self::insert`].
    pub fn next_reach(&self) -> usize {
        self.reach() + usize::from(self.free.is_empty())
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(all(test, not(feature = "models")))]
mod tests {
    use std::collections::HashMap;
    use std::rc::Rc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn free_slots_are_reused() {
        let mut slab: Slab<AtomicU32> = Slab::default();
        let places = slab.places();
        assert_eq!((slab.capacity(), slab.next_capacity()), (0, SEGMENT));
        for number in 0..3_000 {
            let (taken, content) = slab.take().unwrap();
            assert_eq!(taken, number);
            content.store(number, Relaxed);
        }
        slab.give_back(7);
        assert_eq!((slab.len(), slab.reach(), slab.is_empty()), (2_999, 3_000, false));
        assert_eq!(slab.take().map(|(number, left)| (number, left.load(Relaxed))), Some((7, 7)), "what was left");
        assert_eq!(slab.iter().take(3_000).map(|place| place.load(Relaxed)).sum::<u32>(), 3_000 * 2_999 / 2);
        assert_eq!(places.with(2_999, |place| place.load(Relaxed)), Some(2_999));
        assert_eq!(places.numbers(), 0..3 * SEGMENT as u32);
        let mut seen = 0;
        slab.drain(|_| seen += 1);
        assert_eq!((seen, slab.capacity(), slab.len()), (3 * SEGMENT, 0, 0));
        assert!(places.with(7, |_| ()).is_none());
        slab.take().unwrap().1.store(5, Relaxed);
        assert_eq!(places.with(0, |place| place.load(Relaxed)), Some(5), "the first segment is shown again");
    }

    #[test]
    fn values_of_a_pool_never_move() {
        let mut pool = Pool::default();
        let first = pool.insert(7_u64).unwrap();
        let place: *const u64 = pool.get(first).unwrap();
        let rest: Vec<_> = (0..3 * POOL_SEGMENT as u64).map(|value| pool.insert(value).unwrap()).collect();
        assert_eq!(pool.get(first).map(std::ptr::from_ref), Some(place));
        assert_eq!((pool.len(), pool.is_empty()), (3 * POOL_SEGMENT + 1, false));
        assert!(rest.iter().zip(0..).all(|(number, value)| pool.get(*number) == Some(&value)));
        assert_eq!(rest.iter().copied().max(), Some(3 * POOL_SEGMENT as u32), "numbers have no gaps");
        assert_eq!((pool.reach(), pool.next_reach()), (3 * POOL_SEGMENT + 1, 3 * POOL_SEGMENT + 2));
        pool.remove(first);
        assert_eq!((pool.reach(), pool.next_reach()), (3 * POOL_SEGMENT + 1, 3 * POOL_SEGMENT + 1));
    }

    #[test]
    fn a_pool_drops_removed_values() {
        let value = Rc::new(());
        let mut pool = Pool::default();
        let number = pool.insert(value.clone()).unwrap();
        drop(pool.remove(number));
        assert_eq!((Rc::strong_count(&value), pool.is_empty()), (1, true));
        assert!(pool.remove(number).is_none() && pool.get_mut(number).is_none());
        assert_eq!((pool.len(), pool.insert(value.clone())), (0, Some(number)), "the number is used again, once");
        assert!(pool.insert(value.clone()) != Some(number));
        drop(pool);
        assert_eq!(Rc::strong_count(&value), 1);
    }

    proptest! {
        #[test]
        fn a_pool_holds_what_was_put_into_it(deeds in prop::collection::vec((0..4_u8, 0..600_u32), 0..1_500)) {
            let (mut pool, mut all) = (Pool::default(), HashMap::new());
            for ((deed, number), value) in deeds.into_iter().zip(0_u64..) {
                match deed {
                    0 | 1 => {
                        let number = pool.insert(value).unwrap();
                        prop_assert!(all.insert(number, value).is_none(), "{} was taken", number);
                    }
                    2 => prop_assert_eq!(pool.remove(number), all.remove(&number)),
                    _ => {
                        let (one, other) = (pool.get_mut(number), all.get_mut(&number));
                        prop_assert_eq!(one.as_deref(), other.as_deref());
                        if let (Some(one), Some(other)) = (one, other) {
                            (*one, *other) = (value, value);
                        }
                    }
                }
                prop_assert_eq!(pool.len(), all.len());
                prop_assert_eq!(pool.get(number), all.get(&number));
            }
        }
    }
}
