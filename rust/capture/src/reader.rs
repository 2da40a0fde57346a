//! Reader of one capture file: reads in pieces and parses records in place.

use std::path::{Path, PathBuf};

use super::codec::ZSTD_WINDOW;
use super::damage::{Damage, DamageKind, DamageReport};
use super::faults::{Failure, Faults, SkippedFile};
use super::foreign;
use super::parse::{Chunk, Sink, hex};
use super::part;
use super::pcap::{self, Pcap};
use super::pcapng::Pcapng;
use super::snoop::Snoop;
use super::source::{Input, ReadError, Source};
use super::{Record, RecordBatch};
use crate::error::CaptureError;

/// Factor by which a buffer may exceed its need before the buffer shrinks.
const MOST_KEPT: usize = 8;

/// Size of one read in bytes, and so the approximate size of a batch. The system call is amortized, and packets are
/// still in the second-level cache during decoding.
pub const READ_SIZE: usize = 256 << 10;

/// Alignment of read addresses in bytes; reads from the page cache are several times faster with aligned addresses.
const ALIGN: usize = 4096;

/// Bytes without a record after which an empty batch is returned, so that the caller can check for signals.
const IDLE: usize = 16 << 20;

enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
    Snoop(Snoop),
}

/// Reader of one capture.
///
/// Memory does not depend on the file size: a batch holds the bytes of one read. Only a longer single record needs
/// more, 16 MiB at most. The sequence of records does not depend on the reads; the division into batches does.
pub struct CaptureReader {
    name: PathBuf,
    file: u32,
    faults: Faults,
    pub(super) read_size: usize,
    source: Source,
    /// None until the head of the file was read.
    format: Option<Format>,
    /// Bytes behind the last complete record, for the next batch.
    tail: Vec<u8>,
    /// Offset in the uncompressed file of the first unparsed byte.
    offset: u64,
    ended: bool,
    /// Nothing came after the first bytes when last looked at.
    is_stalled: bool,
    /// Reason why the compressed data ended early.
    cut: Option<String>,
    /// Error to return after the records before the error.
    failure: Option<CaptureError>,
    done: bool,
    damage: DamageReport,
    parts: u64,
    /// Bytes behind the last parsed one that are not used.
    lost: u64,
    /// Records so far.
    records: u64,
    /// Error from which on the file was passed over.
    passed_over: Option<Failure>,
    /// Offsets of further parts, and for each the index of the first record behind in the last batch.
    marks: Vec<(u64, u32)>,
    /// Records of the last batch.
    given: u32,
    /// Offset at which the reading began.
    began: u64,
    /// Bytes of the uncompressed file to pass over.
    skip: u64,
    extent: Extent,
}

/// Extent of a reading.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// All parts of a file.
    File,
    /// One part.
    Part,
    /// One part, which is read.
    Ended,
}

/// Place of a part in a regular file.
#[derive(Clone, Copy, Debug)]
pub(super) struct PartPlace {
    /// Offset of the first byte in the uncompressed file.
    pub(super) start: u64,
    /// The file is compressed, so that the bytes before have to be read again.
    pub(super) compressed: bool,
}

impl CaptureReader {
    /// Open a capture; `-` is standard input. No byte is read yet: a file that is no capture is the first error of
    /// [`Self::next_batch`].
    ///
    /// `file` becomes the index in the records. With `strict` the first damage ends the reading with
    /// [`CaptureError::Format`] after the records before the damage. Without `strict`, damage is counted and skipped.
    /// With `skip` an error ends the reading as the end of the file does; see [`Self::skipped`].
    pub fn open(name: &Path, file: u32, faults: impl Into<Faults>) -> Result<Self, CaptureError> {
        Self::new(Input::named(name), file, faults)
    }

    /// Variant of [`Self::open`] for any input.
    pub fn new(input: Input, file: u32, faults: impl Into<Faults>) -> Result<Self, CaptureError> {
        let (name, faults) = (input.name(), faults.into());
        match Self::opened(input, file, faults) {
            Err(error) if faults.pass_over(&error) => {
                let passed_over = Some(Failure { error, offset: None });
                Ok(Self { passed_over, done: true, ..Self::of(name, Source::empty(), file, faults) })
            }
            opened => opened,
        }
    }

    /// Variant of [`Self::new`] that fails where the file cannot be opened.
    pub(super) fn opened(input: Input, file: u32, faults: Faults) -> Result<Self, CaptureError> {
        let name = input.name();
        let source = Source::open(input).map_err(|source| CaptureError::Io { path: name.clone(), source })?;
        Ok(Self::of(name, source, file, faults))
    }

