//! The path of a packet: bytes → record → packet → connection → row.
//!
//! The path has two halves. `reading` knows captures and packets and no connection; `following` the other way round. One
//! thread alternates between them, a few records at a time. `shards` runs a tracker on each of several threads, with equal
//! results. `stream` is the push-based API, `replay` the path through a gateway with a policy.

mod alive;
mod annotate;
mod bare;
mod begun;
mod early_reports;
mod following;
mod fragments;
mod hosts;
mod named;
mod order;
mod progress;
mod reading;
mod replay;
mod rewrite;
mod seam;
mod shards;
mod stream;

use crate::hindsight::{self, Hints};
use conntrack_capture::error::CaptureError;
use conntrack_capture::{Captures, DamageKind, RecordBatch};
use conntrack_decode::{Skip, TunnelMode};
use conntrack_output::labels::Labels;
use conntrack_output::quality::Quality;
use conntrack_output::rows::Rows;
use conntrack_output::stats::Stats;
use conntrack_track::config::{Bounds, Config, ServerPorts, Timeout};
use conntrack_track::tracker::{Evictions, Keys, Tracker};

pub use annotate::{AnnotateError, label, split};
pub use bare::{Depth, walk};
pub use hosts::{HostNames, with_names};
pub use named::named;
pub use progress::{Observe, Progress};
pub use reading::{count_damage, skipped_files};
pub use replay::{Fate, ReplayOutput, replay};
pub use seam::{CapturePosition, CellRecord, Headers, ShardTracker};
pub use stream::{Fill, Stream};

use following::{GROUP, NoLabels, TrackOutput, TrackStage};
use reading::{Batch, DecodeOutput, DecodeStage, Decoded, name};
use shards::Shards;

/// Results of a run.
pub struct RunOutput {
    /// The connections, in the order of their first packets.
    pub rows: Rows,
    /// Labels, [`conntrack_output::labels::WIDTH`] bytes each, if wanted.
    pub labels: Option<Vec<u8>>,
    /// Statistics.
    pub stats: Stats,
}

/// Reason for skipping a record that would have begun a connection: the table was full, and the search for a victim
/// found assured connections only.
pub const TABLE_FULL: &str = "table_full";

/// The bounds of a table, as keys of [`Stats::evicted_by`].
const BOUNDS: [&str; 3] = ["max_connections", "memory_limit", "icmp_errors"];

/// Every key that [`Stats::skipped`] may have.
pub fn reasons() -> impl Iterator<Item = &'static str> {
    Skip::NAMES.into_iter().chain(DamageKind::NAMES).chain([TABLE_FULL])
}

/// Tracks captures from the first record to the last. `observe` is called between batches, and when a signal
/// interrupted the reading; it may stop the run, which is then [`CaptureError::Interrupted`].
pub fn track(
    captures: &mut Captures,
    config: &Config,
    want_labels: bool,
    observe: Observe<'_>,
) -> Result<RunOutput, CaptureError> {
    let mut shares = config.threads > 1;
    with_restarts(captures, |captures| {
        shares &= can_be_parted(captures, config);
        if shares {
            let total = captures.progress().1;
            if let Some((reading, output)) = Shards::new(captures, config, want_labels).run(total, &mut *observe)? {
                return finish(captures, config, reading, output);
            }
            // Evictions depend on all connections, so that one thread begins anew, and goes on after further restarts.
            shares = false;
            *captures = captures.again()?;
        }
        let (reading, output) = in_turn(captures, config, want_labels, &mut *observe)?;
        finish(captures, config, reading, output)
    })
}

/// Runs on captures whose parts are merged by time, from the begin again once parts are found to overlap.
fn with_restarts<T>(
    captures: &mut Captures,
    mut run: impl FnMut(&mut Captures) -> Result<T, CaptureError>,
) -> Result<T, CaptureError> {
    captures.merge_parts();
    loop {
        match run(captures) {
            Err(CaptureError::Restart) => {}
            done => return done,
        }
    }
}

