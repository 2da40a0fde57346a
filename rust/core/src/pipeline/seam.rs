//! The two halves of a distributed run. [`Headers`] reads records to headers with their shard, file by file. An engine groups
//! and sorts the headers. [`ShardTracker`] tracks the connections of a shard.
//!
//! Results do not depend on the number of shards. A shard has all packets of its pairs of addresses, and a connection ends by
//! the times of its own packets. Its identifier is a hash of its key and of the position of its first packet.

use std::collections::{HashMap, HashSet, VecDeque};

use sha1::{Digest as _, Sha1};

use conntrack_base::time::{Clock, timed};
use conntrack_capture::error::CaptureError;
use conntrack_capture::{Captures, LinkType, Record, RecordBatch};
use conntrack_decode::{Flat, L4, Packet, flat};
use conntrack_output::rows::Rows;
use conntrack_output::stats::Stats;
use conntrack_track::config::Config;
use conntrack_track::direction;
use conntrack_track::flow::descriptor::kind;
use conntrack_track::flow::{FlowKey, shard};
use conntrack_track::tracker::{Keys, Label, Tracker};

use super::following::{GROUP, TrackStage};
use super::header;
use super::noted::{FactsSoFar, Noted};
use super::reading::{Batch, DecodeStage, Decoded};
use crate::hindsight::Id;

/// Reads the headers of captures.
pub struct Headers {
    captures: Captures,
    batch: RecordBatch,
    reading: DecodeStage,
    decoded: Decoded,
    keys: Keys,
    /// Payloads without evidence are left out, unless checksums are verified.
    abridges: bool,
    begins: Begins,
}

/// Begins of files. The first record of a file may carry no packet, and its time goes with the next one that does.
#[derive(Default)]
struct Begins {
    files: HashSet<u32>,
    waiting: VecDeque<i64>,
}

impl Begins {
    fn note(&mut self, record: &Record) {
        if let Some(ts) = timed(record.ts).filter(|_| self.files.insert(record.file)) {
            self.waiting.push_back(ts);
        }
    }
}

/// A record with a packet, and the cell that its connection belongs to.
pub struct CellRecord {
    /// Capture time, nanoseconds.
    pub ts: i64,
    /// Index of the file among those read.
    pub file: u32,
    /// Byte offset of the record in the file.
    pub offset: u64,
    /// The innermost tracked packet; the outermost one for a tunnelled fragment captured before its first fragment.
    pub packet: Packet,
    /// Cell of the packet's pair of addresses.
    pub cell: u16,
    /// What the tracker reads of the record; see [`super::header()`].
    pub bytes: Vec<u8>,
}

impl Headers {
    /// Headers of captures, which are one file or are merged by time. `begins`: a single file is read from its begin, not
    /// from within.
    pub fn new(captures: Captures, config: &Config, begins: bool) -> Self {
        let keys = Keys::new(config);
        Self {
            captures,
            batch: RecordBatch::default(),
            reading: DecodeStage::new(config, keys.clone()).without_hindsight(),
            decoded: Decoded::default(),
            keys,
            abridges: !config.decode.checksum,
            begins: if begins { Begins::default() } else { Begins { files: HashSet::from([0]), ..Begins::default() } },
        }
    }

    /// Reads the next batch, and visits the records that have a packet; false at the end.
    pub fn next(&mut self, mut visit: impl FnMut(CellRecord)) -> Result<bool, CaptureError> {
        let more = self.captures.next_batch(&mut self.batch)?;
        let Self { batch, reading, decoded, begins, keys, abridges, .. } = self;
        let keys = abridges.then_some(&*keys);
        let mut visit = |record: &Record, bytes: &[u8], begin: Option<i64>, packet: Packet| {
            let (Record { ts, file, offset, .. }, cell) = (*record, shard::cell_of(&packet));
            visit(CellRecord { ts, file, offset, packet, cell, bytes: header::put(record, bytes, begin, keys) });
        };
        reading.decode(&batch.records, batch, decoded);
        let batch = Batch { records: &batch.records, bytes: batch, decoded };
        for (at, record) in batch.records.iter().enumerate() {
            begins.note(record);
            let (one, bytes) = (&decoded.descriptors[at], batch.frame(at));
            if one.is(kind::OTHER | kind::DECODED | kind::ECHO) {
                let packet = batch.packet(at).filter(|_| !one.is(kind::OTHER) || one.count > 0);
                let is_early = one.is(kind::OTHER) && one.count == 0 && one.is(kind::EARLY);
                if let Some(packet) = packet.or_else(|| if is_early { outermost(record, bytes) } else { None }) {
                    let begin = begins.waiting.pop_front();
                    visit(record, bytes, begin, packet);
                }
                continue;
            }
            let (arrival, packet) = (batch.arrival(at), batch.arrival(at).packet());
            let without_evidence = *abridges
                && !one.is(kind::CUT | kind::ANNOUNCES)
                && direction::payload_originator(&arrival).is_none();
            let keeps = if without_evidence && packet.payload.1 > 0 { packet.payload.0 } else { record.caplen };
            let record = Record { caplen: keeps, abridged: keeps < record.caplen, ..*record };
            let bytes = bytes.get(..keeps as usize).unwrap_or(bytes);
            let begin = begins.waiting.pop_front();
            visit(&record, bytes, begin, packet);
        }
        if !more {
            // A file without a packet begins all the same.
            while let Some(ts) = begins.waiting.pop_front() {
                visit(&nothing(ts), &[], Some(ts), Packet::default());
            }
        }
        Ok(more)
    }

    /// Statistics so far, without connections.
    pub fn account(&self) -> Result<Stats, CaptureError> {
        self.reading.account(&self.captures)
    }
}

