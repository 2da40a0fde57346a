//! The path of a packet, told in one place: bytes → record → packet → connection → row.

use std::ops::ControlFlow;
use std::path::Path;

use crate::capture::{Captures, LinkType, Record, RecordBatch};
use crate::columns::Row;
use crate::config::{Config, ServerPorts};
use crate::decode::{Brief, Decoder, Options, Packet, Skip};
use crate::direction::Locality;
use crate::error::CaptureError;
use crate::hindsight::{self, Known};
use crate::labels::Labels;
use crate::proto::CtState;
use crate::quality::Watch;
use crate::stats::Stats;
use crate::tracker::{Closed, Found, Label, Tracker};

/// What a run gives.
pub struct Tracked {
    /// The connections, in the order of their first packets.
    pub rows: Vec<Row>,
    /// The labels as bytes of [`crate::labels::WIDTH`] each, if they were asked for.
    pub labels: Option<Vec<u8>>,
    /// The account.
    pub stats: Stats,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Bytes read of the files as they are on disk.
    pub bytes: u64,
    /// Their size, where all of them have one.
    pub total: Option<u64>,
    /// Packets so far.
    pub packets: u64,
    /// A signal interrupted the reading.
    pub interrupted: bool,
}

/// Tracks captures from the first record to the last. `observe` is called between batches, and when a signal
/// interrupted the reading; it may stop the run, which is then [`CaptureError::Interrupted`].
pub fn track(
    captures: &mut Captures,
    config: &Config,
    want_labels: bool,
    observe: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Tracked, CaptureError> {
    let mut run = Run::new(config, want_labels);
    let mut batch = RecordBatch::default();
    loop {
        let (more, interrupted) = match captures.next_batch(&mut batch) {
            Ok(more) => (more, false),
            Err(CaptureError::Interrupted) => {
                batch.records.clear();
                (true, true)
            }
            Err(error) => return Err(error),
        };
        for group in batch.records.chunks(GROUP) {
            run.group(group, &batch, captures);
        }
        let (bytes, total) = captures.progress();
        if observe(Progress { bytes, total, packets: run.stats.packets, interrupted }).is_break() {
            return Err(CaptureError::Interrupted);
        }
        if !more {
            return run.finish(captures);
        }
    }
}

/// Walks captures without tracking: every record is read and, with options, decoded. The bare loop that tracking is
/// measured against. Returns how many records gave packets (without options: how many there were).
pub fn walk(captures: &mut Captures, decode: Option<Options>) -> Result<u64, CaptureError> {
    let mut decoder = decode.map(Decoder::new);
    let mut batch = RecordBatch::default();
    let mut packets = Vec::new();
    let mut found = 0;
    while captures.next_batch(&mut batch)? {
        for record in &batch.records {
            let gave = decoder.as_mut().is_none_or(|decoder| {
                packets.clear();
                decoder.decode(record, batch.bytes(record), &mut packets).is_ok()
            });
            found += u64::from(gave);
        }
    }
    Ok(found)
}

/// Why a record is in no connection although it could have begun one: the table was full of assured ones.
const TABLE_FULL: &str = "table_full";

/// Records whose packets are looked up together, so that they wait for memory together.
const GROUP: usize = 32;

struct Run {
    decoder: Decoder,
    /// Ordinary packets are read in brief.
    in_brief: bool,
    /// Those of a group.
    briefs: Box<[(Brief, Found); GROUP]>,
    packets: Vec<Packet>,
    tracker: Tracker,
    rows: Rows,
    labels: Option<Labels>,
    stats: Stats,
    files: Vec<LinkTypes>,
    watch: Watch,
    /// Where servers are likely; None: Zeek's own choice of the originator stands.
    ports: Option<ServerPorts>,
}

/// Which link types a file had.
#[derive(Clone, Copy, Default)]
struct LinkTypes {
    supported: bool,
    /// The first record of an unsupported one.
    first: Option<(u16, u64)>,
}

impl Run {
    fn new(config: &Config, want_labels: bool) -> Self {
        Self {
            decoder: Decoder::new(config.decode),
            // Checksums are the decoder's, and what is a connection for Zeek is not in the brief key.
            in_brief: !config.decode.checksum && !config.zeek,
            briefs: Box::new([(Brief::default(), Found::default()); GROUP]),
            packets: Vec::new(),
            tracker: Tracker::new(config),
            rows: Rows { rows: Vec::new(), locality: Locality::new(config) },
            labels: want_labels.then(Labels::default),
            stats: Stats::default(),
            files: Vec::new(),
            watch: Watch::default(),
            ports: (!config.zeek).then(|| config.likely_server_ports.clone().unwrap_or_else(ServerPorts::services)),
        }
    }

    fn group(&mut self, records: &[Record], batch: &RecordBatch, captures: &Captures) {
        let mut ordinary = [false; GROUP];
        if self.in_brief {
            let places = ordinary.iter_mut().zip(&mut self.briefs[..]);
            for (record, (is_ordinary, (brief, found))) in records.iter().zip(places) {
                *is_ordinary = brief.fill(record, batch.bytes(record));
                if *is_ordinary {
                    *found = self.tracker.prepare(brief);
                }
            }
            let mut touched = 0;
            for (_, (_, found)) in ordinary.iter().zip(&self.briefs[..]).filter(|(is_ordinary, _)| **is_ordinary) {
                touched ^= self.tracker.touch_index(found);
            }
            for (_, (_, found)) in ordinary.iter().zip(&self.briefs[..]).filter(|(is_ordinary, _)| **is_ordinary) {
                touched ^= self.tracker.touch_slot(found);
            }
            std::hint::black_box(touched);
        }
        for (place, (record, is_ordinary)) in records.iter().zip(ordinary).enumerate() {
            self.record(record, batch.bytes(record), is_ordinary.then_some(place), captures);
        }
    }

    #[inline]
    fn record(&mut self, record: &Record, bytes: &[u8], brief: Option<usize>, captures: &Captures) {
        let stats = &mut self.stats;
        stats.packets += 1;
        stats.bytes += record.len as u64;
        stats.snapped += u64::from(record.caplen < record.len);
        stats.first.get_or_insert(record.ts);
        stats.last = stats.last.max(Some(record.ts));
        self.watch.time(record.ts);
        let rows = &mut self.rows;
        self.tracker.advance(record.ts, |closed| rows.put(closed));
        let mut unsupported = false;
        let refused = self.tracker.refused();
        let label = if let Some((brief, found)) = brief.and_then(|place| self.briefs.get(place)) {
            self.watch.brief(brief, bytes, record.ts);
            self.tracker.brief(brief, found, bytes, record.ts, |closed| rows.put(closed))
        } else {
            self.packets.clear();
            let decoded = self.decoder.decode(record, bytes, &mut self.packets);
            if let Some(packet) = self.packets.first() {
                self.watch.packet(packet, bytes, record.ts);
            }
            match decoded {
                Ok(()) => self.tracker.record(&self.packets, bytes, record.ts, |closed| rows.put(closed)),
                Err(skip) => {
                    unsupported = skip == Skip::LinkType;
                    stats.skip(skip.name(), 1, name(captures, record.file), record.offset);
                    Label::outside(word_for(skip))
                }
            }
        };
        if self.tracker.refused() > refused {
            stats.skip(TABLE_FULL, 1, name(captures, record.file), record.offset);
        }
        if let Some(labels) = &mut self.labels {
            labels.push(&label);
        }
        self.note_link_type(record, unsupported);
    }

    /// An unknown link type is an error that names it, never an empty result; beside a known one it is counted.
    fn note_link_type(&mut self, record: &Record, unsupported: bool) {
        let index = record.file as usize;
        if index >= self.files.len() {
            self.files.resize(index + 1, LinkTypes::default());
        }
        let file = &mut self.files[index];
        file.supported |= !unsupported;
        if unsupported {
            file.first.get_or_insert((record.linktype.0, record.offset));
        }
    }

    fn finish(mut self, captures: &Captures) -> Result<Tracked, CaptureError> {
        for (file, number) in self.files.iter().zip(0..) {
            file.check(name(captures, number))?;
        }
        let rows = &mut self.rows;
        let stats = &mut self.stats;
        self.tracker.finish(|closed| rows.put(closed));
        let orphans = self.decoder.orphans();
        if orphans > 0 {
            stats.skip(Skip::FragmentWithoutFirst.name(), orphans, Path::new(""), 0);
        }
        let damage = captures.damage();
        for (kind, count) in damage.counts().filter(|(_, count)| *count > 0) {
            let first = damage.details().iter().find(|damage| damage.kind == kind);
            let (file, offset) = first.map_or((0, 0), |damage| (damage.file, damage.offset));
            stats.skip(kind.reason(), count, name(captures, file), offset);
        }
        stats.connections = self.tracker.begun();
        stats.evicted = self.tracker.evicted();
        stats.peak_connections = self.tracker.peak() as u64;
        let Rows { rows, locality } = self.rows;
        let mut rows: Vec<Row> = rows.into_iter().flatten().collect();
        if let Some(ports) = &self.ports {
            hindsight::settle(&mut rows, &Known { ports, announced: self.tracker.announced(), locality: &locality });
        }
        self.stats.quality = self.watch.finish(&rows, orphans);
        let labels = self.labels.map(|labels| labels.settle(&rows));
        Ok(Tracked { rows, labels, stats: self.stats })
    }
}

/// What a gateway says of a record that gave no packet.
fn word_for(skip: Skip) -> CtState {
    match skip {
        Skip::NotIp | Skip::LinkType | Skip::Encrypted => CtState::Untracked,
        _ => CtState::Invalid,
    }
}

/// The name of a file, as the caller gave it.
fn name(captures: &Captures, file: u32) -> &Path {
    captures.name(file).unwrap_or(Path::new(""))
}

impl LinkTypes {
    fn check(&self, name: &Path) -> Result<(), CaptureError> {
        match self.first {
            Some((linktype, offset)) if !self.supported => Err(CaptureError::LinkType {
                path: name.into(),
                offset,
                linktype,
                name: LinkType(linktype).name(),
                supported: crate::decode::SUPPORTED
                    .iter()
                    .map(|linktype| linktype.name())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
            _ => Ok(()),
        }
    }
}

/// Finished connections, each at its number.
struct Rows {
    rows: Vec<Option<Row>>,
    locality: Locality,
}

impl Rows {
    fn put(&mut self, closed: &Closed) {
        let place = closed.connection.id as usize;
        if place >= self.rows.len() {
            self.rows.resize(place + 1, None);
        }
        self.rows[place] = Some(Row::new(closed, &self.locality));
    }
}
