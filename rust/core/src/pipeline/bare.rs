//! The bare loops that tracking is measured against: the path cut off after a step, with nothing done there.

use crate::capture::{Captures, RecordBatch};
use crate::compact::Compact;
use crate::config::Config;
use crate::decode::{Brief, Decoder};
use crate::error::CaptureError;
use crate::flow::Words;
use crate::table::{FlowTable, Guess, Lookup, Lookups};

use super::following::GROUP;

/// How far the loop goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Records are read.
    Read,
    /// They are decoded by the decoder, which reads everything.
    Decode,
    /// Ordinary packets are read in brief, their keys hashed and looked up, and those that are new inserted.
    LookUp,
}

impl Depth {
    /// The depth of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "read" => Some(Self::Read),
            "decode" => Some(Self::Decode),
            "look_up" => Some(Self::LookUp),
            _ => None,
        }
    }
}

/// Walks captures so far and no further. Returns how many records there were, gave packets, or were looked up.
pub fn walk(captures: &mut Captures, config: &Config, depth: Depth) -> Result<u64, CaptureError> {
    let mut batch = RecordBatch::default();
    let mut decoder = Decoder::new(config.decode);
    let mut places = Places::new(config);
    let mut packets = Vec::new();
    let mut found = 0;
    while captures.next_batch(&mut batch)? {
        found += match depth {
            Depth::Read => batch.records.len() as u64,
            Depth::Decode => {
                let gave = batch.records.iter().filter(|record| {
                    packets.clear();
                    decoder.decode(record, batch.bytes(record), &mut packets).is_ok()
                });
                gave.count() as u64
            }
            Depth::LookUp => places.walk(&batch),
        };
    }
    Ok(found)
}

/// A table in which every key has a place, and nothing in it.
struct Places {
    table: FlowTable,
    briefs: Vec<(Brief, Lookup)>,
    guesses: Vec<Guess>,
}

impl Places {
    fn new(config: &Config) -> Self {
        Self {
            table: FlowTable::new(config.rules.timeouts, config.bounds, Lookups::new()),
            briefs: Vec::with_capacity(GROUP),
            guesses: Vec::with_capacity(GROUP),
        }
    }

    fn walk(&mut self, batch: &RecordBatch) -> u64 {
        let mut found = 0;
        for records in batch.records.chunks(GROUP) {
            self.briefs.clear();
            self.briefs.extend(records.iter().filter_map(|record| {
                let brief = Brief::read(record, batch.bytes(record))?;
                let lookup = self.table.lookups().lookup(Words::of_ports(&brief.tuple, brief.vlan).0);
                Some((brief, lookup))
            }));
            self.table.touch(self.briefs.iter().map(|(_, lookup)| lookup), &mut self.guesses);
            for ((_, lookup), guess) in self.briefs.iter().zip(&self.guesses) {
                if self.table.find(lookup, *guess).is_none() {
                    self.table.insert_compact(lookup, Compact::beside(0, i64::MAX));
                }
            }
            found += self.briefs.len() as u64;
        }
        found
    }
}