/// A record without bytes.
fn nothing(ts: i64) -> Record {
    let (offset, start, caplen, len, file) = (0, 0, 0, 0, 0);
    Record { ts, offset, start, caplen, len, file, linktype: LinkType::ETHERNET, abridged: false, unsummed: false }
}

/// Outermost packet of a fragment whose first fragment has not come yet.
fn outermost(record: &Record, bytes: &[u8]) -> Option<Packet> {
    let flat = Flat::read(record, bytes);
    Some(Packet { tuple: flat.tuple?, vlan: flat.vlan, ip_bytes: flat.length, fragment: true, ..Packet::default() })
}

/// The position of a packet in the captures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CapturePosition {
    /// Capture time, nanoseconds.
    pub ts: i64,
    /// Number of the file.
    pub file: i64,
    /// Byte offset of the record in the file.
    pub index: i64,
}

/// Identifiers of a connection and of the one that the connection is related to.
pub type Ids = (Id, Option<Id>);

/// Connections that ended.
pub struct Ended {
    /// Rows in the order of first packets.
    pub rows: Rows,
    /// Identifiers by row.
    pub ids: Vec<Ids>,
    /// Facts by row; none unless they are kept.
    pub noted: Vec<Noted>,
}

/// Tracks the packets of some shards, in bounded memory.
pub struct ShardTracker {
    reading: DecodeStage,
    following: TrackStage,
    decoded: Decoded,
    /// Identifiers of the connections that live, and of those that they are related to, by number.
    named: HashMap<u64, Ids>,
    facts: Option<FactsSoFar>,
}

impl ShardTracker {
    /// A tracker with no packets yet. `facts`: the facts of packets are kept.
    pub fn new(config: &Config, facts: bool) -> Self {
        let keys = Keys::new(config);
        Self {
            reading: DecodeStage::new(config, keys.clone()).without_hindsight(),
            following: TrackStage::new(Tracker::with_keys(config, keys), true),
            decoded: Decoded::default(),
            named: HashMap::new(),
            facts: facts.then(FactsSoFar::default),
        }
    }

    /// Tracks records in the order of their positions, one packet each. `begins`: the begins of files among them.
    pub fn take(&mut self, batch: &RecordBatch, places: &[CapturePosition], begins: &[i64]) {
        let Self { reading, following, decoded, named, facts } = self;
        if let Some(facts) = facts {
            facts.begin(begins);
        }
        let mut places = places.iter();
        for records in batch.records.chunks(GROUP) {
            reading.decode(records, batch, decoded);
            decoded.packets.iter_mut().for_each(shard::keep_in_cell);
            let mut begun = following.tracker.begun();
            let name = |tracker: &Tracker, label: &Label, batch: &Batch<'_>, at: usize| {
                let place = places.next().copied().unwrap_or_default();
                let packet = if tracker.begun() > begun { batch.packet(at) } else { None };
                for number in begun..tracker.begun() {
                    let key = packet.map(|packet| tracker.keys().of(&packet).lookup.key()).unwrap_or_default();
                    named.insert(number, (id(&key, place), None));
                }
                begun = tracker.begun();
                if let Some(packet @ Packet { l4: L4::IcmpError { .. }, .. }) = batch.packets(at).last() {
                    relate(named, tracker, label, packet);
                }
                if let Some(facts) = facts.as_mut() {
                    facts.note(label.connection, batch, at);
                }
            };
            following.take(&Batch { records, bytes: batch, decoded }, &mut { name });
        }
    }

    /// Takes the connections closed since the last call.
    pub fn drain(&mut self) -> Ended {
        let rows = self.following.drain().in_order();
        let ids = rows.iter().map(|row| self.named.remove(&row.number()).unwrap_or_default()).collect();
        let noted = self.facts.as_mut().map(|facts| facts.of(&rows)).unwrap_or_default();
        Ended { rows, ids, noted }
    }

    /// Closes the live connections at a capture time, and drains. Those alive then end with the capture; without a time, every
    /// connection runs to its own timeout.
    pub fn finish(&mut self, until: Option<i64>) -> Ended {
        self.following.finish_at(Clock::stopped(until.unwrap_or(i64::MAX)));
        self.drain()
    }
}

/// Notes the connection that an ICMP error is related to, while its entry lives.
fn relate(named: &mut HashMap<u64, Ids>, tracker: &Tracker, label: &Label, packet: &Packet) {
    let Some(connection) = tracker.look(&tracker.keys().of(packet)) else { return };
    let Some(parent) = connection.related_to.filter(|parent| label.connection == Some(*parent)) else { return };
    let Some((parent, _)) = named.get(&parent).copied() else { return };
    if let Some((_, related)) = named.get_mut(&connection.id) {
        related.get_or_insert(parent);
    }
}

/// SHA-1, cut to 128 bits, of a key without direction and the position of the first packet.
fn id(key: &FlowKey, first: CapturePosition) -> Id {
    let mut hash = Sha1::new();
    for (addr, port) in [(key.a, key.a_port), (key.b, key.b_port)] {
        hash.update(flat::mapped(addr, key.family));
        hash.update(port.to_be_bytes());
    }
    hash.update([key.proto, u8::from(key.a_asks), key.tunnel.kind as u8]);
    hash.update(key.tunnel.vni.to_be_bytes());
    hash.update(key.vlan.outer.to_be_bytes());
    hash.update(key.vlan.inner.to_be_bytes());
    for number in [first.ts, first.file, first.index] {
        hash.update(number.to_be_bytes());
    }
    *hash.finalize().first_chunk().unwrap_or(&[0; 16])
}
