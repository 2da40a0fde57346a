//! A tracker for who feeds it himself: batch by batch, from any number of threads, and read from any at any time.
//!
//! The promise to feeders: batches are followed one after another, in the order in which they came, each as a whole; a feeder
//! goes on once his own is. He follows whatever waits, so that nobody depends on a certain thread; who finds another one at it
//! sleeps until his batch is done. The promise to readers is the table's ([`crate::table`]): they are never waited for, and see
//! each connection as it was between two packets.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use conntrack_base::checkpoint::{self, CheckpointError};
use conntrack_base::sync::{AtomicI64, Ordering, Queue, Station};
use conntrack_capture::error::CaptureError;
use conntrack_capture::{Captures, RecordBatch};
use conntrack_decode::{FiveTuple, Vlan};
use conntrack_output::labels::Labels;
use conntrack_output::rows::{Finished, Rows};
use conntrack_output::stats::Stats;
use conntrack_track::config::Config;
use conntrack_track::connection::{Connection, EndReason};
use conntrack_track::flow::descriptor::kind;
use conntrack_track::proto::CtState;
use conntrack_track::table::{FinalConnection, Reader};
use conntrack_track::tracker::{Closed, Keys, Label, Tracker};

use super::count_refused;
use super::following::{Following, GROUP, OnLabel};
use super::reading::{Batch, Decoded, Reading};

/// How long a feeder sleeps at most before he looks again whether somebody does his work.
const NAP: Duration = Duration::from_millis(1);

/// Follows connections through batches as they come.
pub struct Stream {
    station: Station<State, Arc<Job>>,
    keys: Keys,
    /// From the first look on.
    reader: OnceLock<Reader>,
    /// Capture time, for readers: what was due before is over.
    now: AtomicI64,
}

/// What one thread at a time works on.
struct State {
    reading: Reading,
    following: Following,
    decoded: Decoded,
    /// As `Stream::now`.
    now: i64,
}

/// A batch, and who waits for its labels.
struct Job {
    batch: Arc<RecordBatch>,
    /// Its labels, once it was followed.
    labels: Queue<Vec<u8>>,
    feeder: Thread,
}

impl Stream {
    /// Nothing has come yet.
    pub fn new(config: &Config) -> Self {
        let Ok(stream) = Self::begin(config, |_| Ok::<_, Infallible>(()));
        stream
    }

    /// Goes on from a checkpoint, whose next part is the first of those that [`Self::save`] has written, with the same
    /// configuration: every packet from now on gets the answer that it would have got there.
    pub fn resume(config: &Config, from: &mut checkpoint::Reader<impl Read>) -> Result<Self, CheckpointError> {
        Self::begin(config, |state| state.load(from))
    }

    fn begin<E>(config: &Config, load: impl FnOnce(&mut State) -> Result<(), E>) -> Result<Self, E> {
        let keys = Keys::new(config);
        let following = Following::new(Tracker::with_keys(config, keys.clone()), true);
        let reading = Reading::new(config, keys.clone());
        let mut state = State { reading, following, decoded: Decoded::default(), now: i64::MIN };
        load(&mut state)?;
        let now = AtomicI64::new(state.now);
        Ok(Self { station: Station::new(Box::new(state)), keys, reader: OnceLock::new(), now })
    }

    /// Writes everything that the next batch may meet, as it is between two batches: who brings one meanwhile waits.
    pub fn save(&self, out: &mut checkpoint::Writer<'_, impl Write>) -> io::Result<()> {
        self.with(|state| state.save(out))
    }

    /// Follows a batch. Returns the label of each of its records, [`conntrack_output::labels::WIDTH`] bytes each; who initiated is
    /// what is known once the record has come, and connections have their numbers in the order of their first packets.
    pub fn process(&self, batch: Arc<RecordBatch>) -> Vec<u8> {
        let job = Arc::new(Job { batch, labels: Queue::default(), feeder: thread::current() });
        self.station.bring(job.clone());
        loop {
            self.station.serve(|state, job| self.follow(state, &job));
            if let Some(labels) = job.labels.pop() {
                return labels;
            }
            thread::park_timeout(NAP);
        }
    }

    fn follow(&self, state: &mut State, job: &Job) {
        let labels = state.follow(&job.batch);
        state.now = state.following.tracker.now();
        self.now.store(state.now, Ordering::Release);
        job.labels.push(labels);
        job.feeder.unpark();
    }

