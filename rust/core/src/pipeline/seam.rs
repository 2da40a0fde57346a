//! The two halves of a distributed run. [`Headers`] reads records to headers with their shard, file by file. An engine groups
//! and sorts the headers. [`ShardTracker`] tracks the connections of a shard.
//!
//! Results do not depend on the number of shards. A shard has all packets of its pairs of addresses, and a connection ends by
//! the times of its own packets. Its identifier is a hash of its key and of the position of its first packet.

use std::collections::HashMap;

use sha1::{Digest as _, Sha1};

use conntrack_base::time::Clock;
use conntrack_capture::error::CaptureError;
use conntrack_capture::{Captures, LinkType, Record, RecordBatch};
use conntrack_decode::{Flat, L4, Packet, flat};
use conntrack_output::rows::Rows;
use conntrack_output::stats::Stats;
use conntrack_track::config::Config;
use conntrack_track::direction;
use conntrack_track::flow::descriptor::{Arrival, kind};
use conntrack_track::flow::{FlowKey, shard};
use conntrack_track::tracker::{Keys, Label, Tracker};

use super::following::{GROUP, TrackStage};
use super::header::Sender;
use super::noted::{Begins, FactsSoFar, Noted};
use super::reading::{Batch, DecodeStage, Decoded};
use crate::hindsight::{Id, Ids};

/// Bytes of a payload that are enough for most protocols, in the order of trial.
const DECISIVE: [u32; 3] = [16, 64, 256];

/// Reads the headers of captures.
pub struct Headers {
    captures: Captures,
    batch: RecordBatch,
    reading: DecodeStage,
    decoded: Decoded,
    sender: Sender,
    /// Payloads without evidence are left out, unless checksums are verified.
    abridges: bool,
    /// The first record of a file may carry no packet: its time goes with the next one that does.
    begins: Begins,
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
    /// Cell of the packet's pair of addresses; None: every shard gets the record, which has no packet.
    pub cell: Option<u16>,
    /// Part of the record that a tracker reads; see [`super::header()`].
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
            sender: Sender::new(config, keys),
            abridges: !config.decode.checksum,
            begins: if begins { Begins::default() } else { Begins::behind() },
        }
    }

    /// Reads the next batch, and visits the records that have a packet; false at the end.
    pub fn next(&mut self, mut visit_any: impl FnMut(CellRecord)) -> Result<bool, CaptureError> {
        let more = self.captures.next_batch(&mut self.batch)?;
        let Self { batch, reading, decoded, begins, sender, abridges, .. } = self;
        let mut visit = |record: &Record, bytes: &[u8], begin: Option<i64>, packet: Packet| {
            let (Record { ts, file, offset, .. }, cell) = (*record, shard::cell_of(&packet));
            let bytes = sender.put(record, bytes, begin);
            visit_any(CellRecord { ts, file, offset, packet, cell: Some(cell), bytes });
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
                    let begin = begins.waiting.pop_front().map(|(_, ts)| ts);
                    visit(record, bytes, begin, packet);
                }
                continue;
            }
            let (arrival, packet) = (batch.arrival(at), batch.arrival(at).packet());
            let may_abridge = *abridges && !one.is(kind::CUT | kind::ANNOUNCES) && packet.payload.1 > 0;
            let keeps = if may_abridge { decisive(&arrival, packet.payload) } else { record.caplen };
            let record = Record { caplen: keeps, abridged: keeps < record.caplen, ..*record };
            let bytes = bytes.get(..keeps as usize).unwrap_or(bytes);
            let begin = begins.waiting.pop_front().map(|(_, ts)| ts);
            visit(&record, bytes, begin, packet);
        }
        if !more {
            // A file without a packet begins all the same, for whichever shard has connections.
            while let Some((file, ts)) = begins.waiting.pop_front() {
                let bytes = sender.put(&nothing(ts), &[], Some(ts));
                let packet = Packet::default();
                visit_any(CellRecord { ts, file, offset: 0, packet, cell: None, bytes });
            }
        }
        Ok(more)
    }

    /// Statistics so far, without connections.
    pub fn account(&self) -> Result<Stats, CaptureError> {
        self.reading.account(&self.captures)
    }
}

/// Captured bytes up to which the payload at this offset, of this length, tells the originator as all of it does.
fn decisive(arrival: &Arrival<'_>, (offset, length): (u32, u32)) -> u32 {
    let told = direction::payload_originator(arrival);
    let mut cuts = DECISIVE.into_iter().filter(|kept| *kept < length).map(|kept| offset + kept);
    let tells = |end: &u32| {
        let frame = arrival.frame.get(..*end as usize).unwrap_or(arrival.frame);
        direction::payload_originator(&Arrival { frame, ..*arrival }) == told
    };
    let whole = arrival.frame.len() as u32;
    if told.is_none() { offset } else { cuts.find(tells).unwrap_or(whole) }
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
    pub fn take(&mut self, batch: &RecordBatch, places: &[CapturePosition], begins: Vec<i64>) {
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
