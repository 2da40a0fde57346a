//! The path of a packet, told in one place: bytes → record → packet → connection → row.
//!
//! It has two halves. `reading` knows captures and packets and no connection; `following` the other way round. With one
//! thread they take turns, a few records at a time; with two, one reads ahead while the other follows, a batch at a time.
//! What the second half sees is the same, in the same order, so that the result is.

mod bare;
mod following;
mod reading;

use std::ops::ControlFlow;
use std::sync::mpsc;
use std::time::Duration;

use crate::capture::{Captures, RecordBatch};
use crate::config::{Config, ServerPorts};
use crate::error::CaptureError;
use crate::hindsight::{self, Known};
use crate::rows::Rows;
use crate::stats::Stats;

pub use bare::{Depth, walk};

use following::{Following, GROUP};
use reading::{Decoded, Reading, name};

/// What a run gives.
pub struct Tracked {
    /// The connections, in the order of their first packets.
    pub rows: Rows,
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

/// Told between batches how far a run has come; it may stop it.
type Observe<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// Why a record is in no connection although it could have begun one: the table was full of assured ones.
const TABLE_FULL: &str = "table_full";

/// Tracks captures from the first record to the last. `observe` is called between batches, and when a signal
/// interrupted the reading; it may stop the run, which is then [`CaptureError::Interrupted`].
pub fn track(
    captures: &mut Captures,
    config: &Config,
    want_labels: bool,
    observe: Observe<'_>,
) -> Result<Tracked, CaptureError> {
    let following = Following::new(config, want_labels);
    let reading = Reading::new(config, following.tracker.keys());
    // A pipe may have nothing to read for ever, and who waits for it could not be stopped.
    let ends = captures.progress().1.is_some();
    let (reading, following) = if config.threads > 1 && ends {
        side_by_side(captures, reading, following, observe)?
    } else {
        in_turn(captures, reading, following, observe)?
    };
    finish(captures, config, reading, following)
}

/// One thread: a few records are read and followed while they are in the nearest cache.
fn in_turn(
    captures: &mut Captures,
    mut reading: Reading,
    mut following: Following,
    observe: Observe<'_>,
) -> Result<(Reading, Following), CaptureError> {
    let (mut batch, mut decoded) = (RecordBatch::default(), Decoded::default());
    loop {
        let (more, interrupted) = match captures.next_batch(&mut batch) {
            Ok(more) => (more, false),
            Err(CaptureError::Interrupted) => {
                batch.records.clear();
                (true, true)
            }
            Err(error) => return Err(error),
        };
        for records in batch.records.chunks(GROUP) {
            reading.decode(records, &batch, captures, &mut decoded);
            following.take(records, &batch, &decoded);
        }
        let (bytes, total) = captures.progress();
        if observe(Progress { bytes, total, packets: reading.stats.packets, interrupted }).is_break() {
            return Err(CaptureError::Interrupted);
        }
        if !more {
            return Ok((reading, following));
        }
    }
}

/// A batch, what is in it, and how far the reading has come with it.
struct Load {
    batch: RecordBatch,
    decoded: Decoded,
    progress: Progress,
}

/// Batches that are read ahead: enough that neither half waits for the other's longest one, few enough to stay in cache.
const AHEAD: usize = 3;
/// How often a run that waits for its reader asks whether it is to stop.
const PATIENCE: Duration = Duration::from_millis(100);

/// Two threads: this one follows what the other has read.
fn side_by_side(
    captures: &mut Captures,
    reading: Reading,
    mut following: Following,
    observe: Observe<'_>,
) -> Result<(Reading, Following), CaptureError> {
    let (bytes, total) = captures.progress();
    let (full, loads) = mpsc::sync_channel(AHEAD);
    // Batches that were followed go back to be filled again.
    let (empty, spent) = mpsc::channel();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read_ahead(captures, reading, &full, &spent));
        let mut progress = Progress { bytes, total, packets: 0, interrupted: false };
        loop {
            match loads.recv_timeout(PATIENCE) {
                Ok(Load { batch, decoded, progress: now }) => {
                    following.take(&batch.records, &batch, &decoded);
                    progress = now;
                    // The reader may have come to its end.
                    let _ = empty.send((batch, decoded));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
            if observe(progress).is_break() {
                // The reader finds nobody to read for.
                drop(loads);
                return Err(CaptureError::Interrupted);
            }
        }
        let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((read?, following))
    })
}

fn read_ahead(
    captures: &mut Captures,
    mut reading: Reading,
    full: &mpsc::SyncSender<Load>,
    spent: &mpsc::Receiver<(RecordBatch, Decoded)>,
) -> Result<Reading, CaptureError> {
    loop {
        let (mut batch, mut decoded) = spent.try_recv().unwrap_or_default();
        let more = match captures.next_batch(&mut batch) {
            Ok(more) => more,
            // The other thread asks what the signal meant.
            Err(CaptureError::Interrupted) => continue,
            Err(error) => return Err(error),
        };
        reading.decode(&batch.records, &batch, captures, &mut decoded);
        let (bytes, total) = captures.progress();
        let progress = Progress { bytes, total, packets: reading.stats.packets, interrupted: false };
        let is_wanted = full.send(Load { batch, decoded, progress }).is_ok();
        if !more || !is_wanted {
            return Ok(reading);
        }
    }
}

fn finish(
    captures: &Captures,
    config: &Config,
    reading: Reading,
    mut following: Following,
) -> Result<Tracked, CaptureError> {
    let (mut stats, watch, orphans) = reading.finish(captures)?;
    following.finish();
    let Following { tracker, rows, labels, refused } = following;
    if let Some((count, file, offset)) = refused {
        stats.skip(TABLE_FULL, count, name(captures, file), offset);
    }
    let mut rows = rows.in_order();
    stats.connections = tracker.begun();
    stats.evicted = tracker.evicted();
    stats.peak_connections = tracker.peak() as u64;
    // Zeek's own choice of the originator stands.
    if !config.zeek {
        let ports = config.likely_server_ports.clone().unwrap_or_else(ServerPorts::services);
        hindsight::settle(&mut rows, &Known { ports: &ports, announced: tracker.announced() });
    }
    stats.quality = watch.finish(rows.iter(), orphans);
    let labels = labels.map(|labels| labels.settle(&rows));
    Ok(Tracked { rows, labels, stats })
}
