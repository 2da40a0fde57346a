//! One row as bytes, for a binary column, and rows from such bytes: what a table of values cannot keep (first windows,
//! the letters of both roles, groups) travels with the connection.
//!
//! The bytes come from anywhere. Places in a store are made anew, and never read from them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use conntrack_base::bytes;
use conntrack_decode::Addr;
use conntrack_track::config::Config;
use conntrack_track::connection::{EndReason, Endpoint};
use conntrack_track::direction::Locality;

use super::packed::{Overflow, Packed, Rare};
use super::segments::Segments;
use super::{Row, Rows};

/// Version of the layout, the first byte of every row.
const VERSION: u8 = 1;

/// A row with its own overflow.
#[derive(Serialize, Deserialize)]
struct Alone {
    packed: Packed,
    addrs: Option<[Addr; 2]>,
    rare: Option<Rare>,
}

/// The bytes of a row.
pub fn bytes(row: Row<'_>) -> Vec<u8> {
    let (packed, addrs) = row.packed.alone(&row.rows.overflow);
    bytes::put(vec![VERSION], &Alone { packed, addrs, rare: row.overflow().copied() })
}

/// Rows from bytes.
pub struct Reader {
    rows: Vec<(Packed, usize)>,
    overflow: Overflow,
    locality: Arc<Locality>,
}

impl Reader {
    /// No rows; directions are seen from the local networks of the configuration.
    pub fn new(config: &Config) -> Self {
        Self::within(Arc::new(Locality::new(config)))
    }

    /// No rows; directions are seen from these networks.
    pub fn within(locality: Arc<Locality>) -> Self {
        Self { rows: Vec::new(), overflow: Overflow::default(), locality }
    }

    /// Adds the row in front of these bytes, and leaves those behind it. An error says what was found.
    pub fn add(&mut self, from: &mut &[u8]) -> Result<(), &'static str> {
        match from.split_first() {
            None => return Err("no bytes"),
            Some((&VERSION, rest)) => *from = rest,
            Some(_) => return Err("a row of another release"),
        }
        let Alone { packed, addrs, rare } = bytes::get(from).ok_or("bytes of no row")?;
        let packed = packed.restored(addrs, rare, &mut self.overflow).ok_or("a row that contradicts itself")?;
        self.rows.push((packed, self.rows.len()));
        Ok(())
    }

    /// Copies a row.
    pub fn copy(&mut self, row: Row<'_>) {
        self.rows.push((row.packed.copied(&row.rows.overflow, &mut self.overflow), self.rows.len()));
    }

    /// The rows in the order of their numbers, and for each its place among those added.
    pub fn in_order(mut self) -> (Rows, Vec<usize>) {
        self.rows.sort_by_key(|(packed, _)| packed.number());
        let mut packed = Segments::default();
        let places = self.rows.iter().map(|(_, place)| *place).collect();
        for (row, _) in self.rows {
            packed.push(row);
        }
        packed.close();
        (Rows { packed, overflow: self.overflow, locality: self.locality, beside: None }, places)
    }
}

impl Rows {
    /// The rows at these indices, in their order.
    ///
    /// # Panics
    ///
    /// If an index is not below [`Self::len`].
    pub fn choose(&self, places: &[usize]) -> impl ExactSizeIterator<Item = Row<'_>> + Clone {
        places.iter().map(|place| self.get(*place).expect("a place among the rows"))
    }

    /// Extends a row: another end, counts of the originator, and reason for the end.
    pub fn extend(&mut self, place: usize, end: i64, sent: Endpoint, reason: EndReason) {
        let Some(rare) = self.get(place).map(Row::rare) else { return };
        if let Some(packed) = self.packed.get_mut(place) {
            (packed.end, packed.end_reason, packed.quiet) = (end, reason, 0);
            packed.put_rare(Rare { sent: [sent, rare.sent[1]], active_until: end, ..rare }, &mut self.overflow);
        }
    }
}
