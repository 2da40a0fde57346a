//! The pcapng format (draft-ietf-opsawg-pcapng).
//!
//! Every block has its length at both ends. So damage inside a block costs that block, and damage to its frame costs
//! the bytes up to the next block whose lengths agree.
//!
//! A simple packet block has no timestamp: its packet gets the previous packet's timestamp, or is
//! [`UNTIMED`].

mod interface;

use conntrack_base::time::UNTIMED;

use self::interface::Interface;

use super::Record;
use super::damage::DamageKind;
use super::parse::{ABSOLUTE_MAX, Chunk, Scan, Sink, hex, u16_at, u32_at};
use super::part::{self, SECTION, SECTION_LEN, section_order};

pub(super) const INTERFACE: u32 = 1;
pub(super) const OBSOLETE_PACKET: u32 = 2;
pub(super) const SIMPLE_PACKET: u32 = 3;
pub(super) const ENHANCED_PACKET: u32 = 6;

/// Size in bytes of the smallest block: type, length, and length again.
pub(super) const BLOCK_MIN: usize = 12;

/// Maximum accepted size of a block in bytes: the longest packet and its options.
pub(super) const BLOCK_MAX: usize = ABSOLUTE_MAX as usize + (64 << 10);

/// Maximum number of interfaces of a section.
const INTERFACES_MAX: usize = 1 << 16;

const LENGTHS: &str = "a block with two equal lengths";

/// Number of consecutive blocks within a longer block that refute the longer one's length.
const REFUTING: usize = 3;

/// Maximum size of each of these blocks in bytes.
const REFUTING_MAX: usize = 256 << 10;

/// Parser of a pcapng file.
pub(super) struct Pcapng {
    pub(super) big: bool,
    interfaces: Vec<Interface>,
    /// True after an unreadable section header, which leaves the section's blocks without meaning.
    skipping: bool,
    /// Time of the last packet in nanoseconds, for simple packet blocks.
    last_ts: i64,
    /// Offset of the first skipped byte and the kind of damage there, while bytes are skipped.
    damaged: Option<(u64, DamageKind)>,
    /// Offset of the section header that the parser begins with; another one begins another part.
    first: Option<u64>,
    /// Block over [`BLOCK_MAX`] without a packet, while passed over: offsets of its begin and end, and its length field.
    passed: Option<(u64, u64, u32)>,
}

/// True if blocks of a type may have any size: names, statistics, the systemd journal, secrets, Sysdig's and custom ones.
fn passes(kind: u32) -> bool {
    matches!(kind, 4 | 5 | 9 | 10 | 0x201..=0x2ff | 0xbad | 0x4000_0bad)
}

impl Pcapng {
    pub(super) fn new() -> Self {
        Self {
            big: false,
            interfaces: Vec::new(),
            skipping: true,
            last_ts: UNTIMED,
            damaged: None,
            first: None,
            passed: None,
        }
    }

    /// True if no damage and no long block is being passed over, and the section has as many interfaces.
    pub(super) fn stands_between_records(&self, interfaces: usize) -> bool {
        self.damaged.is_none() && self.passed.is_none() && !self.skipping && self.interfaces.len() == interfaces
    }

    /// Parser of the blocks of a section by its byte order.
    pub(super) fn of_section(big: bool) -> Self {
        Self { big, skipping: false, ..Self::new() }
    }

    /// Number of bytes missing behind `rest`, an incomplete block at the end of the file.
    pub(super) fn missing(&self, offset: u64, rest: &[u8]) -> u64 {
        if let Some((_, end, _)) = self.passed {
            return end.saturating_sub(offset + rest.len() as u64);
        }
        let length = if rest.len() < BLOCK_MIN { BLOCK_MIN } else { self.length(rest) };
        length.next_multiple_of(4).saturating_sub(rest.len()) as u64
    }

    /// Length field at the front of a block.
    pub(super) fn length(&self, block: &[u8]) -> usize {
        let section = u32_at(false, block, 0) == SECTION;
        let big = if section { section_order(block).unwrap_or(self.big) } else { self.big };
        u32_at(big, block, 4) as usize
    }

