//! A table in a checkpoint: places and marks as they are, so that what follows finds, expires and evicts the same. Only the
//! index is made anew, since its hash has another key.

use std::io::{self, Read, Write};

use ahash::RandomState;

use super::slots::Slot;
use super::{FlowTable, Table};
use crate::checkpoint::{CheckpointError, Reader, Writer};
use crate::compact::Extras;
use crate::connection::Connection;
use crate::slab::Slab;

impl FlowTable {
    /// Writes everything in it.
    pub fn save(&self, out: &mut Writer<'_, impl Write>) -> io::Result<()> {
        out.put(&(self.peak as u64))?;
        self.narrow.save(out)?;
        self.broad.save(out)?;
        self.extras.save(out)?;
        self.wide.save(out, |place| place.load().as_deref().cloned())
    }

    /// Reads what was written, in place of what is in it: nothing yet.
    pub fn load(&mut self, from: &mut Reader<impl Read>) -> Result<(), CheckpointError> {
        self.peak = from.get::<u64>()? as usize;
        self.narrow = Table::load(from, &self.lookups.0)?;
        self.broad = Table::load(from, &self.lookups.0)?;
        self.extras = Extras::load(from)?;
        self.wide = Slab::load(from, |place: &super::Wide, content: Option<Connection>| {
            place.store(content.map(Into::into));
        })?;
        self.wide_bytes = self.wide.iter().filter_map(|place| place.load().as_ref().map(|one| one.heap_bytes())).sum();
        Ok(())
    }
}

impl<const K: usize, S: AsRef<Slot<K>> + Default> Table<K, S> {
    fn save(&self, out: &mut Writer<'_, impl Write>) -> io::Result<()> {
        self.slots.save(out, |slot| slot.as_ref().raw())?;
        out.put(&self.hand)?;
        out.put_all(self.wheel.marks().len(), self.wheel.marks().iter())
    }

    fn load(from: &mut Reader<impl Read>, hasher: &RandomState) -> Result<Self, CheckpointError> {
        let mut table =
            Self { slots: Slab::load(from, |slot: &S, raw| slot.as_ref().set_raw(&raw))?, ..Self::default() };
        let Self { index, slots, hand, wheel, .. } = &mut table;
        *hand = from.get()?;
        from.get_all(|(second, marked): (i64, Vec<u32>)| {
            for slot in marked {
                wheel.put(slot, second);
            }
            Ok(())
        })?;
        let hash_of = |slot| slots.get(slot).map_or(0, |slot| hasher.hash_one(slot.as_ref().key()));
        for slot in 0..slots.reach() {
            if slots.get(slot).is_some_and(|slot| slot.as_ref().compact().is_some()) {
                index.insert(hash_of(slot), slot, hash_of);
            }
        }
        Ok(table)
    }
}
