//! Where a distributed run is cut in two: records to headers and the shard that they belong to, file by file; and headers to
//! connections, shard by shard, once an engine has brought them together in order.
//!
//! What comes of all shards together does not depend on how many there are: a shard has all packets of its pairs of
//! addresses; a connection ends by its own packets' times; and its identifier is a hash of what it is and of its first packet.

use std::collections::HashMap;

use sha1::{Digest as _, Sha1};

use conntrack_base::time::Clock;
use conntrack_capture::error::CaptureError;
use conntrack_capture::{Captures, Record, RecordBatch};
use conntrack_decode::{Flat, L4, Packet, flat};
use conntrack_output::rows::Rows;
use conntrack_output::stats::Stats;
use conntrack_track::config::Config;
use conntrack_track::direction;
use conntrack_track::flow::descriptor::kind;
use conntrack_track::flow::{FlowKey, shard};
use conntrack_track::tracker::{Keys, Label, Tracker};

use super::following::{Following, GROUP};
use super::reading::{Batch, Decoded, Reading};

/// Reads the headers of captures.
pub struct Headers {
    captures: Captures,
    batch: RecordBatch,
    reading: Reading,
    decoded: Decoded,
    /// Payloads that say nothing are left out: not where checksums are made of them.
    abridges: bool,
    read: u64,
}

/// A record with a packet, and the cell that its connection belongs to.
pub struct CellRecord<'a> {
    /// The record; of its bytes, those that the tracker looks at.
    pub record: Record,
    /// Which record of its capture it is.
    pub index: u64,
    /// These bytes.
    pub bytes: &'a [u8],
    /// The innermost packet that was asked for; of an early fragment inside a tunnel, the outermost one.
    pub packet: Packet,
    /// Its cell.
    pub cell: u16,
}

impl Headers {
    /// Of these captures, which are one file or are merged by time.
    pub fn new(captures: Captures, config: &Config) -> Self {
        Self {
            captures,
            batch: RecordBatch::default(),
            reading: Reading::new(config, Keys::new(config)),
            decoded: Decoded::default(),
            abridges: !config.decode.checksum,
            read: 0,
        }
    }

    /// Reads the next records, and hands out those that have a packet; false at the end.
    pub fn next(&mut self, mut seen: impl FnMut(CellRecord<'_>)) -> Result<bool, CaptureError> {
        let more = self.captures.next_batch(&mut self.batch)?;
        let Self { batch, reading, decoded, .. } = self;
        reading.decode(&batch.records, batch, decoded);
        let batch = Batch { records: &batch.records, bytes: batch, decoded };
        for (at, record) in batch.records.iter().enumerate() {
            let index = self.read;
            self.read += 1;
            let (one, bytes) = (&decoded.descriptors[at], batch.frame(at));
            if one.is(kind::OTHER | kind::DECODED | kind::ECHO) {
                let packet = batch.packet(at).filter(|_| !one.is(kind::OTHER) || one.count > 0);
                let is_early = one.is(kind::OTHER) && one.count == 0 && one.is(kind::EARLY);
                if let Some(packet) = packet.or_else(|| if is_early { outermost(record, bytes) } else { None }) {
                    seen(CellRecord { record: *record, index, bytes, cell: shard::cell_of(&packet), packet });
                }
                continue;
            }
            let (arrival, packet) = (batch.arrival(at), batch.arrival(at).packet());
            let says_nothing =
                self.abridges && !one.is(kind::CUT | kind::FTP) && direction::payload_originator(&arrival).is_none();
            let keeps = if says_nothing && packet.payload.1 > 0 { packet.payload.0 } else { record.caplen };
            let record = Record { caplen: keeps, abridged: keeps < record.caplen, ..*record };
            let bytes = bytes.get(..keeps as usize).unwrap_or(bytes);
            seen(CellRecord { record, index, bytes, cell: shard::cell_of(&packet), packet });
        }
        Ok(more)
    }

    /// The account of what was read so far. It knows no connections.
    pub fn account(&self) -> Result<Stats, CaptureError> {
        self.reading.account(&self.captures)
    }
}

/// The packet of a fragment whose first one has not come yet.
fn outermost(record: &Record, bytes: &[u8]) -> Option<Packet> {
    let flat = Flat::read(record, bytes);
    Some(Packet { tuple: flat.tuple?, vlan: flat.vlan, ip_bytes: flat.length, fragment: true, ..Packet::default() })
}

/// The position of a packet in the captures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CapturePosition {
    /// Capture time.
    pub ts: i64,
    /// The file's number.
    pub file: i64,
    /// Which record of the file it is.
    pub index: i64,
}

/// What tells a connection from all others, whoever tracks it.
pub type Id = [u8; 16];

/// Tracks the packets of some shards, in bounded memory.
pub struct ShardTracker {
    reading: Reading,
    following: Following,
    decoded: Decoded,
    /// Identifiers of the connections that live, and of those that they are related to, by number.
    named: HashMap<u64, (Id, Option<Id>)>,
}

impl ShardTracker {
    /// Nothing has come yet.
    pub fn new(config: &Config) -> Self {
        let keys = Keys::new(config);
        Self {
            reading: Reading::new(config, keys.clone()),
            following: Following::new(Tracker::with_keys(config, keys), true),
            decoded: Decoded::default(),
            named: HashMap::new(),
        }
    }

    /// Follows packets that come in the order of their places, one for each record.
    pub fn take(&mut self, batch: &RecordBatch, places: &[CapturePosition]) {
        let Self { reading, following, decoded, named } = self;
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
            };
            following.take(&Batch { records, bytes: batch, decoded }, &mut { name });
        }
    }

    /// The connections that are over since this was asked for last, their identifiers, and those of what they are related to.
    pub fn drain(&mut self) -> (Rows, Vec<(Id, Option<Id>)>) {
        let rows = self.following.drain().in_order();
        let ids = rows.iter().map(|row| self.named.remove(&row.number()).unwrap_or_default()).collect();
        (rows, ids)
    }

    /// Ends what is left at a capture time, and drains. What lives then is there at the end of the capture; without a time,
    /// every connection lives as long as its own timeout says.
    pub fn finish(&mut self, until: Option<i64>) -> (Rows, Vec<(Id, Option<Id>)>) {
        self.following.finish_at(Clock::stopped(until.unwrap_or(i64::MAX)));
        self.drain()
    }
}

/// Notes what the connection of an ICMP error is related to, while that is known.
fn relate(named: &mut HashMap<u64, (Id, Option<Id>)>, tracker: &Tracker, label: &Label, packet: &Packet) {
    let Some(connection) = tracker.look(&tracker.keys().of(packet)) else { return };
    let Some(parent) = connection.related_to.filter(|parent| label.connection == Some(*parent)) else { return };
    let Some((parent, _)) = named.get(&parent).copied() else { return };
    if let Some((_, related)) = named.get_mut(&connection.id) {
        related.get_or_insert(parent);
    }
}

/// SHA-1, cut to 128 bits, of a key without direction and the place of its first packet.
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
