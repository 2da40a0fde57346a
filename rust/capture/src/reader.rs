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
    /// Offset before which records are not given.
    from: u64,
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
    /// A range that ends before the file.
    Range,
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
        let (base, from, extent) = match input {
            Input::Range { base, from, ends, .. } => (base, from, if ends { Extent::Range } else { Extent::File }),
            _ => (0, 0, Extent::File),
        };
        let source = Source::open(input).map_err(|source| CaptureError::Io { path: name.clone(), source })?;
        Ok(Self { offset: base, began: base, from, extent, ..Self::of(name, source, file, faults) })
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
            from: 0,
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

    /// Offset of the first byte that is not parsed.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// True if nothing of the bytes before [`Self::offset`] matters behind but the file header, with a number of
    /// interfaces, and the record in front.
    pub(super) fn stands_between_records(&self, interfaces: usize) -> bool {
        self.tail.is_empty()
            && match &self.format {
                Some(Format::Pcap(pcap)) => pcap.stands_between_records(),
                Some(Format::Pcapng(pcapng)) => pcapng.stands_between_records(interfaces),
                Some(Format::Snoop(_)) | None => false,
            }
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
        if batch.records.first().is_some_and(|first| first.offset < self.from) {
            batch.records.retain(|record| record.offset >= self.from);
        }
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
        if self.extent == Extent::Range {
            let expected =
                "a range that ends between two records: the file has changed since split_points; split it anew";
            return Err(self.bad(self.offset, found, expected));
        }
        self.lost = unused;
        self.damage.add(Damage { file: self.file, offset: self.offset, bytes, kind }, unused);
        if self.faults.strict { Err(self.bad(self.offset, found, expected)) } else { Ok(false) }
    }

    fn bad(&self, offset: u64, found: String, expected: &str) -> CaptureError {
        CaptureError::Format { path: self.name.clone(), offset, found, expected: expected.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::mpsc;

    use super::super::testing::*;
    use super::*;

    #[test]
    fn no_capture_at_all() {
        let found = |bytes: &[u8]| {
            let all = read_every_way(bytes);
            assert!(all.records.is_empty());
            format_error(&all).1.to_owned()
        };
        assert_eq!(found(b""), "an empty file");
        assert_eq!(found(b"\x7fELF and more"), "an ELF program (first bytes 7f 45 4c 46)");
        assert_eq!(found(b"\xd4\xc3"), "first bytes d4 c3");
        assert_eq!(found(&sample(1)[..20]), "the end of the file after 20 bytes");
        assert_eq!(found(&sample_ng(1)[..27]), "the end of the file after 27 bytes");
        assert!(format_error(&read(b"")).2.contains("pcap, pcapng or snoop"));
    }

    #[test]
    fn readers_go_to_other_threads() {
        fn is_send<T: Send>() {}
        is_send::<CaptureReader>();
        is_send::<super::super::Captures>();
    }

    #[test]
    fn a_missing_file() {
        match CaptureReader::open(Path::new("no/such/file"), 0, false) {
            Err(CaptureError::Io { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::NotFound),
            _ => panic!("a missing file is an error"),
        }
    }

    #[test]
    fn any_read_size_gives_the_same() {
        for bytes in [sample(300), sample_ng(300)] {
            let all = read_every_way(&bytes);
            assert_eq!((all.records.len(), all.damage.total()), (300, 0));
        }
    }

    #[test]
    fn records_longer_than_the_buffer() {
        let mut file = PcapFile::with(0xa1b2_c3d4, false, (2, 4), 16 << 20, 1);
        file.packet(T0, 0, b"a").packet(T0, 1, &vec![0x91; 5 << 20]).packet(T0, 2, b"b");
        let mut reader = reader(&file.bytes, false).with_read_size(1000);
        let all = drain(&mut reader);
        assert!(all.records.iter().map(|r| r.bytes.len()).eq([1, 5 << 20, 1]));
    }

    /// A pipe that delivers the sent chunks and then blocks.
    struct Pipe(mpsc::Receiver<Vec<u8>>);

    impl Read for Pipe {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let bytes = self.0.try_recv().unwrap_or_else(|e| match e {
                mpsc::TryRecvError::Empty => panic!("it would wait although it has a packet"),
                mpsc::TryRecvError::Disconnected => Vec::new(),
            });
            out[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        }
    }

    #[test]
    fn a_pipe_delivers_promptly() {
        let bytes = sample(4);
        let ends: Vec<u64> = read(&bytes).records.iter().map(|r| r.offset).collect();
        let (sender, pipe) = mpsc::channel();
        let mut reader = CaptureReader::new(input("pipe", Pipe(pipe)), 0, false).expect("a reader opens");
        let mut batch = RecordBatch::default();
        let mut sent = 0;
        for (i, until) in [ends[1], ends[2] + 5, bytes.len() as u64].into_iter().enumerate() {
            sender.send(bytes[sent..until as usize].to_vec()).expect("the pipe is open");
            sent = until as usize;
            assert!(reader.next_batch(&mut batch).expect("a sound file"));
            assert_eq!(batch.records.len(), [1, 1, 2][i]);
        }
        drop(sender);
        assert!(!reader.next_batch(&mut batch).expect("a sound file"));
    }

    #[test]
    fn an_error_of_the_reader_is_passed_on() {
        struct Broken(usize);
        impl Read for Broken {
            fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
                self.0 += 1;
                if self.0 > 1 {
                    return Err(std::io::Error::other("broken"));
                }
                let bytes = sample(3);
                out[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            }
        }
        let mut reader = CaptureReader::new(input("broken", Broken(0)), 0, false).expect("a reader opens");
        let all = drain(&mut reader);
        assert_eq!(all.records.len(), 3);
        assert!(matches!(all.error, Some(CaptureError::Io { .. })));
    }

    #[test]
    fn long_damage_lets_the_caller_in() {
        let mut bytes = sample(1);
        bytes.resize(bytes.len() + 3 * IDLE, 0xff);
        bytes.extend(&sample(5)[24..]);
        let mut reader = reader(&bytes, false);
        let (mut batch, mut records, mut empty) = (RecordBatch::default(), 0, 0);
        while reader.next_batch(&mut batch).expect("no error") {
            records += batch.records.len();
            empty += usize::from(batch.records.is_empty());
        }
        assert!(empty >= 2, "{empty} empty batches");
        assert_eq!(records, 6);
        assert!(batch.data.len() < 2 * IDLE, "memory does not grow with the damage");
    }
}
