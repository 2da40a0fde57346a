//! The flow table: find, insert, update, expire.
//!
//! What readers may rely on: a table has one owner at a time, who never waits for them, and any number of [`Reader`]s in any
//! thread, at any moment. A reader sees a connection as it was between two packets, never in the middle of one. A lookup
//! finds a connection that lived from its beginning to its end, and none that had ended before; a snapshot has every
//! connection that lived from its beginning to its end, exactly once, each as it was at some moment of the call. What ended
//! or began meanwhile may be in it or not.
//!
//! A slot's number is stable while its connection lives; expiry is by capture time and lazy: a connection past
//! its deadline is found dead by the packet that looks it up, or swept by the wheel when nobody asks.
//!
//! A connection over IPv4 in no tunnel is two cache lines (a key of two words, fourteen of [`Compact`]), found through
//! one line of the index; any other one is half a line longer. What does not fit into a [`Compact`] is in a box.

mod image;
mod index;
mod lookup;
mod reader;
mod slots;
#[cfg(all(test, not(feature = "models")))]
mod tests;
mod wheel;

use std::sync::Arc;

use ahash::RandomState;
use arc_swap::ArcSwapOption;

use crate::compact::{Compact, Extras};
use crate::config::{Bounds, Timeouts};
use crate::connection::Connection;
use crate::flow::{FlowKey, Words};
use crate::slab::Slab;
use crate::sync::{Mutant, Versions, mutant};

pub use lookup::{Lookup, Lookups};
pub use reader::Reader;

use index::Index;
use slots::{Lines, Slot};
use wheel::{Wheel, second_of};

/// A connection's place, valid until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotId {
    /// Among those with narrow keys.
    Narrow(u32),
    /// Among the others.
    Broad(u32),
}

/// Connections by key.
pub struct FlowTable {
    narrow: Table<2, Lines>,
    broad: Table<6, Slot<6>>,
    extras: Extras,
    /// What does not fit into its slot.
    wide: Slab<Wide>,
    /// Boxes for those that are being looked at.
    #[expect(clippy::vec_box, reason = "boxes go in and out, what is in them does not move")]
    spare: Vec<Box<Connection>>,
    lookups: Lookups,
    timeouts: Timeouts,
    bounds: Bounds,
    /// Bytes of the connections in boxes.
    wide_bytes: usize,
    peak: usize,
}

/// A connection as its last packet left it.
type Wide = ArcSwapOption<Connection>;

/// Connections whose keys have the same width.
struct Table<const K: usize, S> {
    index: Index,
    slots: Slab<S>,
    /// Of its slots, with everything beside them.
    versions: Arc<Versions>,
    wheel: Wheel,
    /// Where the next victim is looked for.
    hand: u32,
}

/// Boxes that are kept for the next connection that needs one.
const SPARE: usize = 8;

impl FlowTable {
    /// An empty table. No order that depends on the hash leaves it.
    pub fn new(timeouts: Timeouts, bounds: Bounds, lookups: Lookups) -> Self {
        Self {
            narrow: Table::default(),
            broad: Table::default(),
            extras: Extras::default(),
            wide: Slab::default(),
            spare: Vec::new(),
            lookups,
            timeouts,
            bounds,
            wide_bytes: 0,
            peak: 0,
        }
    }

