//! The flow table: get or insert, update, expire, snapshot.
//!
//! One owner, one thread. A slot's index is stable while its connection lives; expiry is by capture time and lazy: a
//! connection past its deadline is found dead by the packet that looks it up, or swept by the wheel when nobody asks.

mod wheel;

use ahash::RandomState;
use hashbrown::HashTable;

use crate::connection::Connection;
use crate::flow::FlowKey;

use wheel::{Armed, Wheel};

/// Connections by key.
pub struct FlowTable {
    index: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    wheel: Wheel,
    hasher: RandomState,
    peak: usize,
}

struct Slot {
    connection: Option<Connection>,
    generation: u32,
    armed: Armed,
}

/// A place in the table, valid until its connection is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotId(u32);

impl Default for FlowTable {
    /// An empty table, whose hash is keyed with fresh random numbers: tuples chosen to collide gain nothing. No order
    /// that depends on the hash leaves the table.
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            wheel: Wheel::default(),
            hasher: RandomState::new(),
            peak: 0,
        }
    }
}

impl FlowTable {
    /// The place of a key's connection.
    #[inline]
    pub fn get(&self, key: &FlowKey) -> Option<SlotId> {
        let hash = self.hasher.hash_one(key);
        self.index.find(hash, |slot| self.key_of(*slot) == Some(key)).map(|slot| SlotId(*slot))
    }

    fn key_of(&self, slot: u32) -> Option<&FlowKey> {
        self.slots.get(slot as usize)?.connection.as_ref().map(|connection| &connection.key)
    }

    /// The connection at a place.
    #[inline]
    pub fn at(&self, slot: SlotId) -> Option<&Connection> {
        self.slots.get(slot.0 as usize)?.connection.as_ref()
    }

    /// The connection at a place, to be updated.
    #[inline]
    pub fn at_mut(&mut self, slot: SlotId) -> Option<&mut Connection> {
        self.slots.get_mut(slot.0 as usize)?.connection.as_mut()
    }

    /// Adds a connection whose key is not in the table.
    pub fn insert(&mut self, connection: Connection) -> SlotId {
        let hash = self.hasher.hash_one(connection.key);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { connection: None, generation: 0, armed: Armed::default() });
            (self.slots.len() - 1) as u32
        });
        let place = &mut self.slots[slot as usize];
        place.connection = Some(connection);
        place.armed = Armed::default();
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.index.insert_unique(hash, slot, |slot| {
            let key = slots[*slot as usize].connection.as_ref().map(|connection| connection.key);
            hasher.hash_one(key.unwrap_or_default())
        });
        self.peak = self.peak.max(self.index.len());
        SlotId(slot)
    }

    /// Makes sure that a connection, whose deadline may have come nearer, is looked at when it is due. Owed after every
    /// update.
    #[inline]
    pub fn arm(&mut self, slot: SlotId) {
        let Some(place) = self.slots.get_mut(slot.0 as usize) else { return };
        if let Some(connection) = &place.connection {
            self.wheel.arm((slot.0, place.generation), &mut place.armed, connection.deadline);
        }
    }

    /// Takes a connection out.
    pub fn remove(&mut self, slot: SlotId) -> Option<Connection> {
        let place = self.slots.get_mut(slot.0 as usize)?;
        let connection = place.connection.take()?;
        place.generation = place.generation.wrapping_add(1);
        let hash = self.hasher.hash_one(connection.key);
        if let Ok(entry) = self.index.find_entry(hash, |found| *found == slot.0) {
            entry.remove();
        }
        self.free.push(slot.0);
        Some(connection)
    }

    /// Takes out every connection whose deadline is `due` or earlier, in no promised order.
    pub fn expire(&mut self, due: i64, mut gone: impl FnMut(Connection)) {
        while let Some(((slot, generation), second)) = self.wheel.pop(due) {
            let Some(place) = self.slots.get_mut(slot as usize) else { continue };
            let Some(connection) = place.connection.as_ref().filter(|_| place.generation == generation) else {
                continue;
            };
            let deadline = connection.deadline;
            if !place.armed.take(second) {
                continue;
            }
            if deadline > due {
                self.wheel.again((slot, generation), &mut place.armed, deadline);
            } else if let Some(connection) = self.remove(SlotId(slot)) {
                gone(connection);
            }
        }
    }

    /// The live connections, in no promised order.
    pub fn snapshot(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().filter_map(|slot| slot.connection.as_ref())
    }

    /// Empties the table, in no promised order.
    pub fn drain(&mut self) -> impl Iterator<Item = Connection> {
        self.index.clear();
        self.free.clear();
        self.wheel = Wheel::default();
        self.slots.drain(..).filter_map(|slot| slot.connection)
    }

    /// The most connections that ever lived at once.
    pub fn peak(&self) -> usize {
        self.peak
    }
}
