//! The flow table: find, insert, update, expire.
//!
//! A connection is a slot (key and hot record, [`crate::conn`]), found through one line of the index. An unusual
//! connection also has a whole [`Connection`] in the cold part. A slot's number is stable while its connection lives.
//! Expiry is by capture time and lazy. A connection past its deadline is found dead by the next lookup of its key, or
//! swept by the wheel.
//!
//! Guarantees for readers: a table has one owner at a time, which never waits for readers, and any number of
//! [`Reader`]s in any thread. A reader sees a connection as of between two packets, never in the middle of one. A
//! lookup finds a connection that lived throughout the call, and none that had ended before. A snapshot has every
//! connection that lived throughout the call, exactly once, each as of some moment of the call. Connections that began
//! or ended meanwhile may be included or not.
//!
//! Cost of readers: from the first one on, every change of a slot is a seqlock write, and cold parts are published as
//! copies. Without readers, neither is paid.

mod ahead;
mod final_connection;
mod halves;
mod image;
mod index;
mod reader;
mod room;
mod slot;
mod tags;
#[cfg(all(test, not(feature = "models")))]
mod tests;
mod wheel;
mod width;

use std::sync::Arc;

use crate::config::{Bounds, Rules};
use crate::conn::{self, Colds, Flags, Image, Limits, Shared, path};
use crate::connection::Connection;
use crate::flow::descriptor::kind;
use crate::flow::{Descriptor, FlowKey, KeyHasher, PackedKey};
use conntrack_base::slab::Slab;
use conntrack_base::sync::Published;

pub use final_connection::FinalConnection;
pub use reader::Reader;
pub use room::Full;
pub use width::{NO_SLOT, is_before_mark};

use halves::Tagged;
use width::{Due, Table};

/// A key with its hash.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lookup {
    /// The packed key.
    pub words: PackedKey,
    /// The key's hash.
    pub hash: u64,
}

impl Lookup {
    /// The key.
    #[inline]
    pub fn key(&self) -> FlowKey {
        match self.words {
            PackedKey::V4(key) => key.into(),
            PackedKey::Wide(key) => key.into(),
        }
    }
}

/// A connection's slot, valid until the connection is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotId {
    /// A slot among those with narrow keys.
    V4(u32),
    /// A slot among those with wide keys.
    Wide(u32),
}

impl SlotId {
    /// The number of the slot among those of its width.
    pub fn number(self) -> u32 {
        let (Self::V4(number) | Self::Wide(number)) = self;
        number
    }
}

/// Connections by key.
pub struct FlowTable {
    narrow: Table<2>,
    wide: Table<6>,
    colds: Colds,
    tags: Tagged,
    /// Published copies of the cold parts, by cold number, from the first reader on.
    shown: Slab<ColdCopy>,
    has_readers: bool,
    hasher: KeyHasher,
    limits: Limits,
    bounds: Bounds,
    peak: usize,
}

/// A cold part after its last packet.
type ColdCopy = Published<Option<Arc<Connection>>>;

/// Mutable access to the record of one slot and the cold parts of all.
pub struct Change<'a> {
    /// The record.
    pub hot: &'a Shared,
    /// The cold parts.
    pub colds: &'a mut Colds,
    /// The limits.
    pub limits: &'a Limits,
}

impl FlowTable {
    /// An empty table. No output order depends on the hash.
    pub fn new(limits: Limits, bounds: Bounds, hasher: KeyHasher) -> Self {
        Self {
            narrow: Table::default(),
            wide: Table::default(),
            colds: Colds::default(),
            tags: Tagged::default(),
            shown: Slab::default(),
            has_readers: false,
            hasher,
            limits,
            bounds,
            peak: 0,
        }
    }

    /// Limits of the rules, for the shortcuts.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Test whether a reader was ever created.
    pub fn has_readers(&self) -> bool {
        self.has_readers
    }

    /// The slot of a key's connection.
    #[inline]
    pub fn find(&self, lookup: &Lookup, guess: u32) -> Option<SlotId> {
        match &lookup.words {
            PackedKey::V4(key) => self.narrow.find(lookup.hash, key, guess).map(SlotId::V4),
            PackedKey::Wide(key) => self.wide.find(lookup.hash, key, guess).map(SlotId::Wide),
        }
    }

