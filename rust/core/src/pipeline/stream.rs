//! The push-based API: batches from any number of threads, and reads from any thread at any time.
//!
//! Guarantees to feeders: batches are tracked atomically, in the order of arrival, and [`Stream::process`] returns after its
//! own batch. Batches wait in a work queue drained by the thread that holds the lock (flat combining); the others sleep until
//! theirs are done. Guarantees to readers are the table's ([`crate::table`]): readers never block feeders, and see each
//! connection between two packets.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use conntrack_base::checkpoint::{self, CheckpointError};
use conntrack_base::sync::{AtomicBool, AtomicI64, Ordering, Queue, Station};
use conntrack_capture::error::CaptureError;
use conntrack_capture::{Captures, RecordBatch};
use conntrack_decode::{FiveTuple, Vlan};
use conntrack_output::labels::Labels;
use conntrack_output::rows::{Finished, Rows};
use conntrack_output::stats::Stats;
use conntrack_track::config::{Bounds, Config};
use conntrack_track::connection::{Connection, EndReason};
use conntrack_track::flow::descriptor::kind;
use conntrack_track::proto::CtState;
use conntrack_track::table::{FinalConnection, Reader};
use conntrack_track::tracker::{Closed, Keys, Label, Tracker};

use super::begun::Begun;
use super::early_reports::is_close;
use super::following::{GROUP, OnLabel, TrackStage};
use super::noted::{Begins, FactsSoFar, Noted};
use super::reading::{Batch, DecodeStage, Decoded};
use super::seam::Ended;
use super::{count_evicted, count_refused};

/// Maximum sleep of a feeder before the next look at the work queue.
const NAP: Duration = Duration::from_millis(1);

/// A tracker fed batch by batch.
pub struct Stream {
    station: Station<Engine, Arc<Job>>,
    keys: Keys,
    /// Made by the first lookup or snapshot.
    reader: OnceLock<Reader>,
    /// Capture time for readers, nanoseconds: entries with an earlier deadline are expired.
    now: AtomicI64,
    /// Connections are reported at their close: closed ones are no longer among the live.
    at_close: AtomicBool,
}

/// The fill of a table.
pub struct Fill {
    /// Live connections.
    pub connections: usize,
    /// Bytes of memory for them, as the bound counts.
    pub bytes: usize,
    /// The bounds.
    pub bounds: Bounds,
    /// Connections evicted so far, by the bound that was hit.
    pub evicted_by: BTreeMap<&'static str, u64>,
    /// Packets that found no room so far.
    pub refused: u64,
}

/// State under the lock.
struct Engine {
    reading: DecodeStage,
    following: TrackStage,
    decoded: Decoded,
    /// Counts of connections as they begin, where they are wanted.
    begun: Option<Begun>,
    /// Facts for a second pass, and begins of files, where they are wanted.
    facts: Option<(FactsSoFar, Begins)>,
    /// Source of `Stream::now`.
    now: i64,
}

/// A batch, and the thread that waits for its labels.
struct Job {
    batch: Arc<RecordBatch>,
    /// Labels of the batch, after tracking.
    labels: Queue<Vec<u8>>,
    feeder: Thread,
}

impl Stream {
    /// A stream with an empty table.
    pub fn new(config: &Config) -> Self {
        let Ok(stream) = Self::begin(config, |_| Ok::<_, Infallible>(()));
        stream
    }

    /// Resumes from a checkpoint at the first part that [`Self::save`] has written, with an equal configuration. Later packets
    /// get the labels that the saved stream would have given.
    pub fn resume(config: &Config, from: &mut checkpoint::Reader<impl Read>) -> Result<Self, CheckpointError> {
        Self::begin(config, |engine| engine.load(from))
    }

    fn begin<E>(config: &Config, load: impl FnOnce(&mut Engine) -> Result<(), E>) -> Result<Self, E> {
        let keys = Keys::new(config);
        let following = TrackStage::new(Tracker::with_keys(config, keys.clone()), true);
        let reading = DecodeStage::new(config, keys.clone()).without_hindsight();
        let mut engine =
            Engine { reading, following, decoded: Decoded::default(), begun: None, facts: None, now: i64::MIN };
        load(&mut engine)?;
        let now = AtomicI64::new(engine.now);
        let at_close = AtomicBool::new(engine.following.reports_closes());
        Ok(Self { station: Station::new(Box::new(engine)), keys, reader: OnceLock::new(), now, at_close })
    }

    /// Writes the state between two batches; feeders wait meanwhile.
    pub fn save(&self, out: &mut checkpoint::Writer<'_, impl Write>) -> io::Result<()> {
        self.with(|engine| engine.save(out))
    }

