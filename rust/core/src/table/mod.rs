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

mod gone;
mod image;
mod index;
mod lookup;
mod reader;
mod slots;
#[cfg(all(test, not(feature = "models")))]
mod tests;
mod wheel;
mod width;

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::compact::{Compact, Extras, Kept};
use crate::config::{Bounds, Timeouts};
use crate::connection::Connection;
use crate::flow::{FlowKey, Words};
use crate::slab::Slab;

pub use gone::Gone;
pub use lookup::{Lookup, Lookups};
pub use reader::Reader;
pub use width::Guess;

use slots::{Lines, Slot};
use wheel::Wheel;
use width::{Due, Table};

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

    /// Reads what lookups and changes of these will read: first all lines of the index, then all slots, so that they wait for
    /// memory together. `guesses` are then theirs, in their order.
    #[inline]
    pub fn touch<'a>(&self, lookups: impl Iterator<Item = &'a Lookup> + Clone, guesses: &mut Vec<Guess>) {
        let touched = lookups.clone().fold(0, |all, lookup| all ^ self.touch_index(lookup));
        guesses.clear();
        guesses.extend(lookups.clone().map(|lookup| self.guess(lookup)));
        // With little between them, so that many are under way at once.
        let slots = lookups.zip(guesses.iter());
        let touched = slots.fold(touched, |all, (lookup, guess)| all ^ self.touch_slot(lookup, *guess));
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
    fn guess(&self, lookup: &Lookup) -> Guess {
        match lookup.words {
            Words::Narrow(_) => self.narrow.index.guess(lookup.hash),
            Words::Broad(_) => self.broad.index.guess(lookup.hash),
        }
        .map_or_else(Guess::default, Guess)
    }

    #[inline]
    fn touch_slot(&self, lookup: &Lookup, guess: Guess) -> u64 {
        match lookup.words {
            Words::Narrow(_) => self.narrow.slot(guess.0).map_or(0, Slot::touch),
            Words::Broad(_) => self.broad.slot(guess.0).map_or(0, Slot::touch),
        }
    }

    /// The place of a key's connection.
    #[inline]
    pub fn find(&self, lookup: &Lookup, guess: Guess) -> Option<SlotId> {
        match &lookup.words {
            Words::Narrow(key) => self.narrow.find(lookup.hash, key, guess).map(|(slot, _)| SlotId::Narrow(slot)),
            Words::Broad(key) => self.broad.find(lookup.hash, key, guess).map(|(slot, _)| SlotId::Broad(slot)),
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

    /// Finds a key's connection and changes what is kept there, and the extra lines, at once for readers; nothing where `step`
    /// gives None. [`Self::arm`] is owed afterwards where the deadline may have come nearer.
    #[inline]
    pub fn change<R>(
        &mut self,
        lookup: &Lookup,
        guess: Guess,
        step: impl FnOnce(&mut Compact, &mut Extras) -> Option<R>,
    ) -> Option<(SlotId, Option<R>)> {
        let step = |compact: &mut Compact| step(compact, &mut self.extras);
        match &lookup.words {
            Words::Narrow(key) => {
                let (slot, done) = self.narrow.change(lookup.hash, key, guess, step)?;
                Some((SlotId::Narrow(slot), done))
            }
            Words::Broad(key) => {
                let (slot, done) = self.broad.change(lookup.hash, key, guess, step)?;
                Some((SlotId::Broad(slot), done))
            }
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
        Some(self.kept(key, compact).connection())
    }

    /// What is in a slot, and not in a box.
    #[inline]
    fn kept(&self, key: FlowKey, compact: &Compact) -> Kept {
        let extra = compact.extra().and_then(|number| self.extras.get(number));
        Kept::new(key, *compact, extra, compact.deadline(&self.timeouts))
    }

    /// The same of any, which is about to leave.
    #[inline]
    fn leaving(&mut self, key: FlowKey, compact: &Compact) -> Option<Gone> {
        if compact.wide().is_none() {
            return Some(Gone::Kept(self.kept(key, compact)));
        }
        let connection = self.copied(key, compact)?;
        Some(Gone::Whole(self.boxed(connection)))
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
    pub fn remove(&mut self, slot: SlotId) -> Option<Gone> {
        let gone = self.leaving(self.key_at(slot)?, &self.at(slot)?);
        self.discard(slot);
        gone
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
    pub fn drain(&mut self, mut gone: impl FnMut(Gone, &mut Self)) {
        let mut narrow = std::mem::take(&mut self.narrow.slots);
        narrow.drain(|slot| self.hand_out(slot.as_ref().key().into(), slot.as_ref().compact(), &mut gone));
        let mut broad = std::mem::take(&mut self.broad.slots);
        broad.drain(|slot| self.hand_out(slot.key().into(), slot.compact(), &mut gone));
        // The same places again, for those who read them.
        (self.narrow.slots, self.broad.slots) = (narrow, broad);
        self.narrow.clear();
        self.broad.clear();
    }

    fn hand_out(&mut self, key: FlowKey, compact: Compact, gone: &mut impl FnMut(Gone, &mut Self)) {
        if compact.is_some()
            && let Some(leaving) = self.leaving(key, &compact)
        {
            self.give_back(&compact);
            gone(leaving, self);
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
#[expect(clippy::large_enum_variant, reason = "it is looked at once, where it was made")]
pub enum Expired {
    /// Nothing.
    None,
    /// A connection that lives on.
    NotYet,
    /// This one.
    Gone(Gone),
}