    /// The slot of a packet's connection.
    #[inline]
    pub fn find_one(&self, one: &Descriptor, wide: &[u64; 4], guess: u32) -> Option<SlotId> {
        if one.is(kind::WIDE) {
            self.wide.find(one.hash, &one.wide(wide), guess).map(SlotId::Wide)
        } else {
            self.narrow.find(one.hash, &one.key, guess).map(SlotId::V4)
        }
    }

    /// Change the record in a guessed narrow slot, if its key matches and the record is ready; see [`Self::change`].
    #[inline]
    pub fn ready<const READERS: bool, R>(
        &mut self,
        key: &[u64; 2],
        guess: u32,
        change: impl FnOnce(&mut Change<'_>) -> R,
    ) -> Option<R> {
        let Self { narrow, colds, limits, .. } = self;
        ready::<2, READERS, R>(narrow, key, guess, (colds, limits), change)
    }

    /// Change the record in a guessed wide slot, if its key matches and the record is ready; see [`Self::change`].
    #[inline]
    pub fn ready_wide<const READERS: bool, R>(
        &mut self,
        key: &[u64; 6],
        guess: u32,
        change: impl FnOnce(&mut Change<'_>) -> R,
    ) -> Option<R> {
        let Self { wide, colds, limits, .. } = self;
        ready::<6, READERS, R>(wide, key, guess, (colds, limits), change)
    }

    /// The record in a slot.
    #[inline]
    pub fn hot(&self, slot: SlotId) -> Option<&Shared> {
        match slot {
            SlotId::V4(slot) => self.narrow.slot(slot).map(|slot| &slot.hot),
            SlotId::Wide(slot) => self.wide.slot(slot).map(|slot| &slot.hot),
        }
    }

    /// Change the record in a slot, and the cold parts, atomically for readers. The caller owes [`Self::arm`] where the
    /// deadline may have become earlier.
    #[inline]
    pub fn change<const READERS: bool, R>(
        &mut self,
        slot: SlotId,
        change: impl FnOnce(&mut Change<'_>) -> R,
    ) -> Option<R> {
        let Self { narrow, wide, colds, limits, .. } = self;
        let (versions, number, hot) = match slot {
            SlotId::V4(slot) => (&narrow.versions, slot, &narrow.slots.get(slot)?.hot),
            SlotId::Wide(slot) => (&wide.versions, slot, &wide.slots.get(slot)?.hot),
        };
        let mut one = Change { hot, colds, limits };
        Some(versions.change_if::<READERS, _>(number, || change(&mut one)))
    }

    fn key_at(&self, slot: SlotId) -> Option<FlowKey> {
        match slot {
            SlotId::V4(slot) => self.narrow.slot(slot).map(|slot| slot.key().into()),
            SlotId::Wide(slot) => self.wide.slot(slot).map(|slot| slot.key().into()),
        }
    }

    /// Begin a step of the slow path. Returns the number of the connection's cold part, up to date, and created where
    /// there was none. The caller owes [`Self::settle`] or [`Self::remove`]; until then readers see the connection as
    /// before.
    pub fn step(&mut self, slot: SlotId) -> Option<u32> {
        let hot = self.hot(slot)?;
        if Flags(hot.flags.get()).kind() == Flags::COLD {
            let number = hot.cold.get();
            self.colds.step(number)?;
            return Some(number);
        }
        let image = hot.image();
        if image.is(path::COLD) {
            conn::sync(&image, self.colds.step(image.cold)?, &self.limits);
            return Some(image.cold);
        }
        let deadline = image.deadline(&self.limits);
        self.colds.insert(conn::expand(&image, self.key_at(slot)?, deadline))
    }

    /// Begin a connection on the slow path. The caller owes [`Self::insert_cold`].
    pub fn begin(&mut self, connection: Connection) -> Option<u32> {
        self.colds.insert(connection)
    }

    /// The connection of the current step.
    pub fn cold(&mut self, number: u32) -> Option<&mut Connection> {
        self.colds.get_mut(number)
    }

    /// The connection of the current step, with the rules.
    #[inline]
    pub fn cold_and_rules(&mut self, number: u32) -> Option<(&mut Connection, &Rules)> {
        Some((self.colds.get_mut(number)?, &self.limits.rules))
    }

    /// Discard a new connection without a slot.
    pub fn forget(&mut self, number: u32) -> Option<Box<Connection>> {
        self.colds.remove(number)
    }

    /// Write the record of a cold part at the end of its step.
    #[inline]
    fn record(&mut self, number: u32, places: u32) -> Image {
        let mut image = Image::default();
        if let Some(connection) = self.colds.account(number) {
            conn::record(connection, &self.limits, &mut image);
        }
        image.cold = number;
        image.path |= places;
        image
    }

    /// End a step: write the record from the connection.
    pub fn settle(&mut self, slot: SlotId, number: u32) {
        let places = self.hot(slot).map_or(0, |hot| hot.path.get() & path::PLACES);
        let image = self.record(number, places);
        let Self { narrow, wide, colds, shown, has_readers, .. } = self;
        let (versions, at, hot) = match slot {
            SlotId::V4(at) => (&narrow.versions, at, narrow.slots.get(at).map(|slot| &slot.hot)),
            SlotId::Wide(at) => (&wide.versions, at, wide.slots.get(at).map(|slot| &slot.hot)),
        };
        let Some(hot) = hot else { return };
        if *has_readers {
            versions.change(at, || {
                show(shown, colds, number);
                hot.store(&image);
            });
        } else {
            hot.store(&image);
        }
        self.arm(slot);
    }

    /// Add a new connection, whose key is not in the table. `places`: those bits of [`path`].
    pub fn insert_cold(&mut self, lookup: &Lookup, number: u32, places: u32) -> Option<SlotId> {
        let image = self.record(number, places);
        if self.has_readers {
            show(&mut self.shown, &self.colds, number);
        }
        self.insert(lookup, &image)
    }

    /// Add a connection whose key is not in the table.
    #[inline]
    pub fn insert(&mut self, lookup: &Lookup, image: &Image) -> Option<SlotId> {
        let Self { hasher, limits, .. } = self;
        let slot = match &lookup.words {
            PackedKey::V4(key) => SlotId::V4(self.narrow.insert(lookup.hash, key, image, hasher, limits)?),
            PackedKey::Wide(key) => SlotId::Wide(self.wide.insert(lookup.hash, key, image, hasher, limits)?),
        };
        self.peak = self.peak.max(self.len());
        if lookup.words.is_tagged() {
            self.add_half(slot, &lookup.words);
        }
        Some(slot)
    }

    /// A copy of the connection in a slot.
    pub fn look(&self, slot: SlotId) -> Option<Connection> {
        self.copied(self.key_at(slot)?, &self.hot(slot)?.image())
    }

    fn copied(&self, key: FlowKey, image: &Image) -> Option<Connection> {
        if !image.is(path::COLD) {
            return Some(conn::expand(image, key, image.deadline(&self.limits)));
        }
        let mut connection = self.colds.get(image.cold)?.clone();
        conn::sync(image, &mut connection, &self.limits);
        Some(connection)
    }

    /// Mark a connection whose deadline may have become earlier, so that the wheel visits its slot in time.
    #[inline]
    pub fn arm(&mut self, slot: SlotId) {
        match slot {
            SlotId::V4(slot) => self.narrow.arm(slot, &self.limits),
            SlotId::Wide(slot) => self.wide.arm(slot, &self.limits),
        }
    }

    /// Remove a connection, and pass the connection to `gone` with its bits [`path::PLACES`].
    #[inline]
    pub fn remove(&mut self, slot: SlotId, gone: impl FnOnce(FinalConnection, u32)) {
        let (Some(key), Some(hot)) = (self.key_at(slot), self.hot(slot)) else { return };
        let image = hot.image();
        self.remove_half(slot, &key);
        match slot {
            SlotId::V4(slot) => self.narrow.remove(slot, &self.hasher),
            SlotId::Wide(slot) => self.wide.remove(slot, &self.hasher),
        }
        self.leave(key, image, gone);
    }

    /// Pass on the connection of a vacated slot.
    #[inline]
    fn leave(&mut self, key: FlowKey, image: Image, gone: impl FnOnce(FinalConnection, u32)) {
        let places = image.path & path::PLACES;
        if !image.is(path::COLD) {
            gone(FinalConnection::Hot { key, image, deadline: image.deadline(&self.limits) }, places);
        } else if let Some(whole) = self.leave_whole(&image) {
            gone(FinalConnection::Whole(whole), places);
        }
    }

    fn leave_whole(&mut self, image: &Image) -> Option<Box<Connection>> {
        if let Some(place) = self.shown.get(image.cold) {
            place.show(None);
        }
        let mut connection = self.colds.remove(image.cold)?;
        conn::sync(image, &mut connection, &self.limits);
        if let Some(reply) = connection.reply_key() {
            self.remove_reply(&reply, image.id);
        }
        Some(connection)
    }

    /// Visit one connection that may be due at this time, in no specified order.
    pub fn expire(&mut self, due: i64) -> Expired {
        let found = match self.narrow.due(due, &self.limits, &self.hasher) {
            Due::None => self.wide.due(due, &self.limits, &self.hasher).map(SlotId::Wide),
            found => found.map(SlotId::V4),
        };
        match found {
            Due::None => Expired::None,
            Due::NotYet => Expired::NotYet,
            Due::Now(slot) => {
                let deadline = self.hot(slot).map_or(due, |hot| hot.deadline(&self.limits));
                Expired::Now(slot, deadline)
            }
        }
    }

    /// Remove all connections, in no specified order, and leave an empty table. A segment's memory is freed after its
    /// connections were passed on.
    pub fn drain(&mut self, mut gone: impl FnMut(FinalConnection, u32)) {
        let mut narrow = std::mem::take(&mut self.narrow.slots);
        narrow.drain(|slot| {
            if slot.is_used() {
                self.leave(slot.key().into(), slot.hot.image(), &mut gone);
            }
        });
        let mut wide = std::mem::take(&mut self.wide.slots);
        wide.drain(|slot| {
            if slot.is_used() {
                self.leave(slot.key().into(), slot.hot.image(), &mut gone);
            }
        });
        // Readers keep the existing slots.
        (self.narrow.slots, self.wide.slots) = (narrow, wide);
        self.narrow.clear();
        self.wide.clear();
        self.clear_halves();
    }

    /// The number of live connections.
    pub fn len(&self) -> usize {
        self.narrow.index.len() + self.wide.index.len()
    }

    /// Test for a table without live connections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The live connections, in no specified order.
    pub fn snapshot(&self) -> impl Iterator<Item = Connection> {
        let narrow = self.narrow.slots.iter().map(|slot| (FlowKey::from(slot.key()), slot.hot.image()));
        let wide = self.wide.slots.iter().map(|slot| (FlowKey::from(slot.key()), slot.hot.image()));
        let used = narrow.chain(wide).filter(|(_, image)| image.is_some());
        used.filter_map(|(key, image)| self.copied(key, &image))
    }

    /// The most live connections at any time.
    pub fn peak(&self) -> usize {
        self.peak
    }
}

/// Publish a copy of a cold part for readers.
fn show(shown: &mut Slab<ColdCopy>, colds: &Colds, number: u32) {
    shown.cover(number);
    if let Some(place) = shown.get(number) {
        place.show(colds.get(number).cloned().map(Arc::new));
    }
}

#[inline]
fn ready<const K: usize, const READERS: bool, R>(
    table: &Table<K>,
    key: &[u64; K],
    guess: u32,
    (colds, limits): (&mut Colds, &Limits),
    change: impl FnOnce(&mut Change<'_>) -> R,
) -> Option<R> {
    let slot = table.slots.get(guess)?;
    // A free slot is not ready.
    if !slot.has(key) || slot.hot.path.get() & (path::READY | path::OUT) != path::READY {
        return None;
    }
    let mut one = Change { hot: &slot.hot, colds, limits };
    Some(table.versions.change_if::<READERS, _>(guess, || change(&mut one)))
}

/// The result of a visit to a connection that may be due.
pub enum Expired {
    /// Nothing is due.
    None,
    /// A live connection.
    NotYet,
    /// The connection in this slot expired at this time.
    Now(SlotId, i64),
}
