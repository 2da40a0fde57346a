//! Ranges of one capture that are read apart: where a range may begin, and the proof that it does.
//!
//! A record of pcap has no mark, so a start found at an arbitrary offset is a guess, and a payload that contains a
//! capture makes a false one. A guess is used only if the reading from an earlier, proved start lands on it: between two
//! records, with the parser in the state that a reading from the guess would have. That state is the file header, and the
//! record in front of the start (its time is evidence for the next header; a simple packet block has its time from it).
//! So a range is read as a small capture: its head, which is that header and that record, and the bytes from its start.

use std::io::{self, Cursor, Read};
use std::path::PathBuf;

use super::pcap::Pcap;
use super::reader::CaptureReader;
use super::source::Input;
use super::{RecordBatch, blocks, part};
use crate::error::CaptureError;

/// Bytes at the front of a capture that are looked at for its header and its first record.
pub const FRONT: usize = 256 << 10;

/// Bytes behind a wished offset that are searched for a start.
pub const WINDOW: usize = 1 << 20;

/// Bytes that a walk reads before the caller regains control.
const STEP: u64 = 64 << 20;

/// Place between two records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// Byte offset of the record behind.
    pub offset: u64,
    /// File header and the record in front; empty where a file header is at the offset.
    pub head: Vec<u8>,
    /// Byte offset of the record in front.
    pub before: u64,
}

/// Header of a capture by its first [`FRONT`] bytes: of pcap, or the first section and its interfaces. None for captures
/// whose records cannot be found from the middle: compressed ones, snoop, and those with a longer header.
pub fn header(first: &[u8]) -> Option<Vec<u8>> {
    if let Some(size) = part::pcap_header_len(first) {
        return first.get(..size).map(<[u8]>::to_vec);
    }
    blocks::front(first).map(|(header, _)| header)
}

/// Number of interfaces in [`header`].
fn interfaces(first: &[u8]) -> usize {
    blocks::front(first).map_or(0, |(_, interfaces)| interfaces)
}

/// Guess the first start in `data`, [`WINDOW`] bytes from an offset of the file, or fewer up to its end. `first`: see
/// [`header`].
pub fn find(first: &[u8], data: &[u8], offset: u64) -> Option<Start> {
    let mut head = header(first)?;
    let record = match Pcap::new(first) {
        Some(pcap) => pcap.find(&first[head.len()..], data, data.len() < WINDOW)?,
        None => blocks::find(first, data, data.len() < WINDOW)?,
    };
    head.extend_from_slice(data.get(record.clone())?);
    Some(Start { offset: offset + record.end as u64, head, before: offset + record.start as u64 })
}

/// Bytes of a range, with its head in front. No read crosses a stop; the last stop is the end, if there is one.
pub struct RangeReader<R> {
    head: Cursor<Vec<u8>>,
    source: R,
    at: u64,
    stops: Vec<u64>,
    end: Option<u64>,
}

impl<R: Read> Read for RangeReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let given = self.head.read(into)?;
        if given > 0 {
            return Ok(given);
        }
        while self.stops.last().is_some_and(|&stop| stop <= self.at) {
            self.stops.pop();
        }
        let stop = self.stops.last().copied().or(self.end).unwrap_or(u64::MAX);
        let room = usize::try_from(stop.saturating_sub(self.at)).unwrap_or(usize::MAX).min(into.len());
        if room == 0 {
            return Ok(0);
        }
        let read = self.source.read(&mut into[..room])?;
        if let (0, Some(end)) = (read, self.end) {
            let reason = format!(
                "the file ends at offset {}, expected a range up to {end}: it has changed since split_points; split it anew",
                self.at
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        self.at += read as u64;
        Ok(read)
    }
}

/// Input of the records between a start and an end, which is the end of the file if there is none. `source` is at the
/// start.
pub fn range(name: PathBuf, source: Box<dyn Read + Send>, start: &Start, end: Option<u64>) -> Input {
    let base = start.offset.saturating_sub(start.head.len() as u64);
    let head = Cursor::new(start.head.clone());
    let reader = Box::new(RangeReader { head, source, at: start.offset, stops: Vec::new(), end });
    Input::Range { name, reader, base, from: start.offset, ends: end.is_some() }
}