    /// How its keys are hashed.
    pub fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    /// Reads what lookups and updates of these will read: first all lines of the index, then all slots, so that they wait for
    /// memory together.
    #[inline]
    pub fn touch<'a>(&self, lookups: impl Iterator<Item = &'a Lookup> + Clone) {
        let touched = lookups.clone().fold(0, |all, lookup| all ^ self.touch_index(lookup));
        let touched = lookups.fold(touched, |all, lookup| all ^ self.touch_slot(lookup));
        // The reads are of no other use, and stay.
        std::hint::black_box(touched);
    }

    #[inline]
    fn touch_index(&self, lookup: &Lookup) -> u64 {
        match lookup.words {
            Words::Narrow(_) => self.narrow.index.touch(lookup.hash),
            Words::Broad(_) => self.broad.index.touch(lookup.hash),
        }
    }

    #[inline]
    fn touch_slot(&self, lookup: &Lookup) -> u64 {
        match lookup.words {
            Words::Narrow(_) => self.narrow.touch(lookup.hash),
            Words::Broad(_) => self.broad.touch(lookup.hash),
        }
    }

    /// The place of a key's connection.
    #[inline]
    pub fn find(&self, lookup: &Lookup) -> Option<SlotId> {
        match &lookup.words {
            Words::Narrow(key) => self.narrow.find(lookup.hash, key).map(SlotId::Narrow),
            Words::Broad(key) => self.broad.find(lookup.hash, key).map(SlotId::Broad),
        }
    }

    /// What is kept at a place.
    #[inline]
    pub fn at(&self, slot: SlotId) -> Option<Compact> {
        match slot {
            SlotId::Narrow(slot) => self.narrow.slot(slot).map(Slot::compact),
            SlotId::Broad(slot) => self.broad.slot(slot).map(Slot::compact),
        }
    }

    /// Changes what is kept at a place, and the extra lines, at once for readers; nothing where `step` gives None.
    /// [`Self::arm`] is owed afterwards where the deadline may have come nearer.
    #[inline]
    pub fn update<R>(&mut self, slot: SlotId, step: impl FnOnce(&mut Compact, &mut Extras) -> Option<R>) -> Option<R> {
        match slot {
            SlotId::Narrow(slot) => self.narrow.update(slot, |compact| step(compact, &mut self.extras)),
            SlotId::Broad(slot) => self.broad.update(slot, |compact| step(compact, &mut self.extras)),
        }
    }

    fn key_at(&self, slot: SlotId) -> Option<FlowKey> {
        match slot {
            SlotId::Narrow(slot) => self.narrow.slot(slot).map(|slot| slot.key().into()),
            SlotId::Broad(slot) => self.broad.slot(slot).map(|slot| slot.key().into()),
        }
    }

    /// Takes the connection at a place in hand: it is given back by [`Self::put`] or ended by [`Self::discard`]. Readers
    /// see it as it was until then.
    pub fn take(&mut self, slot: SlotId) -> Option<Box<Connection>> {
        let connection = self.look(slot)?;
        Some(self.boxed(connection))
    }

    /// A copy of the connection at a place.
    pub fn look(&self, slot: SlotId) -> Option<Connection> {
        self.copied(self.key_at(slot)?, &self.at(slot)?)
    }

    fn copied(&self, key: FlowKey, compact: &Compact) -> Option<Connection> {
        if let Some(wide) = compact.wide() {
            return self.wide.get(wide)?.load().as_deref().cloned();
        }
        let extra = compact.extra().and_then(|number| self.extras.get(number));
        Some(compact.unpack(key, extra.as_ref(), &self.timeouts))
    }

    /// In a box.
    pub fn boxed(&mut self, connection: Connection) -> Box<Connection> {
        match self.spare.pop() {
            Some(mut spare) => {
                *spare = connection;
                spare
            }
            None => Box::new(connection),
        }
    }

    /// A box that is no longer needed.
    pub fn unbox(&mut self, connection: Box<Connection>) {
        if self.spare.len() < SPARE {
            self.spare.push(connection);
        }
    }

    /// Puts a connection back to its place.
    pub fn put(&mut self, slot: SlotId, connection: Box<Connection>) {
        let before = self.at(slot);
        let Some(compact) = self.pack(connection) else { return self.discard(slot) };
        match slot {
            SlotId::Narrow(slot) => self.narrow.set(slot, &compact),
            SlotId::Broad(slot) => self.broad.set(slot, &compact),
        }
        // What was beside it is no longer shown.
        if let Some(before) = before {
            self.give_back(&before);
        }
        self.arm(slot);
    }

    /// Adds a connection, whose key is not in the table.
    pub fn insert(&mut self, lookup: &Lookup, connection: Box<Connection>) -> Option<SlotId> {
        let compact = self.pack(connection)?;
        self.insert_compact(lookup, compact)
    }

    /// The same of one that fits into its slot.
    #[inline]
    pub fn insert_compact(&mut self, lookup: &Lookup, compact: Compact) -> Option<SlotId> {
        let (hasher, timeouts) = (&self.lookups.0, &self.timeouts);
        let slot = match lookup.words {
            Words::Narrow(key) => SlotId::Narrow(self.narrow.insert(lookup.hash, key, compact, hasher, timeouts)?),
            Words::Broad(key) => SlotId::Broad(self.broad.insert(lookup.hash, key, compact, hasher, timeouts)?),
        };
        self.peak = self.peak.max(self.len());
        Some(slot)
    }

    /// The words of a connection that goes to its slot, with everything beside them; None where there is no more room for it.
    fn pack(&mut self, connection: Box<Connection>) -> Option<Compact> {
        if let Some((mut compact, extra)) = Compact::pack(&connection, &self.timeouts)
            && self.extras.keep(&mut compact, extra).is_some()
        {
            self.unbox(connection);
            return Some(compact);
        }
        let (wide, place) = self.wide.take()?;
        let compact = Compact::beside(wide, connection.deadline);
        self.wide_bytes += connection.heap_bytes();
        place.store(Some(Arc::from(connection)));
        Some(compact)
    }

    /// Frees what is beside words that are no longer shown.
    fn give_back(&mut self, compact: &Compact) {
        if let Some(number) = compact.wide() {
            if let Some(connection) = self.wide.get(number).and_then(|place| place.swap(None)) {
                self.wide_bytes = self.wide_bytes.saturating_sub(connection.heap_bytes());
            }
            self.wide.give_back(number);
        } else if let Some(number) = compact.extra() {
            self.extras.give_back(number);
        }
    }

    /// Makes sure that a connection, whose deadline may have come nearer, is looked at when it is due.
    #[inline]
    pub fn arm(&mut self, slot: SlotId) {
        match slot {
            SlotId::Narrow(slot) => self.narrow.arm(slot, &self.timeouts),
            SlotId::Broad(slot) => self.broad.arm(slot, &self.timeouts),
        }
    }

    /// Takes a connection out that is not in hand.
    pub fn remove(&mut self, slot: SlotId) -> Option<Box<Connection>> {
        let connection = self.take(slot);
        self.discard(slot);
        connection
    }

    /// Frees the place of a connection that is in hand.
    pub fn discard(&mut self, slot: SlotId) {
        let before = self.at(slot);
        match slot {
            SlotId::Narrow(slot) => self.narrow.remove(slot, &self.lookups.0),
            SlotId::Broad(slot) => self.broad.remove(slot, &self.lookups.0),
        }
        if let Some(before) = before {
            self.give_back(&before);
        }
    }

    /// Looks at one connection that may be due, and takes it out if its deadline is `due` or earlier; in no promised order.
    pub fn expire(&mut self, due: i64) -> Expired {
        let found = match self.narrow.due(due, &self.timeouts) {
            Due::None => self.broad.due(due, &self.timeouts).map(SlotId::Broad),
            found => found.map(SlotId::Narrow),
        };
        match found {
            Due::None => Expired::None,
            Due::NotYet => Expired::NotYet,
            Due::Now(slot) => self.remove(slot).map_or(Expired::NotYet, Expired::Gone),
        }
    }

    /// Takes everything out, in no promised order, and leaves an empty table. A segment's memory is free once its
    /// connections are handed out.
    pub fn drain(&mut self, mut gone: impl FnMut(Box<Connection>, &mut Self)) {
        let mut narrow = std::mem::take(&mut self.narrow.slots);
        narrow.drain(|slot| self.hand_out(slot.as_ref().key().into(), slot.as_ref().compact(), &mut gone));
        let mut broad = std::mem::take(&mut self.broad.slots);
        broad.drain(|slot| self.hand_out(slot.key().into(), slot.compact(), &mut gone));
        // The same places again, for those who read them.
        (self.narrow.slots, self.broad.slots) = (narrow, broad);
        self.narrow.clear();
        self.broad.clear();
    }

    fn hand_out(&mut self, key: FlowKey, compact: Compact, gone: &mut impl FnMut(Box<Connection>, &mut Self)) {
        if compact.is_some()
            && let Some(connection) = self.copied(key, &compact)
        {
            let connection = self.boxed(connection);
            self.give_back(&compact);
            gone(connection, self);
        }
    }

    /// Whether a connection with this key may be added.
    #[inline]
    pub fn may_insert(&self, lookup: &Lookup) -> bool {
        self.bounds == Bounds::default() || self.has_room(lookup)
    }

    fn has_room(&self, lookup: &Lookup) -> bool {
        let (mut narrow, mut broad) = (self.narrow.slots.capacity(), self.broad.slots.capacity());
        match lookup.words {
            Words::Narrow(_) => narrow = self.narrow.slots.next_capacity(),
            Words::Broad(_) => broad = self.broad.slots.next_capacity(),
        }
        let bytes = self.bytes_with(narrow, broad) + Wheel::MARK_BYTES;
        self.len() < self.bounds.connections && bytes <= self.bounds.bytes
    }

    /// The next connection in the order of places that is not assured, to make room for one with this key. As the kernel's
    /// early drop, it looks at a few and gives up; one that was looked at is the last to be looked at again.
    pub fn victim(&mut self, lookup: &Lookup) -> Option<SlotId> {
        let is_narrow = matches!(lookup.words, Words::Narrow(_));
        let wide = &self.wide;
        let is_assured = |compact: &Compact| match compact.wide() {
            Some(place) => wide.get(place).is_some_and(|wide| wide.load().as_ref().is_some_and(|one| one.is_assured())),
            None => compact.is_assured(),
        };
        // Where memory is short, only a place of the same width helps.
        let any = self.len() >= self.bounds.connections;
        let narrow = if is_narrow || any { self.narrow.victim(is_assured) } else { None };
        match narrow {
            None if !is_narrow || any => self.broad.victim(is_assured).map(SlotId::Broad),
            narrow => narrow.map(SlotId::Narrow),
        }
    }

    /// Bytes of memory that the live connections take.
    pub fn bytes(&self) -> usize {
        self.bytes_with(self.narrow.slots.capacity(), self.broad.slots.capacity())
    }

    /// The same with so many slots of each width.
    fn bytes_with(&self, narrow: usize, broad: usize) -> usize {
        self.narrow.bytes(narrow) + self.broad.bytes(broad) + self.extras.bytes() + self.wide_bytes
    }

    /// How many live.
    pub fn len(&self) -> usize {
        self.narrow.index.len() + self.broad.index.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The live connections, in no promised order.
    pub fn snapshot(&self) -> impl Iterator<Item = Connection> {
        let narrow = self.narrow.slots.iter().map(Lines::as_ref);
        let narrow = narrow.map(|slot| (FlowKey::from(slot.key()), slot.compact()));
        let broad = self.broad.slots.iter().map(|slot| (FlowKey::from(slot.key()), slot.compact()));
        let used = narrow.chain(broad).filter(|(_, compact)| compact.is_some());
        used.filter_map(|(key, compact)| self.copied(key, &compact))
    }

    /// The most connections that ever lived at once.
    pub fn peak(&self) -> usize {
        self.peak
    }
}

