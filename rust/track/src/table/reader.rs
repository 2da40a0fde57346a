//! Concurrent reads of a table. See the guarantees in [`crate::table`].

use std::sync::Arc;

use super::index::IndexView;
use super::slot::Slot;
use super::{ColdCopy, FlowTable, Lookup, SlotId, Table, show, tags};
use crate::conn::{self, Image, Limits, path};
use crate::connection::Connection;
use crate::flow::{FlowKey, KeyHasher, PackedKey, Wide};
use conntrack_base::slab::Places;
use conntrack_base::sync::{Mutant, Versions, mutant};

/// A reader of a table, for any thread.
#[derive(Clone)]
pub struct Reader {
    narrow: ReaderTable<2>,
    wide: ReaderTable<6>,
    replies: ReaderTable<6>,
    cold_parts: ColdParts,
    hasher: KeyHasher,
}

/// Reader's access to the connections of one key width.
struct ReaderTable<const K: usize> {
    index: IndexView,
    slots: Places<Slot<K>>,
    versions: Arc<Versions>,
}

/// Reader's access to the data outside of slots.
#[derive(Clone)]
struct ColdParts {
    colds: Places<ColdCopy>,
    limits: Arc<Limits>,
}

impl FlowTable {
    /// Create a reader. The first one publishes the existing cold parts.
    pub fn reader(&mut self) -> Reader {
        if !self.has_readers {
            self.has_readers = true;
            let narrow = self.narrow.slots.iter().map(|slot| slot.hot.image());
            let images = narrow.chain(self.wide.slots.iter().map(|slot| slot.hot.image()));
            let colds: Vec<_> = images.filter(|image| image.is_some() && image.is(path::COLD)).collect();
            for image in colds {
                show(&mut self.shown, &self.colds, image.cold);
            }
        }
        Reader {
            narrow: self.narrow.shown(),
            wide: self.wide.shown(),
            replies: self.tags.replies.shown(),
            cold_parts: ColdParts { colds: self.shown.places(), limits: Arc::new(self.limits.clone()) },
            hasher: self.hasher.clone(),
        }
    }
}

impl<const K: usize> Clone for ReaderTable<K> {
    fn clone(&self) -> Self {
        Self { index: self.index.clone(), slots: self.slots.clone(), versions: self.versions.clone() }
    }
}

impl<const K: usize> Table<K> {
    fn shown(&self) -> ReaderTable<K> {
        ReaderTable { index: self.index.view(), slots: self.slots.places(), versions: self.versions.clone() }
    }
}

impl Reader {
    /// A packed key with its hash, for a lookup.
    pub fn lookup_of(&self, words: PackedKey) -> Lookup {
        Lookup { words, hash: self.hasher.words(&words) }
    }

    /// The connection of a key, if there is one: with this key, or joined by packets with this key.
    pub fn lookup(&self, lookup: &Lookup) -> Option<Connection> {
        let found = match &lookup.words {
            PackedKey::V4(key) => self.narrow.lookup(lookup.hash, key, &self.cold_parts),
            PackedKey::Wide(key) => self.wide.lookup(lookup.hash, key, &self.cold_parts),
        };
        found.or_else(|| self.joined(&lookup.key().wide()))
    }

    /// The connection that packets with this key have joined.
    fn joined(&self, key: &Wide) -> Option<Connection> {
        let mut found = None;
        self.replies.index.find(self.hasher.wide(key), |slot| {
            found = self.replies.image(slot).filter(|(of, _)| of == key);
            found.is_some()
        });
        let (_, reply) = found?;
        let connection = match tags::target(&reply) {
            SlotId::V4(slot) => self.narrow.at(slot, &self.cold_parts)?.1,
            SlotId::Wide(slot) => self.wide.at(slot, &self.cold_parts)?.1,
        };
        (connection.id as u32 == reply.id).then_some(connection)
    }

    /// The live connections, in no specified order.
    pub fn snapshot(&self) -> impl Iterator<Item = Connection> {
        self.narrow.snapshot(&self.cold_parts).chain(self.wide.snapshot(&self.cold_parts))
    }
}

impl<const K: usize> ReaderTable<K>
where
    FlowKey: From<[u64; K]>,
{
    fn lookup(&self, hash: u64, key: &[u64; K], cold_parts: &ColdParts) -> Option<Connection> {
        let mut found = None;
        self.index.find(hash, |slot| {
            found = self.at(slot, cold_parts).filter(|(of, _)| of == key || mutant(Mutant::NoCompare));
            found.is_some()
        });
        found.map(|(_, connection)| connection)
    }

    fn snapshot(&self, cold_parts: &ColdParts) -> impl Iterator<Item = Connection> {
        self.slots.numbers().filter_map(|slot| self.at(slot, cold_parts)).map(|(_, connection)| connection)
    }

    /// The key and the record of a slot, as of between two changes.
    fn image(&self, slot: u32) -> Option<([u64; K], Image)> {
        self.versions.read(slot, || {
            let (image, key) = self.slots.with(slot, |slot| (slot.hot.read(), slot.read_key()))?;
            image.is_some().then_some((key, image))
        })
    }

    /// The key and the connection of a slot, as of between two changes.
    fn at(&self, slot: u32, cold_parts: &ColdParts) -> Option<([u64; K], Connection)> {
        let (key, image, cold) = self.versions.read(slot, || {
            let (image, key) = self.slots.with(slot, |slot| (slot.hot.read(), slot.read_key()))?;
            let is_cold = image.is_some() && image.is(path::COLD);
            let shown = if is_cold { cold_parts.colds.with(image.cold, ColdCopy::get) } else { None };
            let cold = shown.and_then(|shown| Option::clone(&shown));
            image.is_some().then_some((key, image, cold))
        })?;
        if !image.is(path::COLD) {
            return Some((key, conn::expand(&image, key.into(), image.deadline(&cold_parts.limits))));
        }
        // After a concurrent drain, the number may already be another connection's.
        let cold = cold.filter(|cold| cold.id as u32 == image.id && cold.key == key.into())?;
        let mut connection = Connection::clone(&cold);
        conn::sync(&image, &mut connection, &cold_parts.limits);
        Some((key, connection))
    }
}
