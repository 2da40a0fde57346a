//! Connections whose keys have the same width: their index, their slots, and when they are due.

use std::sync::Arc;

use ahash::RandomState;

use crate::compact::Compact;
use crate::config::Timeouts;
use crate::slab::Slab;
use crate::sync::{Mutant, Versions, mutant};

use super::index::Index;
use super::slots::Slot;
use super::wheel::{Wheel, second_of};

/// Connections whose keys have the same width.
pub(super) struct Table<const K: usize, S> {
    pub(super) index: Index,
    pub(super) slots: Slab<S>,
    /// Of its slots, with everything beside them.
    pub(super) versions: Arc<Versions>,
    pub(super) wheel: Wheel,
    /// Where the next victim is looked for.
    pub(super) hand: u32,
}

/// The slot that a key's connection may have, as [`super::FlowTable::touch`] saw it. A wrong one costs the lookup that it would have
/// saved.
#[derive(Clone, Copy, Debug)]
pub struct Guess(pub(super) u32);

impl Default for Guess {
    /// None: no slot has this number.
    fn default() -> Self {
        Self(u32::MAX)
    }
}

/// What the wheel says.
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

/// A second as slots keep it; 0 is none.
#[inline]
fn short(second: i64) -> u32 {
    (second as u32).max(1)
}

/// Places that are looked at for one that may be dropped (the kernel's NF_CT_EVICTION_RANGE, in buckets of its table).
const EVICTION_RANGE: u32 = 64;

impl<const K: usize, S> Default for Table<K, S> {
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

impl<const K: usize, S: AsRef<Slot<K>> + Default> Table<K, S> {
    #[inline]
    pub(super) fn slot(&self, number: u32) -> Option<&Slot<K>> {
        self.slots.get(number).map(AsRef::as_ref)
    }

    /// Bytes that it takes with this many slots, in use or not. The index is counted as large as it may be for them.
    pub(super) fn bytes(&self, slots: usize) -> usize {
        slots * size_of::<S>() + Index::most_bytes(slots) + self.wheel.bytes()
    }

    pub(super) fn victim(&mut self, is_assured: impl Fn(&Compact) -> bool) -> Option<u32> {
        let reach = self.slots.reach();
        for _ in 0..EVICTION_RANGE.min(reach) {
            let slot = self.hand;
            self.hand = (slot + 1) % reach;
            let compact = self.slot(slot).map(Slot::compact);
            if compact.is_some_and(|compact| compact.is_some() && !is_assured(&compact)) {
                return Some(slot);
            }
        }
        None
    }

    #[inline]
    pub(super) fn find(&self, hash: u64, key: &[u64; K], guess: Guess) -> Option<(u32, &Slot<K>)> {
        // A slot that was given back meanwhile has its key yet, and no connection.
        if let Some(slot) = self.slot(guess.0)
            && slot.key() == *key
            && slot.is_used()
        {
            return Some((guess.0, slot));
        }
        self.search(hash, key)
    }

    #[inline(never)]
    fn search(&self, hash: u64, key: &[u64; K]) -> Option<(u32, &Slot<K>)> {
        let slot = self.index.find(hash, |slot| self.slot(slot).is_some_and(|slot| slot.key() == *key))?;
        Some((slot, self.slot(slot)?))
    }

    #[inline]
    pub(super) fn insert(
        &mut self,
        hash: u64,
        key: [u64; K],
        compact: Compact,
        hasher: &RandomState,
        timeouts: &Timeouts,
    ) -> Option<u32> {
        let (slot, place) = self.slots.take()?;
        self.versions.change(slot, || place.as_ref().fill(&key, &compact));
        self.arm(slot, timeouts);
        let slots = &self.slots;
        let hash_of = |slot| slots.get(slot).map_or(0, |slot| hasher.hash_one(slot.as_ref().key()));
        self.index.insert(hash, slot, hash_of);
        Some(slot)
    }

    #[inline]
    pub(super) fn change<R>(
        &mut self,
        hash: u64,
        key: &[u64; K],
        guess: Guess,
        step: impl FnOnce(&mut Compact) -> Option<R>,
    ) -> Option<(u32, Option<R>)> {
        let (slot, place) = self.find(hash, key, guess)?;
        let done = self.versions.change(slot, || {
            let mut compact = Compact::default();
            place.read_own(&mut compact);
            let done = step(&mut compact);
            if done.is_some() {
                place.change(&compact);
            }
            done
        });
        Some((slot, done))
    }

    pub(super) fn set(&mut self, slot: u32, compact: &Compact) {
        if let Some(place) = self.slot(slot) {
            self.versions.change(slot, || place.set(compact));
        }
    }

    /// Seconds are told apart by thirty-two bits: a mark is stale if they are not those of its slot. A slot that has a
    /// mark for an earlier second is looked at then, and marked anew.
    #[inline]
    pub(super) fn arm(&mut self, slot: u32, timeouts: &Timeouts) {
        let Some(place) = self.slot(slot) else { return };
        let second = second_of(place.deadline(timeouts));
        let armed = place.armed();
        let is_nearer = (short(second).wrapping_sub(armed) as i32) < 0 && self.wheel.has_room(self.index.len());
        if armed == 0 || is_nearer {
            place.set_armed(short(second));
            self.wheel.put(slot, second);
        }
    }

    pub(super) fn due(&mut self, due: i64, timeouts: &Timeouts) -> Due<u32> {
        let Some((slot, second)) = self.wheel.pop(due) else { return Due::None };
        let Some(place) = self.slot(slot) else { return Due::NotYet };
        if place.armed() != short(second) {
            return Due::NotYet;
        }
        place.set_armed(0);
        if !place.is_used() {
            return Due::NotYet;
        }
        if place.deadline(timeouts) <= due {
            return Due::Now(slot);
        }
        self.arm(slot, timeouts);
        Due::NotYet
    }

    pub(super) fn remove(&mut self, slot: u32, hasher: &RandomState) {
        if let Some(place) = self.slots.get(slot).map(AsRef::as_ref) {
            self.index.remove(hasher.hash_one(place.key()), slot);
            if !mutant(Mutant::NoVacating) {
                self.versions.change(slot, || place.vacate());
            }
            self.slots.give_back(slot);
        }
    }

    /// Forgets what was in its slots.
    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.wheel = Wheel::default();
        self.hand = 0;
    }
}
