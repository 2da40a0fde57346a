//! Connections of one key width: their index, slots, and timer wheel.

use std::sync::Arc;

use crate::conn::{Image, Limits, Shared};
use conntrack_base::slab::Slab;
use conntrack_base::sync::{Mutant, Versions, mutant};

use super::index::Index;
use super::slot::Slot;
use super::wheel::{Wheel, second_of};

/// Connections whose keys have `K` words.
pub(super) struct Table<const K: usize> {
    pub(super) index: Index,
    pub(super) slots: Slab<Slot<K>>,
    /// Versions of the slots (seqlocks), which also cover the cold parts.
    pub(super) versions: Arc<Versions>,
    pub(super) wheel: Wheel,
    /// The clock hand: the first slot of the next search for a victim.
    pub(super) hand: u32,
}

/// A key width, for tables and their hash.
pub(super) trait Hasher<const K: usize> {
    /// The hash of a key.
    fn hash(&self, key: &[u64; K]) -> u64;
}

impl Hasher<2> for crate::flow::KeyHasher {
    #[inline]
    fn hash(&self, key: &[u64; 2]) -> u64 {
        self.narrow(key)
    }
}

impl Hasher<6> for crate::flow::KeyHasher {
    #[inline]
    fn hash(&self, key: &[u64; 6]) -> u64 {
        self.wide(key)
    }
}

/// The number of no slot: the guess for a key without an index entry in its first bucket.
pub const NO_SLOT: u32 = u32::MAX;

/// The result of a query of the wheel.
pub(super) enum Due<T> {
    None,
    NotYet,
    Now(T),
}

impl<T> Due<T> {
    pub(super) fn map<U>(self, place: impl FnOnce(T) -> U) -> Due<U> {
        match self {
            Self::None => Due::None,
            Self::NotYet => Due::NotYet,
            Self::Now(slot) => Due::Now(place(slot)),
        }
    }
}

/// A second as stored in records; 0 is none.
#[inline]
fn short(second: i64) -> u32 {
    (second as u32).max(1)
}

/// Test whether a deadline is in an earlier second than the slot's mark.
#[inline]
pub fn is_before_mark(deadline: i64, armed: u32) -> bool {
    (short(second_of(deadline)).wrapping_sub(armed) as i32) < 0
}

/// Slots that the wheel reads together.
const TOGETHER: usize = 8;
/// Connections whose slots and index fit into the caches of any processor, half a megabyte.
pub(super) const IN_CACHE: usize = 1 << 12;

/// Places that are searched for a victim (the kernel's NF_CT_EVICTION_RANGE, in buckets of its table).
pub(super) const EVICTION_RANGE: u32 = 64;

impl<const K: usize> Default for Table<K> {
    fn default() -> Self {
        Self {
            index: Index::default(),
            slots: Slab::default(),
            versions: Arc::default(),
            wheel: Wheel::default(),
            hand: 0,
        }
    }
}

impl<const K: usize> Table<K> {
    #[inline]
    pub(super) fn slot(&self, number: u32) -> Option<&Slot<K>> {
        self.slots.get(number)
    }

    /// Bytes with this many slots, in use or not. Index and wheel are counted at their largest size for them.
    pub(super) fn bytes(slots: usize) -> usize {
        slots * size_of::<Slot<K>>() + Index::most_bytes(slots) + Wheel::most_bytes(slots)
    }

    pub(super) fn victim(&mut self, is_assured: impl Fn(&Shared) -> bool) -> Option<u32> {
        let reach = self.slots.reach();
        for _ in 0..EVICTION_RANGE.min(reach) {
            let slot = self.hand;
            self.hand = (slot + 1) % reach;
            if self.slot(slot).is_some_and(|slot| slot.is_used() && !is_assured(&slot.hot)) {
                return Some(slot);
            }
        }
        None
    }