    /// Parse all complete blocks of `chunk` and return the number of bytes consumed.
    pub(super) fn parse(&mut self, chunk: Chunk<'_>, sink: &mut Sink<'_>) -> usize {
        let data = chunk.data;
        let mut pos = 0;
        loop {
            if let Some((from, kind)) = self.damaged {
                let end = match self.scan(data, pos, chunk.last) {
                    Scan::Resync(at) => at,
                    Scan::NeedMore(_) if chunk.last => data.len(),
                    Scan::NeedMore(at) => return at,
                };
                self.damaged = None;
                sink.damage(from, chunk.offset + end as u64 - from, kind, String::new, "");
                pos = end;
            }
            if self.passed.is_some() {
                match self.pass(chunk, pos, sink) {
                    Scan::Resync(at) => pos = at,
                    Scan::NeedMore(at) => return at,
                }
            }
            let block = &data[pos..];
            if block.len() < BLOCK_MIN {
                return pos;
            }
            let at = chunk.offset + pos as u64;
            if part::may_begin(block) {
                if block.len() < part::PEEK {
                    return pos;
                }
                if part::begins(block) {
                    sink.part = block.len() >= part::header_len(block);
                    return pos;
                }
            }
            if u32_at(false, block, 0) == SECTION {
                if *self.first.get_or_insert(at) != at {
                    if block.len() < SECTION_LEN && !chunk.last {
                        return pos;
                    }
                    if block.len() >= SECTION_LEN && part::begins(block) {
                        sink.part = true;
                        return pos;
                    }
                }
                // A damaged section header ends the previous section all the same.
                self.interfaces.clear();
                self.skipping = true;
                let Some(big) = section_order(block) else {
                    let found = || format!("byte-order magic {}", hex(&block[8..12]));
                    if self.skip_from(at, DamageKind::SectionHeader, sink, found, "1a 2b 3c 4d in either order") {
                        return pos;
                    }
                    pos += 1;
                    continue;
                };
                self.big = big;
                self.skipping = false;
            }
            let length = u32_at(self.big, block, 4) as usize;
            if length > BLOCK_MAX && !self.skipping && passes(u32_at(self.big, block, 0)) {
                self.passed = Some((at, at + length.next_multiple_of(4) as u64, length as u32));
                pos += 8;
                continue;
            }
            let framed = (BLOCK_MIN..=BLOCK_MAX).contains(&length);
            let is_here = framed && block.len() >= length.next_multiple_of(4);
            let whole = if is_here || framed && chunk.last { self.extent(block, length) } else { None };
            let is_cut = framed && !is_here && whole.is_none();
            // A block truncated by the end of the file has an intact frame, unless further blocks lie within.
            if is_cut && !(chunk.last && matches!(self.scan(data, pos + 1, true), Scan::Resync(_))) {
                return pos;
            }
            let Some(size) = whole else {
                let end = length.next_multiple_of(4).saturating_sub(4);
                let trailer = if is_here { u32_at(self.big, block, end) } else { 0 };
                let found = || match trailer {
                    0 => format!("a block of {length} bytes"),
                    _ => format!("a block of {length} bytes that ends with the length {trailer}"),
                };
                if self.skip_from(at, DamageKind::BlockLength, sink, found, LENGTHS) {
                    return pos;
                }
                pos += 1;
                continue;
            };
            if self.block(&block[..size], at, chunk.origin + pos as u32, sink) {
                return pos;
            }
            pos += size;
        }
    }

    /// Size of a present block whose two lengths agree. Some writers leave the padding out of both lengths, and some out
    /// of the block.
    pub(super) fn extent(&self, block: &[u8], length: usize) -> Option<usize> {
        [length.next_multiple_of(4), length]
            .into_iter()
            .find(|&size| block.len() >= size && self.length_at(block, size - 4) == length)
    }