    /// The connections that are over since this was asked for last, in the order of their first packets.
    pub fn drain(&self) -> Rows {
        self.with(|state| state.following.drain()).in_order()
    }

    /// Ends the connections that are left, and drains.
    pub fn finish(&self) -> Rows {
        let finished = self.with(|state| {
            state.following.finish();
            state.following.drain()
        });
        finished.in_order()
    }

    /// The account of what was followed so far; `captures`: where it came from, for names and damage. What only a look at the
    /// whole tells is not in it.
    pub fn account(&self, captures: &Captures) -> Result<Stats, CaptureError> {
        self.with(|state| {
            let mut stats = state.reading.account(captures)?;
            count_refused(&mut stats, state.following.refused(), captures);
            let tracker = &state.following.tracker;
            stats.connections = tracker.begun();
            stats.evicted = tracker.evicted();
            stats.peak_connections = tracker.peak() as u64;
            Ok(stats)
        })
    }

    /// What is worked on, between two batches.
    fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        let seen = self.station.between(look);
        // Somebody may have brought a batch meanwhile, and found this one at it.
        self.station.serve(|state, job| self.follow(state, &job));
        seen
    }

    /// The live connection between two ends, whichever of them is named first; see the promise.
    pub fn lookup(&self, tuple: &FiveTuple, vlan: Vlan) -> Option<Rows> {
        let connection = self.reader().lookup(&self.keys.of_ports(tuple, vlan).lookup)?;
        let row = self.rows([connection]);
        (!row.is_empty()).then_some(row)
    }

    /// The live connections in the order of their first packets; see the promise.
    pub fn snapshot(&self) -> Rows {
        self.rows(self.reader().snapshot())
    }

    /// Reads the table. The first one waits until nobody is at a batch.
    fn reader(&self) -> &Reader {
        self.reader.get_or_init(|| self.with(|state| state.following.tracker.reader()))
    }

    /// Live connections as rows: as if the capture ended now.
    fn rows(&self, connections: impl IntoIterator<Item = Connection>) -> Rows {
        let now = self.now.load(Ordering::Acquire);
        let mut rows = Finished::new(self.keys.locality().clone());
        for connection in connections.into_iter().filter(|connection| connection.deadline > now) {
            let reason = connection.end_reason(EndReason::EndOfCapture);
            let places = self.keys.places(&connection.key);
            let what = FinalConnection::Whole(Box::new(connection));
            rows.put(&Closed { what, places, reason, stopped: Some(now), gone: None });
        }
        rows.in_order()
    }
}

impl State {
    fn save(&self, out: &mut checkpoint::Writer<'_, impl Write>) -> io::Result<()> {
        out.put(&self.now)?;
        self.reading.save(out)?;
        self.following.save(out)
    }

    fn load(&mut self, from: &mut checkpoint::Reader<impl Read>) -> Result<(), CheckpointError> {
        self.now = from.get()?;
        self.reading.load(from)?;
        self.following.load(from)
    }

    fn follow(&mut self, batch: &RecordBatch) -> Vec<u8> {
        let Self { reading, following, decoded, .. } = self;
        let mut labels = Known(Labels::default());
        for records in batch.records.chunks(GROUP) {
            reading.decode(records, batch, decoded);
            following.take(&Batch { records, bytes: batch, decoded }, &mut labels);
        }
        labels.0.into_bytes()
    }
}

/// Labels with who initiated, as far as is known once the packet has come.
struct Known(Labels);

impl OnLabel for Known {
    const WANTED: bool = true;

    #[inline]
    fn label(&mut self, tracker: &Tracker, label: &Label, batch: &Batch<'_>, at: usize, guess: u32) {
        let known = label.connection.and_then(|_| {
            let one = &batch.decoded.descriptors[at];
            let found = match batch.packets(at).last() {
                Some(packet) if label.ctstate == CtState::Related => tracker.keys().quoted(packet)?,
                Some(packet) if one.is(kind::OTHER) => tracker.keys().of(packet),
                _ => return tracker.known_one(one, &batch.decoded.broad[at], guess),
            };
            tracker.known(&found)
        });
        self.0.push_settled(label, known);
    }
}
