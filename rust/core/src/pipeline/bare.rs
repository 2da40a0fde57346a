//! Baseline loops for benchmarks: the path of a packet, cut off after a step.

use conntrack_capture::error::CaptureError;
use conntrack_capture::{Captures, LinkType, RecordBatch};
use conntrack_decode::Decoder;
use conntrack_track::config::Config;
use conntrack_track::conn::{Image, Limits};
use conntrack_track::flow::{Descriptor, KeyHasher};
use conntrack_track::table::{FlowTable, Lookup, NO_SLOT};

use super::following::GROUP;

/// Last step of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Records are read.
    Read,
    /// Every record is decoded by the slow path.
    Decode,
    /// Ordinary frames are read at fixed offsets; their keys are hashed, looked up, and inserted if new.
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

/// Runs the loop over captures. Returns the number of records read, decoded or looked up.
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

/// A table in which every key has a slot, and nothing else.
struct Places {
    table: FlowTable,
    hasher: KeyHasher,
    packets: Vec<(Descriptor, [u64; 4])>,
    guesses: Vec<u32>,
}

impl Places {
    fn new(config: &Config) -> Self {
        let hasher = KeyHasher::new(config.hash_key);
        Self {
            table: FlowTable::new(Limits::new(config.rules), config.bounds, hasher.clone()),
            hasher,
            packets: Vec::with_capacity(GROUP),
            guesses: vec![NO_SLOT; GROUP],
        }
    }

    fn walk(&mut self, batch: &RecordBatch) -> u64 {
        let mut found = 0;
        for records in batch.records.chunks(GROUP) {
            self.packets.clear();
            for record in records.iter().filter(|record| record.linktype == LinkType::ETHERNET) {
                let (mut one, mut broad) = (Descriptor { ts: record.ts, ..Descriptor::default() }, [0; 4]);
                if one.of_frame(batch.bytes(record), &mut broad, &self.hasher) {
                    self.packets.push((one, broad));
                }
            }
            let descriptors = || self.packets.iter().map(|(one, _)| one);
            self.table.look_ahead(descriptors(), &mut self.guesses);
            for ((one, broad), guess) in self.packets.iter().zip(&self.guesses) {
                let lookup = Lookup { words: one.words(broad), hash: one.hash };
                let guess = self.table.guessed(one, *guess);
                if self.table.find(&lookup, guess).is_none() {
                    self.table.insert(&lookup, &Image { flags: 1, ..Image::default() });
                }
            }
            found += self.packets.len() as u64;
        }
        found
    }
}