    /// Pass over a block of any size, unless other blocks lie within, as behind a damaged length.
    fn pass(&mut self, chunk: Chunk<'_>, pos: usize, sink: &mut Sink<'_>) -> Scan {
        let Some((from, end, length)) = self.passed else { return Scan::Resync(pos) };
        let data = chunk.data;
        let end_at = usize::try_from(end.saturating_sub(chunk.offset)).unwrap_or(usize::MAX);
        let mut at = pos;
        while at + BLOCK_MIN < end_at.min(data.len()) {
            match self.refutes(data, at, chunk.last) {
                Some(false) => at += 1,
                None => return Scan::NeedMore(at),
                Some(true) => {
                    let found = || format!("a block of {length} bytes");
                    self.passed = None;
                    sink.damage(from, chunk.offset + at as u64 - from, DamageKind::BlockLength, found, LENGTHS);
                    return if sink.strict { Scan::NeedMore(at) } else { Scan::Resync(at) };
                }
            }
        }
        if data.len() < end_at {
            return Scan::NeedMore(at);
        }
        self.passed = None;
        let trailer = u32_at(self.big, data, end_at - 4);
        if trailer != length {
            let found = || format!("a block of {length} bytes that ends with the length {trailer}");
            sink.damage(from, end - from, DamageKind::BlockLength, found, LENGTHS);
            return if sink.strict { Scan::NeedMore(at) } else { Scan::Resync(end_at) };
        }
        Scan::Resync(end_at)
    }

    /// True if [`REFUTING`] blocks begin at `at`; None if more data may tell.
    pub(super) fn refutes(&self, data: &[u8], at: usize, last: bool) -> Option<bool> {
        let mut pos = at;
        for _ in 0..REFUTING {
            let Some(block) = data.get(pos..).filter(|block| block.len() >= BLOCK_MIN) else {
                return if last { Some(false) } else { None };
            };
            let length = self.length(block);
            if !self.may_begin(block) || !(BLOCK_MIN..=REFUTING_MAX).contains(&length) {
                return Some(false);
            }
            if block.len() < length.next_multiple_of(4) && !last {
                return None;
            }
            let Some(size) = self.extent(block, length) else { return Some(false) };
            pos += size;
        }
        Some(true)
    }

    /// Skip from a block without a trustworthy frame. True if the reading is strict.
    fn skip_from(
        &mut self,
        at: u64,
        kind: DamageKind,
        sink: &mut Sink<'_>,
        found: impl FnOnce() -> String,
        expected: &str,
    ) -> bool {
        if sink.strict {
            return sink.damage(at, 0, kind, found, expected);
        }
        self.damaged = Some((at, kind));
        false
    }

    /// Parse a block with an intact frame. True if the reading is strict and damage was found.
    fn block(&mut self, block: &[u8], at: u64, origin: u32, sink: &mut Sink<'_>) -> bool {
        let kind = u32_at(self.big, block, 0);
        let least = match kind {
            SECTION => SECTION_LEN,
            INTERFACE => 20,
            OBSOLETE_PACKET | ENHANCED_PACKET => 32,
            SIMPLE_PACKET => 16,
            // Names, statistics, secrets and future block types.
            _ => return false,
        };
        let bytes = block.len() as u64;
        if block.len() < least {
            let found = || format!("a block of type {kind} with {bytes} bytes");
            return sink.damage(at, bytes, DamageKind::BlockLength, found, &format!("at least {least} bytes"));
        }
        if kind == SECTION {
            let major = u16_at(self.big, block, 12);
            if major != 1 {
                self.skipping = true;
                let found = || format!("pcapng version {major}");
                return sink.damage(at, bytes, DamageKind::SectionHeader, found, "version 1");
            }
            *sink.parts += 1;
            return false;
        }
        if self.skipping {
            sink.damage.lose(DamageKind::SectionHeader, bytes);
            return false;
        }
        match kind {
            INTERFACE if self.interfaces.len() == INTERFACES_MAX => {
                let found = || format!("an interface beyond number {}", INTERFACES_MAX - 1);
                sink.damage(at, bytes, DamageKind::TooManyInterfaces, found, "at most 65536 interfaces in a section")
            }
            INTERFACE => {
                self.interfaces.push(Interface::decode(self.big, block));
                false
            }
            _ => self.packet(kind, block, at, origin, sink),
        }
    }

