//! A table in a checkpoint: slots and marks unchanged, so that lookup, expiry and eviction continue identically, and
//! cold parts up to date. The index is rebuilt, since its hash has another key.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use super::FlowTable;
use super::slot::{Slot, Stored};
use super::width::{Hasher, Table};
use crate::conn::{self, Colds, Image, Limits, path};
use crate::connection::Connection;
use crate::flow::{FlowKey, KeyHasher};
use conntrack_base::checkpoint::{CheckpointError, Reader, Writer};
use conntrack_base::slab::Slab;

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
        self.peak = from.get::<u64>()? as usize;
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
    out.put_all(table.wheel.marks().count(), table.wheel.marks())
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
        let Ok(key) = <[u64; K]>::try_from(stored.key) else { return };
        let image = stored.image.checked(key.into());
        slot.fill(&key, &image);
        slot.hot.armed.set(stored.image.armed);
    };
    let mut table = Table { slots: Slab::load(from, fill)?, ..Table::default() };
    let mut beside = HashMap::new();
    from.get_all(|(number, connection): (u32, Connection)| {
        beside.insert(number, connection);
        Ok(())
    })?;
    let Table { index, slots, hand, wheel, .. } = &mut table;
    *hand = from.get()?;
    from.get_all(|(second, marked): (i64, Vec<u32>)| {
        for slot in marked {
            wheel.put(slot, second);
        }
        Ok(())
    })?;
    let hash_of = |slot| slots.get(slot).map_or(0, |slot| hasher.hash(&slot.key()));
    for number in 0..slots.reach() {
        let Some(slot) = slots.get(number).filter(|slot| slot.is_used()) else { continue };
        if slot.hot.path.get() & path::COLD != 0 {
            let connection = beside.remove(&number).ok_or(CheckpointError::damaged("a cold part is missing"))?;
            if connection.key != slot.key().into() {
                return Err(CheckpointError::damaged("a cold part is of another connection"));
            }
            restore(slot, connection, colds, limits).ok_or(CheckpointError::damaged("too many connections"))?;
        }
        index.insert(hash_of(number), number, hash_of);
    }
    Ok(table)
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
