//! Shared parts of both format parsers: input, output, and fields in either byte order.

use super::Record;
use super::damage::{Damage, DamageKind, DamageReport};

/// Maximum captured length accepted without further evidence: libpcap's limit, in bytes.
pub(super) const USUAL_MAX: u32 = 262_144;

/// Maximum captured length in bytes with any snaplen, and so a bound of every allocation.
pub(super) const ABSOLUTE_MAX: u32 = 16 << 20;

/// Bytes to parse. The first byte begins a record or a skipped region.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    pub(super) data: &'a [u8],
    /// Index of the first byte in the batch's buffer.
    pub(super) origin: u32,
    /// Offset of the first byte in the file.
    pub(super) offset: u64,
    /// True if no bytes follow.
    pub(super) last: bool,
}

/// First damage of a strict reading.
pub(super) struct Fault {
    pub(super) offset: u64,
    pub(super) found: String,
    pub(super) expected: String,
}

/// Output of a parser.
pub(super) struct Sink<'a> {
    pub(super) records: &'a mut Vec<Record>,
    pub(super) damage: &'a mut DamageReport,
    pub(super) file: u32,
    pub(super) strict: bool,
    pub(super) fault: Option<Fault>,
    /// Number of parts begun: files and pcapng sections.
    pub(super) parts: &'a mut u64,
    /// True if the parser stopped at the file header of a further part.
    pub(super) part: bool,
}

impl Sink<'_> {
    /// Record damage. True if the reading is strict and the parser must stop.
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

/// Progress of a scan for plausible data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// Index at which plausible data begin.
    Resync(usize),
    /// Index before which no plausible data begin; a decision beyond needs more data.
    NeedMore(usize),
}

/// Decode a 16-bit field; 0 out of bounds, which callers exclude by a length check.
#[inline]
pub(super) fn u16_at(big: bool, data: &[u8], at: usize) -> u16 {
    let Some(&field) = data.get(at..).and_then(|d| d.first_chunk::<2>()) else { return 0 };
    if big { u16::from_be_bytes(field) } else { u16::from_le_bytes(field) }
}

/// Decode a 32-bit field; 0 out of bounds, which callers exclude by a length check.
#[inline]
pub(super) fn u32_at(big: bool, data: &[u8], at: usize) -> u32 {
    let Some(&field) = data.get(at..).and_then(|d| d.first_chunk::<4>()) else { return 0 };
    if big { u32::from_be_bytes(field) } else { u32::from_le_bytes(field) }
}

/// Format bytes for a message, `7f 45 4c 46`.
pub(super) fn hex(bytes: &[u8]) -> String {
    let words: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    words.join(" ")
}
