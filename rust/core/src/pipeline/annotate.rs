//! Second pass over a capture: every packet with its label as a comment, or split by the direction of its connection.

use std::fmt::Write as _;
use std::io::{self, Write};

use conntrack_capture::error::CaptureError;
use conntrack_capture::{Captures, Crossing, LinkType, PcapngWriter, Record, RecordBatch};
use conntrack_output::anonymise::Anonymiser;
use conntrack_output::labels::SettledLabel;
use conntrack_output::rows::{Row, Rows, renamed};
use conntrack_track::connection::Evidence;
use conntrack_track::direction::Direction;
use conntrack_track::proto::{CtState, State};

use super::rewrite::Rewriter;
use super::{Observe, Progress, RunOutput};

/// Error of the second pass.
#[derive(Debug, thiserror::Error)]
pub enum AnnotateError {
    /// The capture could not be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The output could not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The capture changed after it was tracked.
    #[error("found {found} packets, expected {expected}: the capture changed between the first reading and the second")]
    Changed {
        /// Packets of the second pass, up to the first mismatch.
        found: u64,
        /// Packets of the first pass.
        expected: u64,
    },
}

/// Writes the packets of a capture that was tracked with labels, each with its direction bits and a comment. `names`: headers
/// alone, with names in place of addresses. Returns the number of packets that could not be rewritten and are left out.
pub fn label(
    captures: &mut Captures,
    tracked: &RunOutput,
    out: impl Write,
    names: Option<&Anonymiser>,
    observe: Observe<'_>,
) -> Result<u64, AnnotateError> {
    let mut writer = PcapngWriter::new(out)?;
    let mut comment = String::new();
    let mut rewriter = names.map(Rewriter::new);
    let named = names.map(|names| renamed(tracked.rows.iter(), tracked.rows.locality(), names));
    again(captures, tracked, observe, |record, bytes, label, row| {
        comment.clear();
        let row = if let Some(named) = &named { label.connection.and_then(|row| named.get(row)) } else { row };
        if let Some(row) = row {
            describe(&mut comment, label, row);
        }
        let Some((linktype, len, bytes)) = shown(rewriter.as_mut(), record, bytes) else { return Ok(()) };
        writer.packet(record.ts, linktype, len, bytes, crossing(label), &comment)
    })?;
    writer.finish()?;
    Ok(rewriter.map_or(0, |rewriter| rewriter.dropped))
}

/// Link type, length on the wire and bytes of a packet as it is written; None: left out.
fn shown<'a>(
    rewriter: Option<&'a mut Rewriter<'_>>,
    record: &Record,
    bytes: &'a [u8],
) -> Option<(LinkType, u32, &'a [u8])> {
    let Some(rewriter) = rewriter else { return Some((record.linktype, record.len, bytes)) };
    let (frame, len) = rewriter.frame(record, bytes)?;
    Some((LinkType::ETHERNET, len, frame))
}

/// Writes the packets of a capture that was tracked with labels to one file for each direction that occurs; `open`
/// creates a file. `names` and the number are those of [`label`].
pub fn split<W: Write>(
    captures: &mut Captures,
    tracked: &RunOutput,
    mut open: impl FnMut(Direction) -> io::Result<W>,
    names: Option<&Anonymiser>,
    observe: Observe<'_>,
) -> Result<u64, AnnotateError> {
    let mut rewriter = names.map(Rewriter::new);
    let mut writers: [Option<PcapngWriter<W>>; Direction::NAMES.len()] = std::array::from_fn(|_| None);
    again(captures, tracked, observe, |record, bytes, label, _| {
        let Some((linktype, len, bytes)) = shown(rewriter.as_mut(), record, bytes) else { return Ok(()) };
        let place = &mut writers[label.direction as usize];
        let writer = match place {
            Some(writer) => writer,
            None => place.insert(PcapngWriter::new(open(label.direction)?)?),
        };
        writer.packet(record.ts, linktype, len, bytes, crossing(label), "")
    })?;
    writers.into_iter().flatten().try_for_each(PcapngWriter::finish)?;
    Ok(rewriter.map_or(0, |rewriter| rewriter.dropped))
}

/// Reads a capture again, and visits every record with its label.
fn again(
    captures: &mut Captures,
    tracked: &RunOutput,
    observe: Observe<'_>,
    mut visit: impl FnMut(&Record, &[u8], &SettledLabel, Option<Row<'_>>) -> io::Result<()>,
) -> Result<(), AnnotateError> {
    let (rows, bytes): (&Rows, &[u8]) = (&tracked.rows, tracked.labels.as_deref().unwrap_or_default());
    let mut labels = bytes.as_chunks().0.iter().map(SettledLabel::of);
    let expected = labels.len() as u64;
    let mut found = 0;
    let mut batch = RecordBatch::default();
    if tracked.stats.merged_parts > 0 {
        captures.merge_parts_at_once();
    }
    loop {
        let (more, interrupted) = match captures.next_batch(&mut batch) {
            Ok(more) => (more, false),
            Err(CaptureError::Interrupted) => {
                batch.records.clear();
                (true, true)
            }
            // No record was given before.
            Err(CaptureError::Restart) => (true, false),
            Err(error) => return Err(error.into()),
        };
        for record in &batch.records {
            found += 1;
            let Some(label) = labels.next() else { return Err(AnnotateError::Changed { found, expected }) };
            let row = label.connection.and_then(|row| rows.get(row));
            visit(record, batch.bytes(record), &label, row)?;
        }
        let (bytes, total) = captures.progress();
        if observe(Progress { bytes, total, packets: found, interrupted }).is_break() {
            return Err(CaptureError::Interrupted.into());
        }
        if !more {
            return if found == expected { Ok(()) } else { Err(AnnotateError::Changed { found, expected }) };
        }
    }
}

/// Direction bits of a packet, by the direction of its connection.
fn crossing(label: &SettledLabel) -> Crossing {
    match (label.direction, label.reply) {
        (Direction::Egress, false) | (Direction::Ingress, true) => Crossing::Outbound,
        (Direction::Egress, true) | (Direction::Ingress, false) => Crossing::Inbound,
        _ => Crossing::Unknown,
    }
}

/// `orig=10.0.0.1:40000 resp=192.0.2.1:443 direction=egress sender=orig ctstate=NEW state=SYN_SENT evidence=syn confidence=1.00`.
fn describe(comment: &mut String, label: &SettledLabel, row: Row<'_>) {
    // Writing to a string does not fail.
    let _ = write!(
        comment,
        "orig={} resp={} direction={} sender={} ctstate={} state={} evidence={} confidence={:.2}",
        end(row, 0),
        end(row, 1),
        Direction::NAMES[label.direction as usize],
        if label.reply { "resp" } else { "orig" },
        CtState::NAMES.get(usize::from(label.ctstate)).copied().unwrap_or_default(),
        State::NAMES.get(usize::from(label.state)).copied().unwrap_or_default(),
        Evidence::NAMES[row.evidence() as usize],
        row.confidence(),
    );
}

fn end(row: Row<'_>, end: usize) -> String {
    match (row.ip(end), row.port(end)) {
        (addr, 0) => addr.to_string(),
        (addr, port) => std::net::SocketAddr::new(addr, port).to_string(),
    }
}
