//! Files of nfdump 1.7: layout version 2, records of version 3, not compressed.
//!
//! Source: nfdump's `nffileV2.h` and `nfxV3.h`. A file has a header, blocks of records, and an appendix that is no data.
//! A record has extensions, each with a number and a length. Numbers are in the order of the host that wrote the file,
//! and are read as little-endian ones.

use super::fields::{Record, v4};
use crate::sink::Sink;
use conntrack_core::decode::{Addr, Family};

/// Octets of the header of the file, of a block, of a record, of an extension.
const FILE: usize = 40;
const BLOCK: usize = 12;
const RECORD: usize = 12;
const EXTENSION: usize = 4;
/// The type of a flow record.
const FLOW: u16 = 11;
/// Flags of a record: an event of a firewall; sampled packets.
const IS_EVENT: u8 = 1;
const IS_SAMPLED: u8 = 2;
/// Nanoseconds of a millisecond.
const MILLISECOND: i64 = 1_000_000;

/// The reader.
pub struct Nfdump {
    /// The header of the file was taken.
    began: bool,
    /// Blocks of data to come; None: until the end of the file.
    blocks: Option<u32>,
    offset: u64,
}

/// Test for the first octets of a file of nfdump, of either order.
pub fn is_file(head: &[u8]) -> bool {
    head.starts_with(&[0x0c, 0xa5]) || head.starts_with(&[0xa5, 0x0c])
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    part(bytes, at).map(u64::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    part(bytes, at).map(u32::from_le_bytes)
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    part(bytes, at).map(u16::from_le_bytes)
}

impl Nfdump {
    /// The reader of a file with this head; otherwise why it cannot be read.
    pub fn of(head: &[u8]) -> Result<Self, String> {
        let version = short(head, 2).unwrap_or(0);
        if head.starts_with(&[0xa5, 0x0c]) || version != 2 {
            return Err(format!(
                "a file of nfdump with layout {version}, expected 2 (nfdump 1.7), little-endian: convert it with \
                 nfdump -r FILE -w NEW"
            ));
        }
        match head.get(16) {
            Some(0) => {}
            Some(_) => {
                return Err("a compressed file of nfdump: undo the compression with nfdump -J 0 -r FILE".to_owned());
            }
            None => return Err("a file of nfdump that ends within its header".to_owned()),
        }
        let blocks = word(head, 36).filter(|blocks| *blocks > 0);
        Ok(Self { began: false, blocks, offset: 0 })
    }

    /// Takes whole blocks, and returns their octets.
    pub fn blocks(&mut self, bytes: &[u8], ended: bool, sink: &mut Sink<'_>) -> usize {
        let mut taken = 0;
        if !self.began {
            if bytes.len() < FILE {
                return if ended { bytes.len() } else { 0 };
            }
            (self.began, taken) = (true, FILE);
        }
        while self.blocks != Some(0) {
            let rest = &bytes[taken..];
            if rest.is_empty() {
                break;
            }
            let size = word(rest, 4).map(|size| size as usize);
            let Some(records) = size.and_then(|size| rest.get(BLOCK..BLOCK + size)) else {
                if ended {
                    sink.place = self.offset + taken as u64;
                    sink.account.records += 1;
                    sink.bad("netflow: the file of nfdump ends within a block", b"");
                    taken = bytes.len();
                }
                break;
            };
            self.records(records, taken + BLOCK, sink);
            taken += BLOCK + records.len();
            self.blocks = self.blocks.map(|blocks| blocks - 1);
        }
        if self.blocks == Some(0) {
            // What follows is no data.
            taken = bytes.len();
        }
        self.offset += taken as u64;
        taken
    }

    fn records(&self, mut bytes: &[u8], mut at: usize, sink: &mut Sink<'_>) {
        while !bytes.is_empty() {
            sink.place = self.offset + at as u64;
            let size = short(bytes, 2).map_or(0, usize::from);
            let Some(record) = bytes.get(..size).filter(|_| size >= EXTENSION) else {
                sink.account.records += 1;
                return sink.bad("netflow: a record of nfdump that is longer than its block", b"");
            };
            if short(record, 0) == Some(FLOW) && record.get(10).is_some_and(|flags| flags & IS_EVENT == 0) {
                sink.account.records += 1;
                let done = flow(record).ok_or("netflow: a record of nfdump without its fields");
                if let Err(reason) = done.and_then(|flow| flow.finish(0, sink)) {
                    sink.bad(reason, b"");
                }
            } else {
                sink.account.other += 1;
            }
            (bytes, at) = (&bytes[size..], at + size);
        }
    }
}

/// A record of its extensions.
fn flow(bytes: &[u8]) -> Option<Record> {
    let (mut generic, mut addrs, mut out) = (None, None, None);
    let mut rest = bytes.get(RECORD..)?;
    while !rest.is_empty() {
        let (kind, size) = (short(rest, 0)?, usize::from(short(rest, 2)?));
        let field = rest.get(EXTENSION..size)?;
        match kind {
            1 => generic = Some(field),
            2 => addrs = Some([v4(word(field, 0)?), v4(word(field, 4)?)]),
            3 => {
                let addr = |at| {
                    Some((Addr(u128::from(long(field, at)?) << 64 | u128::from(long(field, at + 8)?)), Family::V6))
                };
                addrs = Some([addr(0)?, addr(16)?]);
            }
            6 => out = Some((long(field, 8)?, long(field, 16)?)),
            _ => {}
        }
        rest = &rest[size..];
    }
    let field = generic?;
    let time = |at| i64::try_from(long(field, at)?).ok()?.checked_mul(MILLISECOND);
    let ports = [short(field, 40)?, short(field, 42)?];
    let mut record = Record::of(addrs?, ports, (*field.get(44)?, *field.get(45)?), (time(0)?, time(8)?));
    record.count(0, long(field, 24)?, long(field, 32)?);
    if let Some((packets, bytes)) = out.filter(|(packets, _)| *packets > 0) {
        record.count(1, packets, bytes);
    }
    if bytes.get(10)? & IS_SAMPLED != 0 {
        record.sample(0);
    }
    Some(record)
}
