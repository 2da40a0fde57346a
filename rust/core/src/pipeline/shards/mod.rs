//! Sharded tracking on several threads, with the results of one tracker.
//!
//! Every batch is read and decoded once. A keyed hash, symmetric in direction, routes packets to shards. ICMP has a shard of
//! its own, which takes a batch last: the others have then answered queries for the connections that ICMP errors quote.
//! Each shard takes its packets in capture order, with every clock tick in its place among them. So its results do not depend
//! on the number of shards. Connections are numbered after the last shard has taken a batch, in the order of first packets.
//!
//! No thread owns work. A free thread reads the next batch, or drains the work queue of any shard ([`Station`], flat
//! combining); no thread waits for a certain other.

mod level;
mod load;
mod shard;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_utils::Backoff;

use conntrack_base::sync::{AtomicU64, AtomicUsize, Ordering, Queue, Station, Turn};
use conntrack_base::time::Clock;
use conntrack_capture::Captures;
use conntrack_capture::error::CaptureError;
use conntrack_track::config::{Bounds, Config};
use conntrack_track::direction::Locality;
use conntrack_track::tracker::{Keys, Tracker};

use super::following::{TrackOutput, TrackStage};
use super::progress::{Observe, Progress};
use super::reading::DecodeStage;

use level::Level;
use load::{Front, Load};
use shard::{FinalStage, Shard};

/// Maximum of shards beside that of ICMP.
const MOST: usize = 64;
/// Yields of an idle thread before it sleeps: about a hundred microseconds, because a sleep takes longer than a batch.
const ROUNDS: u32 = 300;
/// Sleep of an idle thread.
const NAP: Duration = Duration::from_micros(100);

/// Work of a shard.
enum Work {
    Batch(Arc<Load>),
    /// End of input, with the final clock.
    End(Clock),
}

/// The results of both halves.
type Sharded = (DecodeStage, TrackOutput);

/// Stages of a run.
mod stage {
    pub const READING: usize = 0;
    /// Input is read to its end.
    pub const READ: usize = 1;
    /// All shards have finished, or the run failed.
    pub const OVER: usize = 2;
}

/// A run on several threads.
pub struct Shards<'a> {
    locality: Arc<Locality>,
    captures: Turn<&'a mut Captures>,
    front: Station<Front, Box<Load>>,
    each: Vec<Station<Shard, Work>>,
    last: Station<FinalStage, Work>,
    /// Finished batches for reuse.
    spent: Queue<Box<Load>>,
    under_way: AtomicUsize,
    most_under_way: usize,
    /// Connections and memory of the shards, against the bounds.
    level: Level,
    /// Shards that have finished.
    ended: AtomicUsize,
    stage: AtomicUsize,
    failed: OnceLock<CaptureError>,
    /// Bytes read; below, packets read, and interrupting signals.
    bytes: AtomicU64,
    packets: AtomicU64,
    interrupted: AtomicUsize,
}

impl<'a> Shards<'a> {
    /// A shard for each thread, and one for ICMP.
    pub fn new(captures: &'a mut Captures, config: &Config, want_labels: bool) -> Self {
        let shards = config.threads.min(MOST);
        let keys = Keys::new(config);
        let locality = keys.locality().clone();
        let unbounded = Config { bounds: Bounds::default(), ..config.clone() };
        let tracker = || Tracker::with_keys(&unbounded, keys.clone());
        let shard = |number| Shard::new(number, TrackStage::new(tracker(), false), want_labels);
        let front = Front::new(config, &keys, shards);
        let last = FinalStage::new(shard(shards), want_labels);
        Self {
            locality,
            captures: Turn::new(Box::new(captures)),
            front: Station::new(Box::new(front)),
            each: (0..shards).map(|number| Station::new(Box::new(shard(number)))).collect(),
            last: Station::new(Box::new(last)),
            spent: Queue::default(),
            under_way: AtomicUsize::new(0),
            most_under_way: 2 * shards + 2,
            level: Level::new(config.bounds, shards),
            ended: AtomicUsize::new(0),
            stage: AtomicUsize::new(stage::READING),
            failed: OnceLock::new(),
            bytes: AtomicU64::new(0),
            packets: AtomicU64::new(0),
            interrupted: AtomicUsize::new(0),
        }
    }

    /// Runs on the calling thread, which alone calls `observe`, and on one more for each further shard. None: one table
    /// of these bounds might be full at some time.
    pub fn run(mut self, total: Option<u64>, observe: Observe<'_>) -> Result<Option<Sharded>, CaptureError> {
        let stopped = std::thread::scope(|scope| {
            for first in 1..self.each.len() {
                let run = &self;
                scope.spawn(move || run.work(first, &mut || true));
            }
            let mut stopped = false;
            self.work(0, &mut || {
                let interrupted = self.interrupted.swap(0, Ordering::AcqRel) > 0;
                let (bytes, packets) = (self.bytes.load(Ordering::Acquire), self.packets.load(Ordering::Acquire));
                stopped = observe(Progress { bytes, total, packets, interrupted }).is_break();
                !stopped
            });
            stopped
        });
        if stopped {
            return Err(CaptureError::Interrupted);
        }
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.level.is_hit() {
            return Ok(None);
        }
        // A panicking thread has ended this one, too.
        Ok(Some(self.collected().expect("all threads have released their work")))
    }