/// Result of a step of a [`Walk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The walk goes on from this offset.
    More(u64),
    /// A further capture begins at this offset, behind the one before. The walk goes on behind.
    Part(u64),
    /// The target at this offset is a start, and the walk is over.
    Landed(u64),
    /// The file ends here.
    Ended(u64),
}

/// Reading of record headers from a proved start up to the first target that is a start.
pub struct Walk {
    reader: CaptureReader,
    batch: RecordBatch,
    /// Offsets of the targets and of the records in front of them.
    targets: Vec<(u64, u64)>,
    interfaces: usize,
    parts: Vec<u64>,
    last: u64,
    is_over: bool,
}

impl Walk {
    /// Walk from a start, at which `source` is, to targets in ascending order. `first`: first [`FRONT`] bytes of the
    /// capture that the targets belong to.
    pub fn new(
        name: PathBuf,
        source: Box<dyn Read + Send>,
        start: &Start,
        targets: Vec<(u64, u64)>,
        first: &[u8],
    ) -> Result<Self, CaptureError> {
        let base = start.offset.saturating_sub(start.head.len() as u64);
        let stops = targets.iter().rev().map(|target| target.0).collect();
        let head = Cursor::new(start.head.clone());
        let reader = Box::new(RangeReader { head, source, at: start.offset, stops, end: None });
        let input = Input::Range { name, reader, base, from: start.offset, ends: false };
        Ok(Self {
            reader: CaptureReader::new(input, 0, false)?,
            batch: RecordBatch::default(),
            targets,
            interfaces: interfaces(first),
            parts: Vec::new(),
            last: 0,
            is_over: false,
        })
    }

    /// Walk on for some bytes.
    pub fn step(&mut self) -> Result<Step, CaptureError> {
        let begun = self.reader.offset();
        loop {
            if !self.parts.is_empty() {
                return Ok(Step::Part(self.parts.remove(0)));
            }
            let at = self.reader.offset();
            if self.lands(at) {
                return Ok(Step::Landed(at));
            }
            if self.is_over {
                return Ok(Step::Ended(at));
            }
            if at - begun > STEP {
                return Ok(Step::More(at));
            }
            self.is_over = match self.reader.next_batch(&mut self.batch) {
                Ok(more) => !more,
                Err(CaptureError::Interrupted) => return Ok(Step::More(at)),
                Err(error) => return Err(error),
            };
            self.parts.extend(self.batch.parts.iter().map(|part| part.1));
            if let Some(last) = self.batch.records.last() {
                self.last = last.offset;
            }
        }
    }