    /// Tracks a batch. Returns the labels of its records, [`conntrack_output::labels::WIDTH`] bytes each. Originators are those
    /// known at the record; connections are numbered in the order of first packets.
    pub fn process(&self, batch: Arc<RecordBatch>) -> Vec<u8> {
        let job = Arc::new(Job { batch, labels: Queue::default(), feeder: thread::current() });
        self.station.bring(job.clone());
        loop {
            self.station.serve(|engine, job| self.follow(engine, &job));
            if let Some(labels) = job.labels.pop() {
                return labels;
            }
            thread::park_timeout(NAP);
        }
    }

    fn follow(&self, engine: &mut Engine, job: &Job) {
        let labels = engine.follow(&job.batch);
        engine.now = engine.following.tracker.now();
        self.now.store(engine.now, Ordering::Release);
        job.labels.push(labels);
        job.feeder.unpark();
    }

    /// Reports connections at their close from now on, or once their entries are gone. Closed connections in the table are
    /// reported at once; no connection is reported twice.
    pub fn report_closes(&self, at_close: bool) {
        self.with(|engine| engine.following.report_closes(at_close));
        self.at_close.store(at_close, Ordering::Release);
    }

    /// Advances capture time to `ts` without a packet, and ends the connections that are over by then.
    pub fn advance_to(&self, ts: i64) {
        self.with(|engine| {
            engine.following.advance_to(ts);
            engine.now = engine.following.tracker.now();
            self.now.store(engine.now, Ordering::Release);
        });
    }

    /// Takes the connections closed since the last call, in the order of first packets.
    pub fn drain(&self) -> Rows {
        self.with(|engine| engine.following.drain()).in_order()
    }

    /// Keeps the facts of packets from now on, for [`Self::drain_flows`].
    pub fn note_facts(&self) {
        self.with(|engine| {
            engine.facts.get_or_insert_default();
        });
    }

    /// Takes the connections closed since the last call, with the facts of their packets; identifiers are numbers. `all`: those
    /// that live are closed before.
    pub fn drain_flows(&self, all: bool) -> Ended {
        let (rows, noted) = self.with(|engine| {
            if all {
                engine.following.finish();
            }
            let rows = engine.following.drain().in_order();
            let noted = engine.facts.as_mut().map(|(facts, _)| facts.of(&rows));
            let none = || vec![Noted::default(); rows.len()];
            let noted = noted.unwrap_or_else(none);
            (rows, noted)
        });
        let id = |number: u64| u128::from(number).to_be_bytes();
        let ids = rows.iter().map(|row| (id(row.number()), row.related_to().or(row.carrier()).map(id))).collect();
        Ended { rows, ids, noted }
    }

    /// Closes the live connections, and drains.
    pub fn finish(&self) -> Rows {
        let finished = self.with(|engine| {
            engine.following.finish();
            engine.following.drain()
        });
        finished.in_order()
    }

    /// Statistics so far; `captures`: the source, for file names and damage. Quality, which needs the whole run, is left out.
    pub fn account(&self, captures: &Captures) -> Result<Stats, CaptureError> {
        self.with(|engine| {
            let mut stats = engine.reading.account(captures)?;
            count_refused(&mut stats, engine.following.refused(), captures);
            let tracker = &engine.following.tracker;
            stats.connections = tracker.begun_here();
            stats.after_close = engine.following.after_close();
            count_evicted(&mut stats, tracker.evicted());
            stats.peak_connections = tracker.peak() as u64;
            Ok(stats)
        })
    }

    /// Bounds the table anew. A table beyond the bounds shrinks as connections begin.
    pub fn set_bounds(&self, bounds: Bounds) {
        self.with(|engine| engine.following.tracker.set_bounds(bounds));
    }

    /// The state of the table.
    pub fn fill(&self) -> Fill {
        self.with(|engine| {
            let tracker = &engine.following.tracker;
            let (table, mut stats) = (tracker.table(), Stats::default());
            count_evicted(&mut stats, tracker.evicted());
            let (connections, bytes, bounds) = (table.len(), table.bytes(), table.bounds());
            Fill { connections, bytes, bounds, evicted_by: stats.evicted_by, refused: tracker.refused() }
        })
    }

    /// Packets so far, connections begun, live connections, and connections that ended and were not drained.
    pub fn sizes(&self) -> [u64; 4] {
        self.with(|engine| {
            let tracker = &engine.following.tracker;
            let (live, ended) = (tracker.table().len(), engine.following.ended());
            [engine.reading.stats.packets, tracker.begun_here(), live as u64, ended as u64]
        })
    }

    /// Counts connections as they begin, from now on.
    pub fn count_begun(&self) {
        self.with(|engine| {
            let begun = Begun::after(&engine.following.tracker);
            engine.begun.get_or_insert(begun);
        });
    }