    fn packet(&mut self, kind: u32, block: &[u8], at: u64, origin: u32, sink: &mut Sink<'_>) -> bool {
        let bytes = block.len() as u64;
        let field = |i: usize| u32_at(self.big, block, i);
        let (number, header_len) = match kind {
            ENHANCED_PACKET => (field(8), 28),
            OBSOLETE_PACKET => (u32::from(u16_at(self.big, block, 8)), 28),
            _ => (0, 12),
        };
        let Some(interface) = self.interfaces.get(number as usize) else {
            let found = || format!("a packet of interface {number}");
            let expected = format!("one of the section's {} interfaces", self.interfaces.len());
            return sink.damage(at, bytes, DamageKind::UnknownInterface, found, &expected);
        };
        // The block's own length is at most BLOCK_MAX.
        let room = (block.len() - header_len - 4) as u32;
        let mut strict = false;
        let (caplen, len) = if kind == SIMPLE_PACKET {
            let snaplen = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
            (field(8).min(snaplen).min(room), field(8))
        } else {
            let caplen = field(20);
            if caplen > room {
                let found = || format!("a captured length of {caplen} bytes");
                return sink.damage(at, bytes, DamageKind::CaptureLength, found, &format!("at most {room}"));
            }
            let ticks = u64::from(field(12)) << 32 | u64::from(field(16));
            self.last_ts = interface.time(ticks).unwrap_or_else(|nearest| {
                let found = || format!("a time of {ticks} ticks");
                strict = sink.damage(at, 0, DamageKind::Timestamp, found, "a time between the years 1717 and 2223");
                nearest
            });
            (caplen, field(24))
        };
        if !strict {
            sink.records.push(Record {
                ts: self.last_ts,
                offset: at,
                start: origin + header_len as u32,
                caplen,
                len,
                file: sink.file,
                linktype: interface.linktype,
                abridged: false,
                unsummed: false,
            });
        }
        strict
    }

    /// Scan for the next block of a known type whose two lengths agree. Every index is tried, because bytes may be
    /// missing. The scan is linear: no index is visited twice.
    pub(super) fn scan(&self, data: &[u8], from: usize, last: bool) -> Scan {
        let mut at = from;
        while let Some(block) = data.get(at..).filter(|block| block.len() >= BLOCK_MIN) {
            if part::may_begin(block) {
                if block.len() < part::PEEK && !last {
                    return Scan::NeedMore(at);
                }
                if part::begins(block) {
                    return Scan::Resync(at);
                }
            }
            let length = self.length(block);
            if self.may_begin(block) && (BLOCK_MIN..=BLOCK_MAX).contains(&length) {
                if block.len() < length.next_multiple_of(4) && !last {
                    return Scan::NeedMore(at);
                }
                if self.extent(block, length).is_some() {
                    return Scan::Resync(at);
                }
            }
            at += 1;
        }
        Scan::NeedMore(at)
    }

    /// Length field at the rear of a block.
    fn length_at(&self, block: &[u8], at: usize) -> usize {
        let section = u32_at(false, block, 0) == SECTION;
        let big = if section { section_order(block).unwrap_or(self.big) } else { self.big };
        u32_at(big, block, at) as usize
    }

    /// True if a block may begin here. In a skipped section only the next section header counts.
    fn may_begin(&self, block: &[u8]) -> bool {
        match u32_at(self.big, block, 0) {
            SECTION => section_order(block).is_some(),
            // Packets, interfaces, names, statistics, the systemd journal, secrets, Sysdig's and custom blocks.
            1..=6 | 9 | 10 | 0x201..=0x2ff | 0xbad | 0x4000_0bad => !self.skipping,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