    fn lands(&self, at: u64) -> bool {
        self.targets.binary_search_by_key(&at, |target| target.0).is_ok_and(|found| self.targets[found].1 == self.last)
            && self.reader.stands_between_records(self.interfaces)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    type Place = (u64, i64, Vec<u8>);

    fn records(input: Input) -> Vec<Place> {
        let mut reader = CaptureReader::new(input, 0, false).expect("a reader opens");
        let (mut all, mut batch) = (Vec::new(), RecordBatch::default());
        while reader.next_batch(&mut batch).expect("a sound range") {
            all.extend(batch.records.iter().map(|record| (record.offset, record.ts, batch.bytes(record).to_vec())));
        }
        all
    }

    fn slice(bytes: &[u8], start: &Start, end: Option<u64>) -> Input {
        range("a".into(), Box::new(Cursor::new(bytes[start.offset as usize..].to_vec())), start, end)
    }

    /// Starts that a walk from the front proves, one after the other.
    fn proved(bytes: &[u8], guesses: &[Start]) -> Vec<Start> {
        let targets: Vec<_> = guesses.iter().map(|start| (start.offset, start.before)).collect();
        let (mut all, mut start) = (vec![Start::default()], Start::default());
        loop {
            let source = Box::new(Cursor::new(bytes[start.offset as usize..].to_vec()));
            let behind = targets.iter().copied().filter(|target| target.0 > start.offset).collect();
            let mut walk = Walk::new("a".into(), source, &start, behind, bytes).expect("a walk begins");
            let landed = loop {
                match walk.step().expect("a sound file") {
                    Step::Landed(at) => break at,
                    Step::Ended(_) => return all,
                    Step::More(_) | Step::Part(_) => {}
                }
            };
            start = guesses.iter().find(|start| start.offset == landed).expect("a target").clone();
            all.push(start.clone());
        }
    }

    /// Guesses at every `step` bytes.
    fn guesses(bytes: &[u8], step: usize) -> Vec<Start> {
        let mut all: Vec<Start> =
            (step..bytes.len()).step_by(step).filter_map(|at| find(bytes, &bytes[at..], at as u64)).collect();
        all.dedup_by_key(|start| start.offset);
        all
    }

    fn ranges_equal_the_file(bytes: &[u8], step: usize) -> usize {
        let whole = records(Input::Reader { name: "a".into(), reader: Box::new(Cursor::new(bytes.to_vec())) });
        let starts = proved(bytes, &guesses(bytes, step));
        let ends = starts.iter().skip(1).map(|start| Some(start.offset)).chain([None]);
        let apart: Vec<Place> =
            starts.iter().zip(ends).flat_map(|(start, end)| records(slice(bytes, start, end))).collect();
        assert!(apart == whole, "{} records of {}", apart.len(), whole.len());
        starts.len()
    }

    #[test]
    fn ranges_have_the_records_of_the_file() {
        let mut pcap = PcapFile::plain();
        let mut ng = PcapngFile::new(true);
        ng.interface(1, 0, &[]).interface(113, 0, &[(9, &[9])]);
        for i in 0..400 {
            pcap.packet(T0 + i, i, &payload(i));
            ng.packet(i % 2, u64::from(i), &payload(i));
        }
        for bytes in [&pcap.bytes, &ng.bytes] {
            assert!(ranges_equal_the_file(bytes, bytes.len() / 9) > 7);
        }
        // Captures one behind the other, and damage.
        let two = [&pcap.bytes[..], &pcap.bytes].concat();
        assert!(ranges_equal_the_file(&two, two.len() / 9) > 7);
        assert!(ranges_equal_the_file(&[&pcap.bytes[..], &ng.bytes].concat(), 1500) > 4);
        for at in (100..pcap.bytes.len() - 9000).step_by(4001) {
            let mut damaged = pcap.bytes.clone();
            damaged[at..at + 900].fill(0xff);
            ranges_equal_the_file(&damaged, 700);
        }
    }

    #[test]
    fn a_capture_inside_payloads_makes_no_start() {
        let inner = sample(30);
        let mut outer = PcapFile::plain();
        for i in 0..60 {
            outer.packet(T0 + i, i, &inner);
        }
        let found = guesses(&outer.bytes, 1000);
        let starts = proved(&outer.bytes, &found);
        assert!(starts.len() < found.len(), "no guess was false");
        ranges_equal_the_file(&outer.bytes, 1000);
    }

    #[test]
    fn a_file_that_changed_is_an_error() {
        let bytes = sample(90);
        let start = find(&bytes, &bytes[500..], 500).expect("a start");
        let end = guesses(&bytes, 3000)[0].offset;
        let error = |bytes: &[u8], end: u64| {
            let mut reader = CaptureReader::new(slice(bytes, &start, Some(end)), 0, false).expect("a reader opens");
            let mut batch = RecordBatch::default();
            loop {
                match reader.next_batch(&mut batch) {
                    Ok(true) => {}
                    Ok(false) => return String::new(),
                    Err(error) => return error.to_string(),
                }
            }
        };
        assert_eq!(error(&bytes, end), "");
        assert!(error(&bytes[..end as usize - 1], end).contains("changed since split_points"));
        assert!(error(&bytes, end - 3).contains("changed since split_points"));
    }
}