    /// Works until the run is over or `goes_on` returns false. A panic ends the run on all threads.
    fn work(&self, first: usize, goes_on: &mut dyn FnMut() -> bool) {
        let over = OnExit(|| self.stage.store(stage::OVER, Ordering::Release));
        let (idle, mut rounds) = (Backoff::new(), 0);
        while self.stage.load(Ordering::Acquire) != stage::OVER && goes_on() {
            let mut did = self.read();
            did |= self.front.serve(|front, load| self.send(front, load));
            let shards = self.each.len();
            for number in (first..first + shards).map(|number| number % shards) {
                did |= self.each[number].serve(|shard, work| self.follow(shard, work));
            }
            did |= self.last.serve(|last, work| self.close(last, work));
            did |= self.end();
            if did {
                idle.reset();
                rounds = 0;
            } else if rounds < ROUNDS {
                idle.snooze();
                rounds += 1;
            } else {
                std::thread::sleep(NAP);
            }
        }
        drop(over);
    }

    /// Reads the next batch, unless another thread reads or too many batches are in flight.
    fn read(&self) -> bool {
        if self.stage.load(Ordering::Acquire) != stage::READING
            || self.under_way.load(Ordering::Acquire) >= self.most_under_way
        {
            return false;
        }
        let Some(captures) = self.captures.take() else { return false };
        // Another thread may have read the last batch meanwhile.
        if self.stage.load(Ordering::Acquire) == stage::READING {
            let mut load = self.spent.pop().unwrap_or_else(|| Box::new(Load::new(self.each.len() + 1)));
            match captures.next_batch(&mut load.batch) {
                Ok(more) => {
                    self.bytes.store(captures.progress().0, Ordering::Release);
                    self.packets.fetch_add(load.batch.records.len() as u64, Ordering::AcqRel);
                    self.under_way.fetch_add(1, Ordering::AcqRel);
                    self.front.bring(load);
                    if !more {
                        self.stage.store(stage::READ, Ordering::Release);
                    }
                }
                // The first thread handles the signal.
                Err(CaptureError::Interrupted) => {
                    self.interrupted.fetch_add(1, Ordering::AcqRel);
                }
                Err(error) => {
                    let _ = self.failed.set(error);
                    self.stage.store(stage::OVER, Ordering::Release);
                }
            }
        }
        self.captures.give_back(captures);
        true
    }

    /// Notes the connections of a shard after a batch. A hit bound ends the run.
    fn note(&self, shard: &Shard) {
        if self.level.note(shard.number, &shard.following.tracker) {
            self.stage.store(stage::OVER, Ordering::Release);
        }
    }

    fn send(&self, front: &mut Front, mut load: Box<Load>) {
        front.take(&mut load);
        let load: Arc<Load> = Arc::from(load);
        for shard in &self.each {
            shard.bring(Work::Batch(load.clone()));
        }
    }

    fn follow(&self, shard: &mut Shard, work: Work) {
        match work {
            Work::Batch(load) => {
                if let Some(mut results) = load.results[shard.number].take() {
                    shard.take(&load, &mut results, |_, _| None);
                    self.note(shard);
                    load.results[shard.number].give_back(results);
                }
                if load.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    self.last.bring(Work::Batch(load));
                }
            }
            Work::End(clock) => self.finish(shard, clock),
        }
    }

    fn close(&self, last: &mut FinalStage, work: Work) {
        match work {
            Work::Batch(load) => {
                last.early.insert(load.number, load);
                while let Some(load) = last.early.remove(&last.next) {
                    last.take(&load);
                    self.note(&last.icmp);
                    last.next += 1;
                    self.under_way.fetch_sub(1, Ordering::AcqRel);
                    if let Some(load) = Arc::into_inner(load) {
                        self.spent.push(Box::new(load));
                    }
                }
            }
            Work::End(clock) => self.finish(&mut last.icmp, clock),
        }
    }

    fn finish(&self, shard: &mut Shard, clock: Clock) {
        shard.following.finish_at(clock);
        if self.ended.fetch_add(1, Ordering::AcqRel) == self.each.len() {
            self.stage.store(stage::OVER, Ordering::Release);
        }
    }

    /// Sends the end of input to all shards, once no batch is in flight.
    fn end(&self) -> bool {
        if self.stage.load(Ordering::Acquire) != stage::READ || self.under_way.load(Ordering::Acquire) > 0 {
            return false;
        }
        // The thread that takes the captures for good sends the end.
        if self.captures.take().is_none() {
            return false;
        }
        // The thread that sent the last batch is about to release the front.
        let clock = self.front.between(|front| front.clock);
        for shard in &self.each {
            shard.bring(Work::End(clock));
        }
        self.last.bring(Work::End(clock));
        true
    }

    /// Merged results of all shards.
    fn collected(self) -> Option<Sharded> {
        let last = self.last.into_inner()?;
        let mut shards = vec![last.icmp];
        for station in self.each {
            shards.push(*station.into_inner()?);
        }
        let mut whole = TrackOutput::none(self.locality);
        whole.labels = last.labels;
        for shard in shards {
            let own = |id| last.numbers.number((shard.number as u64) << 48 | id);
            whole.add(shard.following.output(), own, |named| last.numbers.number(named));
        }
        Some((self.front.into_inner()?.reading, whole))
    }
}

/// Runs a function on drop, also on unwinding.
struct OnExit<F: Fn()>(F);

impl<F: Fn()> Drop for OnExit<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