/// What was found to be due.
pub enum Expired {
    /// Nothing.
    None,
    /// A connection that lives on.
    NotYet,
    /// This one.
    Gone(Box<Connection>),
}

/// What the wheel says.
enum Due<T> {
    None,
    NotYet,
    Now(T),
}

impl<T> Due<T> {
    fn map<U>(self, place: impl FnOnce(T) -> U) -> Due<U> {
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
    fn slot(&self, number: u32) -> Option<&Slot<K>> {
        self.slots.get(number).map(AsRef::as_ref)
    }

    /// Bytes that it takes with this many slots, in use or not. The index is counted as large as it may be for them.
    fn bytes(&self, slots: usize) -> usize {
        slots * size_of::<S>() + Index::most_bytes(slots) + self.wheel.bytes()
    }

    fn victim(&mut self, is_assured: impl Fn(&Compact) -> bool) -> Option<u32> {
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
    fn touch(&self, hash: u64) -> u64 {
        let slot = self.index.guess(hash).and_then(|slot| self.slot(slot));
        slot.map_or(0, Slot::touch)
    }

    #[inline]
    fn find(&self, hash: u64, key: &[u64; K]) -> Option<u32> {
        self.index.find(hash, |slot| self.slot(slot).is_some_and(|slot| slot.key() == *key))
    }

    #[inline]
    fn insert(
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
    fn update<R>(&mut self, slot: u32, step: impl FnOnce(&mut Compact) -> Option<R>) -> Option<R> {
        let place = self.slot(slot)?;
        self.versions.change(slot, || {
            let mut compact = place.compact();
            let done = step(&mut compact);
            if done.is_some() {
                place.set(&compact);
            }
            done
        })
    }

    fn set(&mut self, slot: u32, compact: &Compact) {
        if let Some(place) = self.slot(slot) {
            self.versions.change(slot, || place.set(compact));
        }
    }

    /// Seconds are told apart by thirty-two bits: a mark is stale if they are not those of its slot. A slot that has a
    /// mark for an earlier second is looked at then, and marked anew.
    #[inline]
    fn arm(&mut self, slot: u32, timeouts: &Timeouts) {
        let Some(place) = self.slot(slot) else { return };
        let second = second_of(place.compact().deadline(timeouts));
        let armed = place.armed();
        let is_nearer = (short(second).wrapping_sub(armed) as i32) < 0 && self.wheel.has_room(self.index.len());
        if armed == 0 || is_nearer {
            place.set_armed(short(second));
            self.wheel.put(slot, second);
        }
    }

    fn due(&mut self, due: i64, timeouts: &Timeouts) -> Due<u32> {
        let Some((slot, second)) = self.wheel.pop(due) else { return Due::None };
        let Some(place) = self.slot(slot) else { return Due::NotYet };
        if place.armed() != short(second) {
            return Due::NotYet;
        }
        place.set_armed(0);
        let compact = place.compact();
        if !compact.is_some() {
            return Due::NotYet;
        }
        if compact.deadline(timeouts) <= due {
            return Due::Now(slot);
        }
        self.arm(slot, timeouts);
        Due::NotYet
    }

    fn remove(&mut self, slot: u32, hasher: &RandomState) {
        if let Some(place) = self.slots.get(slot).map(AsRef::as_ref) {
            self.index.remove(hasher.hash_one(place.key()), slot);
            if !mutant(Mutant::NoVacating) {
                self.versions.change(slot, || place.vacate());
            }
            self.slots.give_back(slot);
        }
    }

    /// Forgets what was in its slots.
    fn clear(&mut self) {
        self.index.clear();
        self.wheel = Wheel::default();
        self.hand = 0;
    }
}
