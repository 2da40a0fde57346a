//! A batch on its way to many trackers: who takes what of it, and what they say.

use crate::pipeline::reading::{Batch, Decoded, Reading};
use conntrack_base::sync::{AtomicUsize, Ordering, Turn};
use conntrack_base::time::Clock;
use conntrack_capture::RecordBatch;
use conntrack_track::config::Config;
use conntrack_track::flow::descriptor::kind;
use conntrack_track::flow::hash::shard_of;
use conntrack_track::flow::icmp::is_icmp;
use conntrack_track::tracker::{Keys, Label, PacketLookup};

/// Where a record went that no tracker takes.
const NOWHERE: u8 = u8::MAX;

/// Something of a batch for one tracker, by the number of its record.
#[derive(Clone, Copy)]
pub(super) enum Item {
    /// A packet.
    Packet(u32),
    /// The question about the quotation of this number.
    Quoted(u32, u32),
}

/// What a tracker says of its part of a batch.
#[derive(Default)]
pub(super) struct LoadLabels {
    /// Of its records, if labels are asked for.
    pub(super) labels: Vec<Label>,
    /// Of the quotations it was asked about.
    pub(super) related: Vec<Option<Label>>,
    /// The records with which its connections began.
    pub(super) begun: Vec<u32>,
}

/// A batch on its way.
pub(super) struct Load {
    pub(super) number: u64,
    pub(super) batch: RecordBatch,
    pub(super) decoded: Decoded,
    /// The keys that ICMP errors quote, who has them, and the errors' records.
    pub(super) quoted: Vec<(PacketLookup, u8, u32)>,
    /// What the clock said, at which records.
    pub(super) ticks: Vec<(u32, i64)>,
    /// Which tracker each record went to.
    pub(super) routes: Vec<u8>,
    /// For each tracker, that of ICMP last.
    pub(super) work: Vec<Vec<Item>>,
    pub(super) said: Vec<Turn<LoadLabels>>,
    /// How many trackers have not taken it yet.
    pub(super) left: AtomicUsize,
}

impl Load {
    pub(super) fn new(trackers: usize) -> Self {
        Self {
            number: 0,
            batch: RecordBatch::default(),
            decoded: Decoded::default(),
            quoted: Vec::new(),
            ticks: Vec::new(),
            routes: Vec::new(),
            work: std::iter::repeat_with(Vec::new).take(trackers).collect(),
            said: std::iter::repeat_with(|| Turn::new(Box::default())).take(trackers).collect(),
            left: AtomicUsize::new(0),
        }
    }
}

/// A connection's number among those of its tracker, with the tracker's.
pub(super) fn among(tracker: usize, label: Label) -> Label {
    Label { connection: label.connection.map(|id| (tracker as u64) << 48 | id), ..label }
}

/// The first of all steps: decodes batches and says where their packets go.
pub(super) struct Front {
    pub(super) reading: Reading,
    pub(super) keys: Keys,
    pub(super) clock: Clock,
    pub(super) loads: u64,
    pub(super) shards: usize,
}

impl Front {
    pub(super) fn new(config: &Config, keys: &Keys, shards: usize) -> Self {
        let reading = Reading::new(config, keys.clone());
        Self { reading, keys: keys.clone(), clock: Clock::default(), loads: 0, shards }
    }

    pub(super) fn take(&mut self, load: &mut Load) {
        let Load { batch, decoded, quoted, ticks, routes, work, .. } = load;
        self.reading.decode(&batch.records, batch, decoded);
        quoted.clear();
        ticks.clear();
        routes.clear();
        work.iter_mut().for_each(Vec::clear);
        let batch = Batch { records: &batch.records, bytes: batch, decoded };
        for (record, number) in batch.records.iter().zip(0..) {
            if let Some(due) = self.clock.tick(record.ts) {
                ticks.push((number, due));
            }
            let one = &decoded.descriptors[number as usize];
            let packet = batch.packets(number as usize).first();
            let route = match packet {
                _ if !one.is(kind::OTHER | kind::ECHO) => shard_of(one.hash, self.shards),
                _ if one.is(kind::ECHO) => self.shards,
                Some(packet) => {
                    if let Some(of_quoted) = self.keys.quoted(packet) {
                        let route = self.route(&of_quoted);
                        work[route].push(Item::Quoted(number, quoted.len() as u32));
                        quoted.push((of_quoted, route as u8, number));
                    }
                    self.route(&self.keys.of(packet))
                }
                None => {
                    routes.push(NOWHERE);
                    continue;
                }
            };
            work[route].push(Item::Packet(number));
            routes.push(route as u8);
        }
        load.number = self.loads;
        self.loads += 1;
        load.left.store(self.shards, Ordering::Release);
    }

    /// Which tracker has this key.
    fn route(&self, found: &PacketLookup) -> usize {
        let key = found.lookup.key();
        if is_icmp(key.proto) { self.shards } else { shard_of(found.lookup.hash, self.shards) }
    }
}
