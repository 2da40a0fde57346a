//! A table in a checkpoint: slots and marks unchanged, so that lookup, expiry and eviction continue identically, and
//! cold parts up to date. The index is rebuilt, since its hash has another key.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use super::FlowTable;
use super::slot::{Slot, Stored};
use super::width::{Hasher, Table};
use crate::conn::{self, Colds, Image, Limits, path};
use crate::connection::Connection;
use crate::flow::{FlowKey, KeyHasher, PackedKey};
use conntrack_base::checkpoint::{CheckpointError, Count, Reader, Writer};
use conntrack_base::slab::Slab;
use conntrack_base::time::SECOND;

/// Marks of an element of the wheel's list, so that a part of the list has a bounded length.
const MARKS: usize = 1 << 10;
/// Seconds of the nanoseconds of an i64, and some.
const SECONDS: std::ops::RangeInclusive<i64> = i64::MIN / SECOND - 2..=i64::MAX / SECOND + 2;

impl FlowTable {
    /// Write the whole table.
    pub fn save(&self, out: &mut Writer<'_, impl Write>) -> io::Result<()> {
        out.put(&(self.peak as u64))?;
        save(&self.narrow, self, out)?;
        save(&self.wide, self, out)?;
        self.save_halves(out)
    }

    /// Read a saved table into an empty one.
    pub fn load(&mut self, from: &mut Reader<impl Read>) -> Result<(), CheckpointError> {
        // The peak of the run before; this one begins anew.
        let _: Count = from.get()?;
        self.narrow = load(from, &mut self.colds, &self.hasher, &self.limits)?;
        self.wide = load(from, &mut self.colds, &self.hasher, &self.limits)?;
        self.load_halves(from)?;
        self.restore_replies()
    }
}

/// Write slots with their records, then the cold parts by slot, then the wheel.
fn save<const K: usize>(table: &Table<K>, all: &FlowTable, out: &mut Writer<'_, impl Write>) -> io::Result<()>
where
    FlowKey: From<[u64; K]>,
{
    table.slots.save(out, |slot| Stored { key: slot.key().to_vec(), image: slot.hot.image() })?;
    let slots = || table.slots.iter().zip(0_u32..).map(|(slot, number)| (slot, slot.hot.image(), number));
    let cold = || slots().filter(|(_, image, _)| image.is_some() && image.is(path::COLD));
    let copies = cold().filter_map(|(slot, image, number)| Some((number, all.copied(slot.key().into(), &image)?)));
    out.put_all(cold().count(), copies)?;
    out.put(&table.hand)?;
    let marks =
        || table.wheel.marks().flat_map(|(second, slots)| slots.chunks(MARKS).map(move |slots| (second, slots)));
    out.put_all(marks().count(), marks())
}

fn load<const K: usize>(
    from: &mut Reader<impl Read>,
    colds: &mut Colds,
    hasher: &KeyHasher,
    limits: &Limits,
) -> Result<Table<K>, CheckpointError>
where
    FlowKey: From<[u64; K]>,
    KeyHasher: Hasher<K>,
{
    let fill = |slot: &Slot<K>, stored: Stored| {
        let key = <[u64; K]>::try_from(stored.key).map_err(|_| damaged("a key has another width"))?;
        if stored.image.is_some() && !is_canonical(&key) {
            return Err(damaged("a key contradicts itself"));
        }
        let image = stored.image.checked(key.into());
        if image.is_some() != stored.image.is_some() {
            return Err(damaged("a record contradicts itself or its key"));
        }
        slot.fill(&key, &image);
        slot.hot.armed.set(stored.image.armed);
        Ok(())
    };
    let mut table = Table { slots: Slab::load(from, fill)?, ..Table::default() };
    check_free(&table)?;
    let mut restored = HashSet::new();
    from.get_all(|(number, connection): (u32, Connection)| {
        let slot = table.slots.get(number).filter(|slot| slot.is_used() && slot.hot.path.get() & path::COLD != 0);
        let slot = slot.filter(|_| restored.insert(number)).ok_or(damaged("a cold part is of no connection"))?;
        if connection.key != slot.key().into() || !connection.is_sound() {
            return Err(damaged("a cold part contradicts itself or its key"));
        }
        restore(slot, connection, colds, limits).ok_or(damaged("too many connections"))
    })?;
    let Table { index, slots, hand, wheel, .. } = &mut table;
    *hand = from.get()?;
    from.get_all(|(second, marked): (i64, Vec<u32>)| {
        if !SECONDS.contains(&second) {
            return Err(damaged("a mark has no time"));
        }
        for slot in marked {
            if slot >= slots.reach() {
                return Err(damaged("a mark has no slot"));
            }
            wheel.put(slot, second);
        }
        Ok(())
    })?;
    let hash_of = |slot| slots.get(slot).map_or(0, |slot| hasher.hash(&slot.key()));
    for number in 0..slots.reach() {
        let Some(slot) = slots.get(number).filter(|slot| slot.is_used()) else { continue };
        if slot.hot.path.get() & path::COLD != 0 && !restored.contains(&number) {
            return Err(damaged("a cold part is missing"));
        }
        let (hash, key) = (hash_of(number), slot.key());
        // Copies of a key would share a chain of buckets.
        if index.find(hash, |other| slots.get(other).is_some_and(|slot| slot.has(&key))).is_some() {
            return Err(damaged("a key is there twice"));
        }
        index.insert(hash, number, hash_of);
    }
    Ok(table)
}

fn damaged(what: &'static str) -> CheckpointError {
    CheckpointError::damaged(what)
}

/// Test for the words that a packet's key has.
fn is_canonical<const K: usize>(words: &[u64; K]) -> bool
where
    FlowKey: From<[u64; K]>,
{
    match FlowKey::from(*words).words() {
        PackedKey::V4(own) => own[..] == words[..],
        PackedKey::Wide(own) => own[..] == words[..],
    }
}

/// Check that the slots of the free list are those without a connection.
fn check_free<const K: usize>(table: &Table<K>) -> Result<(), CheckpointError> {
    let is_used = |number: &u32| table.slot(*number).is_some_and(Slot::is_used);
    let used = (0..table.slots.reach()).filter(is_used).count();
    if table.slots.free().iter().any(is_used) || used != table.slots.len() {
        return Err(damaged("a free place is none"));
    }
    Ok(())
}

/// Restore the cold part of a slot.
fn restore<const K: usize>(slot: &Slot<K>, connection: Connection, colds: &mut Colds, limits: &Limits) -> Option<()> {
    let mut image = Image::default();
    conn::record(&connection, limits, &mut image);
    image.path |= slot.hot.path.get() & path::PLACES;
    image.cold = colds.insert(connection)?;
    colds.account(image.cold);
    slot.hot.store(&image);
    Some(())
}