    /// Reader of one part of a regular file: the part that begins at a place, up to the next one.
    pub(super) fn part(name: &Path, place: PartPlace, file: u32, faults: Faults) -> Result<Self, CaptureError> {
        let PartPlace { start, compressed } = place;
        let opened = if compressed { Source::open(Input::Path(name.to_owned())) } else { Source::open_at(name, start) };
        let source = opened.map_err(|source| CaptureError::Io { path: name.to_owned(), source })?;
        let skip = if compressed { start } else { 0 };
        let whole = Self::of(name.to_owned(), source, file, faults);
        Ok(Self { offset: start, began: start, skip, extent: Extent::Part, ..whole })
    }

    fn of(name: PathBuf, source: Source, file: u32, faults: Faults) -> Self {
        Self {
            name,
            file,
            faults,
            read_size: READ_SIZE,
            source,
            format: None,
            tail: Vec::new(),
            offset: 0,
            ended: false,
            is_stalled: false,
            cut: None,
            failure: None,
            done: false,
            damage: DamageReport::default(),
            parts: 0,
            lost: 0,
            records: 0,
            passed_over: None,
            marks: Vec::new(),
            given: 0,
            began: 0,
            skip: 0,
            extent: Extent::File,
        }
    }

    /// Set the read size in bytes (at least 1). Only tests need another value than the default, [`READ_SIZE`].
    #[must_use]
    pub fn with_read_size(mut self, bytes: usize) -> Self {
        self.read_size = bytes.max(1);
        self
    }

    /// File name as given by the caller.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Damage so far.
    pub fn damage(&self) -> &DamageReport {
        &self.damage
    }

    /// Number of captures in the file so far, one behind the other: pcap files and pcapng sections.
    pub fn parts(&self) -> u64 {
        self.parts
    }

    /// Bytes of the uncompressed file so far, and those behind damage of the compressed file; see
    /// [`DamageReport::unused`].
    pub fn size(&self) -> u64 {
        let last = if self.has_ended() { 0 } else { self.tail.len() as u64 };
        self.offset - self.began + last + self.lost
    }

    /// Offsets of the further parts that begin in the last batch, or before its first record, and for each the index of
    /// the first record behind.
    pub(super) fn marks(&self) -> &[(u64, u32)] {
        &self.marks
    }

    /// True if the reader of one part has read all of it.
    pub(super) fn has_ended(&self) -> bool {
        self.extent == Extent::Ended
    }

    /// True if the file is compressed, once its head was read.
    pub(super) fn is_compressed(&self) -> bool {
        self.source.compression().is_some()
    }

    pub(super) fn source(&mut self) -> &mut Source {
        &mut self.source
    }

    /// True for a regular file without a descriptor.
    pub(super) fn is_parked(&self) -> bool {
        self.source.is_parked()
    }

