//! What the parsers of both formats share: their input, their output, and fields in either byte order.

use super::Record;
use super::damage::{Damage, DamageKind, DamageReport};

/// Believed without further evidence: libpcap's limit for the captured length.
pub(super) const USUAL_MAX: u32 = 262_144;

/// The longest packet that is believed when the file's snaplen allows it, and with it a bound for every allocation.
pub(super) const ABSOLUTE_MAX: u32 = 16 << 20;

/// Bytes to parse. The first is always the start of a record, or of what is skipped.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub(super) data: &'a [u8],
    /// Index of the first byte in the batch's buffer.
    pub(super) origin: u32,
    /// Offset of the first byte in the file.
    pub(super) offset: u64,
    /// Nothing follows.
    pub(super) last: bool,
}

/// What the first damage of a strict reading was.
pub(super) struct Fault {
    pub(super) offset: u64,
    pub(super) found: String,
    pub(super) expected: String,
}

/// Where a parser puts what it finds.
pub(super) struct Sink<'a> {
    pub(super) records: &'a mut Vec<Record>,
    pub(super) damage: &'a mut DamageReport,
    pub(super) file: u32,
    pub(super) strict: bool,
    pub(super) fault: Option<Fault>,
}

impl Sink<'_> {
    /// Notes damage. True means that the reading is strict and the parser must stop.
    #[cold]
    pub(super) fn damage(
        &mut self,
        offset: u64,
        bytes: u64,
        kind: DamageKind,
        found: impl FnOnce() -> String,
        expected: &str,
    ) -> bool {
        self.damage.push(Damage { file: self.file, offset, bytes, kind });
        if self.strict && self.fault.is_none() {
            self.fault = Some(Fault { offset, found: found(), expected: expected.to_owned() });
        }
        self.strict
    }
}

/// Where a scan for believable data got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// Data can be believed again at this index.
    Found(usize),
    /// Everything before this index is hopeless; more data is needed to judge from there on.
    More(usize),
}

/// A 16-bit field; 0 behind the end, which callers exclude by checking lengths first.
#[inline]
pub(super) fn u16_at(big: bool, data: &[u8], at: usize) -> u16 {
    let Some(&field) = data.get(at..).and_then(|d| d.first_chunk::<2>()) else { return 0 };
    if big { u16::from_be_bytes(field) } else { u16::from_le_bytes(field) }
}

/// A 32-bit field; 0 behind the end, which callers exclude by checking lengths first.
#[inline]
pub(super) fn u32_at(big: bool, data: &[u8], at: usize) -> u32 {
    let Some(&field) = data.get(at..).and_then(|d| d.first_chunk::<4>()) else { return 0 };
    if big { u32::from_be_bytes(field) } else { u32::from_le_bytes(field) }
}

/// Bytes for a message, `7f 45 4c 46`.
pub(super) fn hex(bytes: &[u8]) -> String {
    let words: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    words.join(" ")
}
