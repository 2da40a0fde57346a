//! Builders of captures, and readers that misbehave.

use std::io::{self, Read};
use std::path::PathBuf;

use super::part;
use super::{CaptureReader, Captures, DamageReport, Input, LinkType, RecordBatch};
use crate::error::CaptureError;

/// Base time of test packets: seconds since the epoch.
pub(super) const T0: u32 = 1_700_000_000;

/// Builder of a classic pcap file.
pub(super) struct PcapFile {
    pub(super) big: bool,
    pub(super) record_len: usize,
    pub(super) bytes: Vec<u8>,
}

impl PcapFile {
    pub(super) fn new(magic: u32, big: bool) -> Self {
        Self::with(magic, big, (2, 4), 65_535, 1)
    }

    /// The default variant: microseconds, little-endian, Ethernet.
    pub(super) fn plain() -> Self {
        Self::new(0xa1b2_c3d4, false)
    }

    pub(super) fn with(magic: u32, big: bool, version: (u16, u16), snaplen: u32, network: u32) -> Self {
        let record_len = if matches!(magic, 0xa1b2_cd34 | 0xa1e2_cb12) { 24 } else { 16 };
        let mut file = Self { big, record_len, bytes: Vec::new() };
        file.u32(magic);
        file.u16(version.0);
        file.u16(version.1);
        for field in [0, 0, snaplen, network] {
            file.u32(field);
        }
        if matches!(magic, 0x1c00_01ab | 0x1c00_01ac) {
            file.u32(0);
        }
        file
    }

    fn u16(&mut self, value: u16) {
        self.bytes.extend(u16_bytes(self.big, value));
    }

    fn u32(&mut self, value: u32) {
        self.bytes.extend(u32_bytes(self.big, value));
    }

    /// Append a record with arbitrary header fields, right or wrong.
    pub(super) fn raw(&mut self, sec: u32, frac: u32, caplen: u32, len: u32, data: &[u8]) -> &mut Self {
        for field in [sec, frac, caplen, len] {
            self.u32(field);
        }
        self.bytes.resize(self.bytes.len() + self.record_len - 16, 0xee);
        self.bytes.extend(data);
        self
    }

    pub(super) fn packet(&mut self, sec: u32, frac: u32, data: &[u8]) -> &mut Self {
        self.raw(sec, frac, data.len() as u32, data.len() as u32, data)
    }
}

/// A capture of `n` packets of different sizes, a millisecond apart.
pub(super) fn sample(n: u32) -> Vec<u8> {
    let mut file = PcapFile::plain();
    for i in 0..n {
        file.packet(T0 + i / 1000, i % 1000 * 1000, &payload(i));
    }
    file.bytes
}

/// Payload of a packet, never similar to a header.
pub(super) fn payload(seed: u32) -> Vec<u8> {
    (0..40 + seed * 7 % 60).map(|i| 0x80 | (seed.wrapping_mul(31) + i) as u8).collect()
}

fn u16_bytes(big: bool, value: u16) -> [u8; 2] {
    if big { value.to_be_bytes() } else { value.to_le_bytes() }
}

fn u32_bytes(big: bool, value: u32) -> [u8; 4] {
    if big { value.to_be_bytes() } else { value.to_le_bytes() }
}

/// Builder of a pcapng file.
pub(super) struct PcapngFile {
    pub(super) big: bool,
    pub(super) bytes: Vec<u8>,
}

impl PcapngFile {
    /// A file with its first section header.
    pub(super) fn new(big: bool) -> Self {
        let mut file = Self { big, bytes: Vec::new() };
        file.section(big);
        file
    }

    pub(super) fn block(&mut self, kind: u32, fields: &[&[u8]]) -> &mut Self {
        let mut body: Vec<u8> = fields.concat();
        body.resize(body.len().next_multiple_of(4), 0);
        let length = u32_bytes(self.big, 12 + body.len() as u32);
        self.bytes.extend(u32_bytes(self.big, kind));
        self.bytes.extend(length);
        self.bytes.extend(body);
        self.bytes.extend(length);
        self
    }