    /// The file, if it was passed over from an error on.
    pub fn skipped(&self) -> Option<SkippedFile<'_>> {
        let Failure { error, offset } = self.failure()?;
        Some(SkippedFile { file: self.file, error, offset: *offset, records: self.records })
    }

    /// The error from which on the file was passed over.
    pub(super) fn failure(&self) -> Option<&Failure> {
        self.passed_over.as_ref()
    }

    /// As [`Self::failure`], taken out.
    pub(super) fn take_failure(&mut self) -> Option<Failure> {
        self.passed_over.take()
    }

    /// Number of records so far.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Bytes read of the (compressed) file, and its size if the file is regular.
    pub fn progress(&self) -> (u64, Option<u64>) {
        self.source.progress()
    }

    /// True if the file can be closed and reopened from the start.
    pub(super) fn is_regular(&self) -> bool {
        self.source.is_regular()
    }

    /// Replace the contents of `batch` by the next records; false at the end.
    ///
    /// A wait for input ends with one complete record, so a live pipe delivers packets promptly. Only an odd pcap
    /// header waits for the next header too. A batch may be empty while long damage is skipped. After
    /// [`CaptureError::Interrupted`] the next call resumes; after any other error the file is at its end.
    pub fn next_batch(&mut self, batch: &mut RecordBatch) -> Result<bool, CaptureError> {
        batch.records.clear();
        if self.done {
            return Ok(false);
        }
        // A part without a record yet is a part of the next batch.
        let given = self.given;
        self.marks.retain_mut(|(_, index)| std::mem::take(index) >= given);
        batch.parts.clear();
        let result = self.fill(batch);
        self.given = batch.records.len() as u32;
        batch.parts.extend(self.marks.iter().map(|&(offset, _)| (self.file, offset)));
        self.done = !matches!(result, Ok(true) | Err(CaptureError::Interrupted));
        self.records += batch.records.len() as u64;
        match result {
            Err(error) if self.faults.pass_over(&error) => {
                let offset = Some(error.offset().unwrap_or(self.began + self.size()));
                self.passed_over = Some(Failure { error, offset });
                Ok(!batch.records.is_empty())
            }
            result => result,
        }
    }

    fn fill(&mut self, batch: &mut RecordBatch) -> Result<bool, CaptureError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.has_ended() {
            return Ok(false);
        }
        let (mut start, mut end) = self.place_tail(&mut batch.data);
        let mut idle = 0;
        loop {
            if self.skip > 0 {
                let skipped = self.skip.min((end - start) as u64);
                self.skip -= skipped;
                start += skipped as usize;
            }
            let used = self.parse(&batch.data[start..end], start as u32, &mut batch.records);
            start += used;
            self.offset += used as u64;
            if self.has_ended() {
                return Ok(!batch.records.is_empty());
            }
            if !batch.records.is_empty() {
                self.keep(&batch.data[start..end]);
                return Ok(true);
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if self.ended {
                return self.finish(&batch.data[start..end]);
            }
            if idle > IDLE {
                self.keep(&batch.data[start..end]);
                return Ok(true);
            }
            self.make_room(&mut batch.data, &mut start, &mut end);
            let room = (batch.data.len() - end).min(self.read_size);
            match self.source.read(&mut batch.data[end..end + room]) {
                Ok(0) => self.ended = true,
                Ok(n) => {
                    self.is_stalled = false;
                    end += n;
                    idle += n;
                }
                Err(ReadError::Compression(cause)) => {
                    self.ended = true;
                    self.cut = Some(cause);
                }
                Err(ReadError::Idle) => {
                    self.keep(&batch.data[start..end]);
                    return Ok(true);
                }
                Err(e @ (ReadError::Interrupted | ReadError::Silent)) => {
                    if matches!(e, ReadError::Silent) && self.format.is_none() && end > start {
                        self.is_stalled = true;
                        self.head(&batch.data[start..end], self.offset)?;
                    }
                    self.keep(&batch.data[start..end]);
                    return Err(CaptureError::Interrupted);
                }
                Err(ReadError::Io(source)) => return Err(CaptureError::Io { path: self.name.clone(), source }),
            }
        }
    }

    /// Place the tail in the buffer so that the next read goes to an aligned address.
    fn place_tail(&mut self, data: &mut Vec<u8>) -> (usize, usize) {
        let tail = self.tail.len();
        let least = tail + 2 * ALIGN + self.read_size;
        if data.len() < least {
            data.resize(least, 0);
        } else if data.len() > MOST_KEPT * least {
            // Release the memory of one very long record before the end of the file.
            data.truncate(least);
            data.shrink_to_fit();
        }
        let first = data.as_ptr().align_offset(ALIGN) % ALIGN;
        let end = first + tail.saturating_sub(first).next_multiple_of(ALIGN);
        let start = end - tail;
        data[start..end].copy_from_slice(&self.tail);
        self.tail.clear();
        self.tail.shrink_to(self.read_size);
        (start, end)
    }

    fn keep(&mut self, rest: &[u8]) {
        self.tail.clear();
        self.tail.extend_from_slice(rest);
    }

    /// Ensure room for a read behind `end`.
    fn make_room(&self, data: &mut Vec<u8>, start: &mut usize, end: &mut usize) {
        if data.len() - *end >= self.read_size.min(ALIGN) {
            return;
        }
        // Either enough bytes were skipped in front, or one record exceeds the buffer.
        let used = *end - *start;
        if *start > used {
            data.copy_within(*start..*end, 0);
            (*start, *end) = (0, used);
        }
        let least = *end + self.read_size;
        if data.len() < least {
            data.resize(least, 0);
        }
    }

    /// Parse the available data and return the number of bytes consumed.
    fn parse(&mut self, data: &[u8], origin: u32, records: &mut Vec<Record>) -> usize {
        let mut used = 0;
        if self.skip > 0 {
            return 0;
        }
        loop {
            if self.format.is_none() {
                match self.head(&data[used..], self.offset + used as u64) {
                    Ok(Some((format, header))) => {
                        self.parts += u64::from(!matches!(format, Format::Pcapng(_)));
                        self.format = Some(format);
                        used += header;
                    }
                    Ok(None) => return used,
                    Err(e) => {
                        // The records of earlier parts come first.
                        self.failure = Some(e);
                        return used;
                    }
                }
            }
            let offset = self.offset + used as u64;
            let chunk = Chunk { data: &data[used..], origin: origin + used as u32, offset, last: self.ended };
            let (file, strict, parts) = (self.file, self.faults.strict, &mut self.parts);
            let mut sink = Sink { records, damage: &mut self.damage, file, strict, fault: None, parts, part: false };
            used += match &mut self.format {
                Some(Format::Pcap(pcap)) => pcap.parse(chunk, &mut sink),
                Some(Format::Pcapng(pcapng)) => pcapng.parse(chunk, &mut sink),
                Some(Format::Snoop(snoop)) => snoop.parse(chunk, &mut sink),
                None => 0,
            };
            let part = sink.part;
            if let Some(fault) = sink.fault {
                self.failure = Some(self.bad(fault.offset, fault.found, &fault.expected));
            }
            if !part {
                return used;
            }
            self.format = None;
            if self.extent == Extent::Part {
                self.extent = Extent::Ended;
                return used;
            }
            self.marks.push((self.offset + used as u64, records.len() as u32));
        }
    }

    /// Detect the format of the file, or of a further part that begins at `start`; None while the head is incomplete.
    fn head(&self, data: &[u8], start: u64) -> Result<Option<(Format, usize)>, CaptureError> {
        let section = data.first_chunk::<4>().is_some_and(|b| u32::from_be_bytes(*b) == part::SECTION);
        let pcap = part::pcap_header_len(data);
        let snoop = data.starts_with(part::SNOOP);
        // Any other file is no capture, and its format is told by as many bytes.
        let other = if snoop { part::SNOOP_LEN } else { foreign::HEAD };
        let needed = if section { part::SECTION_LEN } else { pcap.unwrap_or(other) };
        if data.len() >= needed {
            if snoop {
                return match Snoop::new(data) {
                    Ok(parser) => Ok(Some((Format::Snoop(parser), needed))),
                    Err((offset, found, expected)) => Err(self.bad(start + offset, found, &expected)),
                };
            }
            if section {
                let parser = Pcapng::new();
                return match part::check_section(data) {
                    Ok(()) => Ok(Some((Format::Pcapng(parser), 0))),
                    Err((offset, found, expected)) => Err(self.bad(start + offset, found, &expected)),
                };
            }
            if let Some(parser) = Pcap::new(data) {
                return Ok(Some((Format::Pcap(parser), needed)));
            }
        } else if !(self.ended || self.is_stalled && part::is_foreign(data)) {
            return Ok(None);
        }
        let mut found = match data {
            [] => "an empty file".to_owned(),
            _ if section || snoop || pcap.is_some() => format!("the end of the file after {} bytes", data.len()),
            _ => format!("first bytes {}", hex(&data[..data.len().min(4)])),
        };
        let format = if section || snoop || pcap.is_some() { None } else { foreign::name(data, &self.name) };
        if let Some((name, _)) = format {
            found = format!("{name} ({found})");
        }
        if let Some(kind) = self.source.compression() {
            found = match &self.cut {
                Some(cause) if cause == ZSTD_WINDOW => cause.clone(),
                Some(cause) => format!("{found} in damaged {kind} data ({cause})"),
                None => format!("{found} in {kind} data"),
            };
        }
        let expected = match pcap {
            _ if section => format!("a pcapng section header of at least {needed} bytes"),
            Some(_) => format!("a pcap file header of {needed} bytes"),
            _ if snoop => format!("a snoop file header of {needed} bytes"),
            None => format!(
                "a capture: pcap, pcapng or snoop, plain or compressed with gzip, zstd, lz4, xz or bzip2 (at least {} bytes)",
                pcap::HEADER_LEN
            ),
        };
        let remedy = format.map(|(_, remedy)| format!("; {remedy}")).unwrap_or_default();
        Err(self.bad(start, found, &(expected + &remedy)))
    }

    /// Check the end of the file, which must leave no incomplete record.
    fn finish(&mut self, rest: &[u8]) -> Result<bool, CaptureError> {
        let left = rest.len() as u64;
        let (kind, bytes, unused, found, expected) = if let Some(cause) = self.cut.take() {
            (DamageKind::Compression, left, left + self.source.unread(), cause, "sound compressed data up to its end")
        } else if rest.is_empty() {
            return Ok(false);
        } else {
            let missing = match &self.format {
                Some(Format::Pcap(pcap)) => pcap.missing(rest),
                Some(Format::Pcapng(pcapng)) => pcapng.missing(self.offset, rest),
                Some(Format::Snoop(_)) => Snoop::missing(rest),
                None => 0,
            };
            let found = format!("the end of the file {left} bytes into a record");
            (DamageKind::TruncatedFile, missing, left, found, "whole records up to the end of the file")
        };
        self.lost = unused;
        self.damage.add(Damage { file: self.file, offset: self.offset, bytes, kind }, unused);
        if self.faults.strict { Err(self.bad(self.offset, found, expected)) } else { Ok(false) }
    }

    fn bad(&self, offset: u64, found: String, expected: &str) -> CaptureError {
        CaptureError::Format { path: self.name.clone(), offset, found, expected: expected.to_owned() }
    }
}

#[cfg(test)]
mod tests;
