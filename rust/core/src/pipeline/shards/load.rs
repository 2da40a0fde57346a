//! A batch in flight: its work items by shard, and the labels of each shard.

use crate::pipeline::reading::{Batch, DecodeStage, Decoded};
use conntrack_base::sync::{AtomicUsize, Ordering, Turn};
use conntrack_base::time::Clock;
use conntrack_capture::RecordBatch;
use conntrack_track::config::Config;
use conntrack_track::flow::descriptor::kind;
use conntrack_track::flow::icmp::is_icmp;
use conntrack_track::tracker::{Keys, Label, PacketLookup};

/// Route of a record that no tracker takes.
const NOWHERE: u8 = u8::MAX;

/// Work item of a batch for one tracker, by the index of the record.
#[derive(Clone, Copy)]
pub(super) enum WorkItem {
    /// A packet.
    Packet(u32),
    /// A query for the connection that an ICMP error quotes: indices of the record and of the quotation.
    Quoted(u32, u32),
}

/// Results of one tracker for its part of a batch.
#[derive(Default)]
pub(super) struct ShardResults {
    /// Labels of its records, if wanted.
    pub(super) labels: Vec<Label>,
    /// Answers to queries, in their order.
    pub(super) related: Vec<Option<Label>>,
    /// Records that began a connection.
    pub(super) begun: Vec<u32>,
}

/// A batch in flight.
pub(super) struct Load {
    pub(super) number: u64,
    pub(super) batch: RecordBatch,
    pub(super) decoded: Decoded,
    /// Quotations of ICMP errors: key, shard of the key, record of the error.
    pub(super) quoted: Vec<(PacketLookup, u8, u32)>,
    /// Clock ticks: index of the record, and time, nanoseconds.
    pub(super) ticks: Vec<(u32, i64)>,
    /// Shard of each record.
    pub(super) routes: Vec<u8>,
    /// Work items by shard, that of ICMP last.
    pub(super) work: Vec<Vec<WorkItem>>,
    pub(super) results: Vec<Turn<ShardResults>>,
    /// Trackers that have not finished the batch.
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
            results: std::iter::repeat_with(|| Turn::new(Box::default())).take(trackers).collect(),
            left: AtomicUsize::new(0),
        }
    }
}

/// A label whose connection number has the shard in its upper 16 bits.
pub(super) fn among(tracker: usize, label: Label) -> Label {
    Label { connection: label.connection.map(|id| (tracker as u64) << 48 | id), ..label }
}

/// First stage: decodes batches and routes their packets to shards.
pub(super) struct Front {
    pub(super) reading: DecodeStage,
    pub(super) keys: Keys,
    pub(super) clock: Clock,
    pub(super) loads: u64,
    pub(super) shards: usize,
}

impl Front {
    pub(super) fn new(config: &Config, keys: &Keys, shards: usize) -> Self {
        let reading = DecodeStage::new(config, keys.clone());
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
                _ if !one.is(kind::OTHER | kind::ECHO) => {
                    self.keys.shard_of(one, &decoded.broad[number as usize], self.shards)
                }
                _ if one.is(kind::ECHO) => self.shards,
                Some(packet) => {
                    if let Some(of_quoted) = self.keys.quoted(packet) {
                        let route = self.route(&of_quoted);
                        work[route].push(WorkItem::Quoted(number, quoted.len() as u32));
                        quoted.push((of_quoted, route as u8, number));
                    }
                    self.route(&self.keys.of(packet))
                }
                None => {
                    routes.push(NOWHERE);
                    continue;
                }
            };
            work[route].push(WorkItem::Packet(number));
            routes.push(route as u8);
        }
        load.number = self.loads;
        self.loads += 1;
        load.left.store(self.shards, Ordering::Release);
    }

    /// Shard of a key.
    fn route(&self, found: &PacketLookup) -> usize {
        let key = found.lookup.key();
        if is_icmp(key.proto) { self.shards } else { self.keys.shard(&found.lookup, self.shards) }
    }
}