    pub(super) fn section(&mut self, big: bool) -> &mut Self {
        self.big = big;
        let magic = u32_bytes(big, 0x1a2b_3c4d);
        let versions = [u16_bytes(big, 1), u16_bytes(big, 0)].concat();
        // Options in a section header: a comment.
        let option = [&u16_bytes(big, 1)[..], &u16_bytes(big, 5), b"hello", &[0; 3], &[0; 4]].concat();
        self.block(0x0a0d_0d0a, &[&magic, &versions, &[0xff; 8], &option])
    }

    pub(super) fn interface(&mut self, linktype: u16, snaplen: u32, options: &[(u16, &[u8])]) -> &mut Self {
        let mut body = [u16_bytes(self.big, linktype), [0, 0]].concat();
        body.extend(u32_bytes(self.big, snaplen));
        for (code, value) in options {
            body.extend(u16_bytes(self.big, *code));
            body.extend(u16_bytes(self.big, value.len() as u16));
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        self.block(1, &[&body])
    }

    /// Append an enhanced packet (6) or an obsolete packet (2) with arbitrary header fields.
    pub(super) fn raw(&mut self, kind: u32, number: u32, ticks: u64, caplen: u32, data: &[u8]) -> &mut Self {
        let number = match kind {
            2 => [u16_bytes(self.big, number as u16), u16_bytes(self.big, 0xffff)].concat(),
            _ => u32_bytes(self.big, number).to_vec(),
        };
        let time = [u32_bytes(self.big, (ticks >> 32) as u32), u32_bytes(self.big, ticks as u32)].concat();
        let lengths = [u32_bytes(self.big, caplen), u32_bytes(self.big, data.len() as u32)].concat();
        let mut padded = data.to_vec();
        padded.resize(padded.len().next_multiple_of(4), 0);
        // A comment that exceeds the options.
        let option = [&u16_bytes(self.big, 1)[..], &u16_bytes(self.big, 0xffff)].concat();
        self.block(kind, &[&number, &time, &lengths, &padded, &option])
    }

    pub(super) fn packet(&mut self, number: u32, ticks: u64, data: &[u8]) -> &mut Self {
        self.raw(6, number, ticks, data.len() as u32, data)
    }

    pub(super) fn simple(&mut self, len: u32, data: &[u8]) -> &mut Self {
        let len = u32_bytes(self.big, len);
        self.block(3, &[&len, data])
    }
}

/// A capture of `n` packets of different sizes, a millisecond apart.
pub(super) fn sample_ng(n: u32) -> Vec<u8> {
    let mut file = PcapngFile::new(false);
    file.interface(1, 65_535, &[]);
    for i in 0..n {
        file.packet(0, u64::from(T0) * 1_000_000 + u64::from(i) * 1000, &payload(i));
    }
    file.bytes
}

/// A record with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Got {
    pub(super) ts: i64,
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) file: u32,
    pub(super) linktype: LinkType,
    pub(super) bytes: Vec<u8>,
}

/// Complete output of a capture.
#[derive(Debug)]
pub(super) struct All {
    pub(super) records: Vec<Got>,
    pub(super) damage: DamageReport,
    pub(super) error: Option<CaptureError>,
}

pub(super) fn collect(batch: &RecordBatch, into: &mut Vec<Got>) {
    into.extend(batch.records.iter().map(|r| Got {
        ts: r.ts,
        offset: r.offset,
        len: r.len,
        file: r.file,
        linktype: r.linktype,
        bytes: batch.bytes(r).to_vec(),
    }));
}

/// Reader that returns `step` bytes at a time and is optionally interrupted before each read.
pub(super) struct Dribble {
    pub(super) bytes: Vec<u8>,
    pub(super) at: usize,
    pub(super) step: usize,
    pub(super) interrupts: bool,
    pub(super) interrupted: bool,
}

impl Dribble {
    pub(super) fn new(bytes: &[u8], step: usize, interrupts: bool) -> Self {
        Self { bytes: bytes.to_vec(), at: 0, step, interrupts, interrupted: false }
    }
}