    /// The slot of a key. A wrong guess costs the search that a right one saves.
    #[inline]
    pub(super) fn find(&self, hash: u64, key: &[u64; K], guess: u32) -> Option<u32> {
        // A slot that was freed meanwhile still has its key, and no connection.
        if self.slot(guess).is_some_and(|slot| slot.has(key) && slot.is_used()) {
            return Some(guess);
        }
        self.search(hash, key)
    }

    #[inline(never)]
    fn search(&self, hash: u64, key: &[u64; K]) -> Option<u32> {
        self.index.find(hash, |slot| self.slot(slot).is_some_and(|slot| slot.has(key)))
    }

    #[inline]
    pub(super) fn insert(
        &mut self,
        hash: u64,
        key: &[u64; K],
        image: &Image,
        hasher: &impl Hasher<K>,
        limits: &Limits,
    ) -> Option<u32> {
        let slot = self.fill(key, image)?;
        self.arm(slot, limits);
        self.list(hash, slot, hasher);
        Some(slot)
    }

    /// Fill a free slot, which the wheel does not visit and no lookup finds.
    #[inline]
    pub(super) fn fill(&mut self, key: &[u64; K], image: &Image) -> Option<u32> {
        let (slot, place) = self.slots.take()?;
        self.versions.change(slot, || place.fill(key, image));
        Some(slot)
    }

    /// Let lookups find a slot.
    #[inline]
    pub(super) fn list(&mut self, hash: u64, slot: u32, hasher: &impl Hasher<K>) {
        let slots = &self.slots;
        self.index.insert(hash, slot, |slot| slots.get(slot).map_or(0, |slot| hasher.hash(&slot.key())));
    }

    /// Marks store thirty-two bits of the second: a mark is stale if they differ from those of its slot. A slot with a
    /// mark for an earlier second is visited then, and marked again.
    #[inline]
    pub(super) fn arm(&mut self, slot: u32, limits: &Limits) {
        let Some(place) = self.slots.get(slot) else { return };
        let (deadline, armed) = (place.hot.deadline(limits), place.hot.armed.get());
        if armed == 0 || (is_before_mark(deadline, armed) && self.wheel.has_room(self.index.len())) {
            let second = second_of(deadline);
            place.hot.armed.set(short(second));
            self.wheel.put(slot, second);
        }
    }

    /// Read the next slots to be visited, and their lines of the index, so that cache misses overlap.
    #[inline(never)]
    fn touch_next(&self, next: &[u32], hasher: &impl Hasher<K>) {
        let slots = || next.iter().filter_map(|slot| self.slot(*slot));
        let read = slots().fold(0, |all, slot| all ^ slot.touch());
        let found = slots().fold(0, |all, slot| all ^ self.index.touch(hasher.hash(&slot.key())));
        // The reads have no other use, and stay.
        std::hint::black_box(read ^ found);
    }

    pub(super) fn due(&mut self, due: i64, limits: &Limits, hasher: &impl Hasher<K>) -> Due<u32> {
        let Some((slot, second)) = self.wheel.pop(due) else { return Due::None };
        let next = self.wheel.next::<TOGETHER>();
        if !next.is_empty() && self.index.len() > IN_CACHE {
            self.touch_next(next, hasher);
        }
        let Some(place) = self.slot(slot) else { return Due::NotYet };
        if place.hot.armed.get() != short(second) {
            return Due::NotYet;
        }
        place.hot.armed.set(0);
        if !place.is_used() {
            return Due::NotYet;
        }
        if place.hot.deadline(limits) <= due {
            return Due::Now(slot);
        }
        self.arm(slot, limits);
        Due::NotYet
    }

    pub(super) fn remove(&mut self, slot: u32, hasher: &impl Hasher<K>) {
        if let Some(place) = self.slots.get(slot) {
            self.index.remove(hasher.hash(&place.key()), slot);
            if !mutant(Mutant::NoVacating) {
                self.versions.change(slot, || place.vacate());
            }
            self.slots.give_back(slot);
        }
    }

    /// Vacate all slots.
    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.wheel = Wheel::default();
        self.hand = 0;
    }
}
