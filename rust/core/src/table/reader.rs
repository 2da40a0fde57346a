//! Reads a table beside its owner. See the promise in [`crate::table`].

use std::sync::Arc;

use super::index::View;
use super::slots::{Lines, Slot};
use super::{FlowTable, Lookup, Lookups, Table, Wide};
use crate::compact::ExtraPlaces;
use crate::config::Timeouts;
use crate::connection::Connection;
use crate::flow::{FlowKey, Words};
use crate::slab::Places;
use crate::sync::{Mutant, Versions, mutant};

/// Reads a table from any thread.
#[derive(Clone)]
pub struct Reader {
    narrow: Shown<2, Lines>,
    broad: Shown<6, Slot<6>>,
    beside: Beside,
    lookups: Lookups,
}

/// What readers see of the connections whose keys have the same width.
struct Shown<const K: usize, S> {
    index: View,
    slots: Places<S>,
    versions: Arc<Versions>,
}

/// What is beside slots.
#[derive(Clone)]
struct Beside {
    extras: ExtraPlaces,
    wide: Places<Wide>,
    timeouts: Timeouts,
}

impl FlowTable {
    /// Reads it from now on.
    pub fn reader(&self) -> Reader {
        Reader {
            narrow: self.narrow.shown(),
            broad: self.broad.shown(),
            beside: Beside { extras: self.extras.places(), wide: self.wide.places(), timeouts: self.timeouts },
            lookups: self.lookups.clone(),
        }
    }
}

impl<const K: usize, S> Clone for Shown<K, S> {
    fn clone(&self) -> Self {
        Self { index: self.index.clone(), slots: self.slots.clone(), versions: self.versions.clone() }
    }
}

impl<const K: usize, S> Table<K, S> {
    fn shown(&self) -> Shown<K, S> {
        Shown { index: self.index.view(), slots: self.slots.places(), versions: self.versions.clone() }
    }
}

impl Reader {
    /// How keys are hashed.
    pub fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    /// The connection of a key, if it has one.
    pub fn lookup(&self, lookup: &Lookup) -> Option<Connection> {
        match &lookup.words {
            Words::Narrow(key) => self.narrow.lookup(lookup.hash, key, &self.beside),
            Words::Broad(key) => self.broad.lookup(lookup.hash, key, &self.beside),
        }
    }

    /// The live connections, in no promised order.
    pub fn snapshot(&self) -> impl Iterator<Item = Connection> {
        self.narrow.snapshot(&self.beside).chain(self.broad.snapshot(&self.beside))
    }
}

impl<const K: usize, S: AsRef<Slot<K>>> Shown<K, S>
where
    FlowKey: From<[u64; K]>,
{
    fn lookup(&self, hash: u64, key: &[u64; K], beside: &Beside) -> Option<Connection> {
        let mut found = None;
        self.index.find(hash, |slot| {
            found = self.at(slot, beside).filter(|(of, _)| of == key || mutant(Mutant::NoCompare));
            found.is_some()
        });
        found.map(|(_, connection)| connection)
    }

    fn snapshot(&self, beside: &Beside) -> impl Iterator<Item = Connection> {
        self.slots.numbers().filter_map(|slot| self.at(slot, beside)).map(|(_, connection)| connection)
    }

    /// The key and the connection at a place, between two changes.
    fn at(&self, slot: u32, beside: &Beside) -> Option<([u64; K], Connection)> {
        let (key, compact, wide, extra) = self.versions.read(slot, || {
            let (key, compact) = self.slots.with(slot, |slot| (slot.as_ref().key(), slot.as_ref().compact()))?;
            let wide = compact.wide().and_then(|wide| beside.wide.with(wide, Wide::load_full).flatten());
            let extra = compact.extra().and_then(|extra| beside.extras.get(extra));
            compact.is_some().then_some((key, compact, wide, extra))
        })?;
        let connection = match wide {
            Some(wide) => Connection::clone(&wide),
            None if compact.wide().is_some() => return None,
            None => compact.unpack(key.into(), extra.as_ref(), compact.deadline(&beside.timeouts)),
        };
        Some((key, connection))
    }
}