impl Read for Dribble {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.interrupted = self.interrupts && !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let n = self.step.min(out.len()).min(self.bytes.len() - self.at);
        out[..n].copy_from_slice(&self.bytes[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

pub(super) fn input(name: &str, reader: impl Read + Send + 'static) -> Input {
    Input::Reader { name: name.into(), reader: Box::new(reader) }
}

/// Head of a snoop file of this data link, by RFC 1761.
pub(super) fn snoop_file(link: u32) -> Vec<u8> {
    // RFC 1761, section 2.
    [&part::SNOOP[..], &2_u32.to_be_bytes(), &link.to_be_bytes()].concat()
}

pub(super) fn snoop_packet(file: &mut Vec<u8>, sec: u32, micro: u32, len: u32, data: &[u8]) {
    let padded = data.len().next_multiple_of(4);
    for field in [len, data.len() as u32, (24 + padded) as u32, 7, sec, micro] {
        file.extend(field.to_be_bytes());
    }
    file.extend(data);
    file.resize(file.len() + padded - data.len(), 0xee);
}

/// A temporary folder of a test, removed on drop.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("conntrack-capture-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }

    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Input {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a temporary file");
        Input::named(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Read with the parts of files merged by time. Returns how often the reading began again, too.
pub(super) fn read_parts(inputs: Vec<Input>, read_size: usize) -> (All, Captures, u32) {
    let mut captures = Captures::open(inputs, false).expect("the inputs open").with_read_size(read_size);
    captures.merge_parts();
    let (mut batch, mut records, mut restarts) = (RecordBatch::default(), Vec::new(), 0);
    let error = loop {
        match captures.next_batch(&mut batch) {
            Ok(true) => collect(&batch, &mut records),
            Ok(false) => break None,
            Err(CaptureError::Interrupted) => {}
            Err(CaptureError::Restart) => {
                records.clear();
                restarts += 1;
            }
            Err(e) => break Some(e),
        }
    };
    (All { records, damage: captures.damage(), error }, captures, restarts)
}

pub(super) fn reader(bytes: &[u8], strict: bool) -> CaptureReader {
    CaptureReader::new(input("test", Dribble::new(bytes, usize::MAX, false)), 0, strict).expect("a reader opens")
}

pub(super) fn drain(reader: &mut CaptureReader) -> All {
    let mut batch = RecordBatch::default();
    let mut records = Vec::new();
    let error = loop {
        match reader.next_batch(&mut batch) {
            Ok(true) => collect(&batch, &mut records),
            Ok(false) => break None,
            Err(CaptureError::Interrupted) => {}
            Err(e) => break Some(e),
        }
    };
    assert!(matches!(reader.next_batch(&mut batch), Ok(false)), "nothing follows the end");
    All { records, damage: reader.damage().clone(), error }
}

pub(super) fn read(bytes: &[u8]) -> All {
    drain(&mut reader(bytes, false))
}

pub(super) fn read_strict(bytes: &[u8]) -> All {
    drain(&mut reader(bytes, true))
}

pub(super) fn read_merged(inputs: Vec<Input>, read_size: usize) -> All {
    let mut captures = Captures::open(inputs, false).expect("the inputs open").with_read_size(read_size);
    let mut batch = RecordBatch::default();
    let mut records = Vec::new();
    let error = loop {
        match captures.next_batch(&mut batch) {
            Ok(true) => collect(&batch, &mut records),
            Ok(false) => break None,
            Err(CaptureError::Interrupted) => {}
            Err(e) => break Some(e),
        }
    };
    All { records, damage: captures.damage(), error }
}

/// Read the bytes with several read sizes, and return the common result.
pub(super) fn read_every_way(bytes: &[u8]) -> All {
    let whole = read(bytes);
    for (step, interrupts, read_size) in [(1, true, 7), (usize::MAX, false, 1), (61, true, 4096), (5000, false, 100)] {
        let source = input("test", Dribble::new(bytes, step, interrupts));
        let mut reader = CaptureReader::new(source, 0, false).expect("a reader opens").with_read_size(read_size);
        let other = drain(&mut reader);
        assert_eq!(whole.records, other.records, "step {step}, read size {read_size}");
        assert_eq!(whole.damage, other.damage, "step {step}, read size {read_size}");
        let text = |all: &All| all.error.as_ref().map(ToString::to_string);
        assert_eq!(text(&whole), text(&other), "step {step}, read size {read_size}");
    }
    whole
}

/// Offset, found and expected content of a format error.
pub(super) fn format_error(all: &All) -> (u64, &str, &str) {
    match &all.error {
        Some(CaptureError::Format { offset, found, expected, .. }) => (*offset, found, expected),
        other => panic!("not a format error: {other:?}"),
    }
}
