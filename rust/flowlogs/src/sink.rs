//! The place of records between the readers and the connections: pairs, whole connections, observers, the account.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::account::Account;
use crate::pair::Pairs;
use crate::record::{Flow, Whole};

/// The most connections, and observations of them, in memory.
const MAX_ENTRIES: usize = 1 << 26;
/// The most names of observers.
const MAX_OBSERVERS: usize = 1 << 20;

/// The place where readers put records.
pub struct Sink<'a> {
    /// The account.
    pub account: &'a mut Account,
    pub(crate) pairs: Pairs,
    pub(crate) wholes: Vec<Whole>,
    pub(crate) observers: Observers,
    pub(crate) file: PathBuf,
    /// Line, or byte offset, of the record being read.
    pub place: u64,
    /// A bound that was hit.
    pub(crate) full: Option<String>,
}

/// Names of observers by number; 0 is none.
#[derive(Default)]
pub struct Observers {
    names: Vec<String>,
    numbers: HashMap<Vec<u8>, u32>,
}

impl Observers {
    /// The name of an observer.
    pub fn name(&self, number: u32) -> Option<&str> {
        self.names.get((number as usize).checked_sub(1)?).map(String::as_str)
    }
}

impl Sink<'_> {
    /// Takes a record of one direction or of a part of a connection.
    pub fn flow(&mut self, flow: &Flow) {
        self.account.sampled += u64::from(flow.sampled.is_some_and(|of| of != 1));
        if flow.end < flow.start {
            return self.bad("the end is before the start", b"");
        }
        self.pairs.add(flow);
        if self.pairs.entries() > MAX_ENTRIES {
            self.full.get_or_insert_with(|| format!("more than {MAX_ENTRIES} connections"));
        }
    }

    /// Takes a record of a whole connection.
    pub fn whole(&mut self, whole: Whole) {
        if self.has_room(self.wholes.len()) {
            self.wholes.push(whole);
        }
    }

    /// Test for room beside so many connections.
    pub fn has_room(&mut self, beside: usize) -> bool {
        if beside >= MAX_ENTRIES {
            self.full.get_or_insert_with(|| format!("more than {MAX_ENTRIES} connections"));
        }
        self.full.is_none()
    }

    /// Counts a bad record at the current place.
    pub fn bad(&mut self, reason: &'static str, text: &[u8]) {
        self.account.bad(reason, (&self.file, self.place), text);
    }

    /// Counts a record that tells of missing ones.
    pub fn miss(&mut self, text: &[u8]) {
        self.account.miss((&self.file, self.place), text);
    }

    /// The number of an observer.
    pub fn observer(&mut self, name: &[u8]) -> u32 {
        if name.is_empty() || name == b"-" {
            return 0;
        }
        if let Some(number) = self.observers.numbers.get(name) {
            return *number;
        }
        if self.observers.names.len() >= MAX_OBSERVERS {
            self.full.get_or_insert_with(|| format!("more than {MAX_OBSERVERS} observers"));
            return 0;
        }
        self.observers.names.push(String::from_utf8_lossy(name).into_owned());
        let number = self.observers.names.len() as u32;
        self.observers.numbers.insert(name.to_owned(), number);
        number
    }
}