    /// Connections begun, by the words of direction and evidence; none unless they are counted.
    pub fn begun(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.with(|engine| engine.begun.as_ref().map(|begun| begun.counts().collect()).unwrap_or_default())
    }

    /// Bytes of memory that the live connections take.
    pub fn table_bytes(&self) -> usize {
        self.with(|engine| engine.following.tracker.bytes())
    }

    /// Runs a function on the engine, between two batches.
    fn with<R>(&self, look: impl FnOnce(&mut Engine) -> R) -> R {
        let seen = self.station.between(look);
        // Another thread may have queued a batch meanwhile, and found the lock held.
        self.station.serve(|engine, job| self.follow(engine, &job));
        seen
    }

    /// The live connection of a five-tuple in either direction; see the guarantees.
    pub fn lookup(&self, tuple: &FiveTuple, vlan: Vlan) -> Option<Rows> {
        let connection = self.reader().lookup(&self.keys.of_ports(tuple, vlan).lookup)?;
        let row = self.rows([connection], |_| true);
        (!row.is_empty()).then_some(row)
    }

    /// The live connections in the order of first packets; see the guarantees.
    pub fn snapshot(&self) -> Rows {
        let at_close = self.at_close.load(Ordering::Acquire);
        self.rows(self.reader().snapshot(), |reason| !(at_close && is_close(reason)))
    }

    /// The reader of the table; the first call waits for the lock.
    fn reader(&self) -> &Reader {
        self.reader.get_or_init(|| self.with(|engine| engine.following.tracker.reader()))
    }

    /// Live connections as rows, as if the capture ended now.
    fn rows(&self, connections: impl IntoIterator<Item = Connection>, wanted: impl Fn(EndReason) -> bool) -> Rows {
        let now = self.now.load(Ordering::Acquire);
        let mut rows = Finished::new(self.keys.locality().clone());
        for connection in connections.into_iter().filter(|connection| connection.deadline > now) {
            let reason = connection.end_reason(EndReason::EndOfCapture);
            if !wanted(reason) {
                continue;
            }
            let places = self.keys.places(&connection.key);
            let what = FinalConnection::Whole(Box::new(connection));
            rows.insert(&Closed { what, places, reason, stopped: Some(now), gone: None });
        }
        rows.in_order()
    }
}

impl Engine {
    fn save(&self, out: &mut checkpoint::Writer<'_, impl Write>) -> io::Result<()> {
        out.put(&self.now)?;
        self.reading.save(out)?;
        self.following.save(out)
    }

    fn load(&mut self, from: &mut checkpoint::Reader<impl Read>) -> Result<(), CheckpointError> {
        self.now = from.get()?;
        self.reading.load(from)?;
        self.following.load(from)?;
        from.end()
    }

    fn follow(&mut self, batch: &RecordBatch) -> Vec<u8> {
        let Self { reading, following, decoded, begun, facts, .. } = self;
        if let Some((facts, begins)) = facts {
            batch.records.iter().for_each(|record| begins.note(record));
            facts.begin(begins.waiting.drain(..).map(|(_, ts)| ts));
        }
        let facts = facts.as_mut().map(|(facts, _)| facts);
        let mut labels = ProvisionalLabels { labels: Labels::default(), facts };
        for records in batch.records.chunks(GROUP) {
            reading.decode(records, batch, decoded);
            let group = Batch { records, bytes: batch, decoded };
            following.take(&group, &mut labels);
            if let Some(begun) = begun {
                begun.note(&following.tracker, &group, &labels.labels);
            }
        }
        labels.labels.into_bytes()
    }
}

/// Labels with the originator known at the packet.
struct ProvisionalLabels<'a> {
    labels: Labels,
    facts: Option<&'a mut FactsSoFar>,
}

impl OnLabel for ProvisionalLabels<'_> {
    const WANTED: bool = true;
    const REPORTS: bool = true;

    #[inline]
    fn label(&mut self, tracker: &Tracker, label: &Label, batch: &Batch<'_>, at: usize, guess: u32) {
        let known = label.connection.and_then(|_| {
            let one = &batch.decoded.descriptors[at];
            let found = match batch.packets(at).last() {
                Some(packet) if label.ctstate == CtState::Related => {
                    return tracker.known_quoted(&tracker.keys().quoted(packet)?, one.ts);
                }
                Some(packet) if one.is(kind::OTHER) => tracker.keys().of(packet),
                _ => return tracker.known_one(one, &batch.decoded.broad[at], guess),
            };
            tracker.known(&found)
        });
        self.labels.push_settled(label, known);
        if let Some(facts) = &mut self.facts {
            facts.note(label.connection, batch, at);
        }
    }
}