/// True where sharded trackers give the results of one tracker, as long as no bound of its table is hit.
fn can_be_parted(captures: &Captures, config: &Config) -> bool {
    // A read of a pipe may block for ever, and could not be interrupted.
    let ends = captures.progress().1.is_some();
    // Inner packets of a tunnel belong to the outer connection; Zeek keys an ICMP packet by its quotation.
    let may_begin_anew = config.bounds == Bounds::default() || captures.may_begin_anew();
    ends && may_begin_anew && config.decode.tunnels != TunnelMode::Both && !config.zeek
}

/// Tracks on one thread.
fn in_turn(
    captures: &mut Captures,
    config: &Config,
    want_labels: bool,
    observe: Observe<'_>,
) -> Result<(DecodeStage, TrackOutput), CaptureError> {
    let mut labels = want_labels.then(Labels::default);
    let (reading, output) = match &mut labels {
        Some(labels) => on_one_thread(captures, config, observe, |following, batch| following.take(batch, labels))?,
        None => on_one_thread(captures, config, observe, |following, batch| following.take(batch, &mut NoLabels))?,
    };
    Ok((reading, TrackOutput { labels, ..output }))
}

/// Runs on one thread, a few records at a time, which stay in the L1 cache. `take` hands each batch on to the tracker.
fn on_one_thread(
    captures: &mut Captures,
    config: &Config,
    observe: Observe<'_>,
    mut take: impl FnMut(&mut TrackStage, &Batch<'_>),
) -> Result<(DecodeStage, TrackOutput), CaptureError> {
    let keys = Keys::new(config);
    let mut reading = DecodeStage::new(config, keys.clone());
    let mut following = TrackStage::new(Tracker::with_keys(config, keys), config.bounds != Bounds::default());
    read_on(captures, &mut reading, observe, |batch| take(&mut following, batch))?;
    following.finish();
    Ok((reading, following.output()))
}

/// Reads to the end, and passes on a few records at a time.
fn read_on(
    captures: &mut Captures,
    reading: &mut DecodeStage,
    observe: Observe<'_>,
    mut take: impl FnMut(&Batch<'_>),
) -> Result<(), CaptureError> {
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
            reading.decode(records, &batch, &mut decoded);
            take(&Batch { records, bytes: &batch, decoded: &decoded });
        }
        let (bytes, total) = captures.progress();
        if observe(Progress { bytes, total, packets: reading.stats.packets, interrupted }).is_break() {
            return Err(CaptureError::Interrupted);
        }
        if !more {
            return Ok(());
        }
    }
}

/// Counts the records for which the table had no room.
fn count_refused(stats: &mut Stats, refused: Option<(u64, u32, u64)>, captures: &Captures) {
    if let Some((count, file, offset)) = refused {
        stats.skip(TABLE_FULL, count, name(captures, file), offset);
    }
}

/// Counts evicted connections, beside the forgotten datagrams, by the bound that was hit.
fn count_evicted(stats: &mut Stats, evicted: Evictions) {
    stats.evicted = evicted.sum();
    for (bound, count) in BOUNDS.into_iter().zip([evicted.connections, evicted.memory, evicted.errors]) {
        if count > 0 {
            stats.evicted_by.insert(bound, count);
        }
    }
}

fn finish(
    captures: &Captures,
    config: &Config,
    reading: DecodeStage,
    output: TrackOutput,
) -> Result<RunOutput, CaptureError> {
    let DecodeOutput { mut stats, watch, orphans, expected, begins } = reading.finish(captures)?;
    let TrackOutput { rows, labels, refused, begun, evicted, crowded, alive } = output;
    count_refused(&mut stats, refused, captures);
    let mut rows = rows.in_order();
    stats.connections = begun;
    count_evicted(&mut stats, evicted);
    stats.peak_connections = alive.peak();
    // Zeek's own choice of the originator stands.
    if !config.zeek {
        let ports = config.likely_server_ports.clone().unwrap_or_else(ServerPorts::services);
        let udp_timeout = config.rules.timeouts.get(Timeout::Udp);
        hindsight::settle(&mut rows, &Hints { ports: &ports, expected: &expected, files: &begins, udp_timeout });
    }
    stats.quality = Quality { tags_crowded: crowded, ..watch.finish(rows.iter(), orphans) };
    let labels = labels.map(|labels| labels.settle(&rows));
    Ok(RunOutput { rows, labels, stats })
}
