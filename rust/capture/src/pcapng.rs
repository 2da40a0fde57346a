//! The pcapng format (draft-ietf-opsawg-pcapng).
//!
//! Every block has its length at both ends. So damage inside a block costs that block, and damage to its frame costs
//! the bytes up to the next block whose lengths agree.
//!
//! A simple packet block has no timestamp: its packet gets the previous packet's timestamp, or 0.

use super::Record;
use super::damage::DamageKind;
use super::linktype::LinkType;
use super::parse::{ABSOLUTE_MAX, Chunk, Scan, Sink, hex, u16_at, u32_at};

/// Type of the section header block, a palindrome in both byte orders.
pub(super) const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// Size in bytes of the smallest section header block.
pub(super) const HEADER_LEN: usize = 28;

/// Size in bytes of the smallest block: type, length, and length again.
const BLOCK_MIN: usize = 12;

/// Maximum accepted size of a block in bytes: the longest packet and its options.
const BLOCK_MAX: usize = ABSOLUTE_MAX as usize + (64 << 10);

/// Maximum number of interfaces of a section.
const INTERFACES_MAX: usize = 1 << 16;

/// Option codes of the interface description block.
const TSRESOL: u16 = 9;
const TSOFFSET: u16 = 14;

const LENGTHS: &str = "a block with two equal lengths that are multiples of 4";

/// Timestamp resolution of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    /// Nanoseconds per tick.
    Times(u64),
    /// Ticks per nanosecond.
    Over(u64),
    /// Ticks per second, as a power of 2.
    Binary(u32),
}

impl Resolution {
    /// Decode the option `if_tsresol`: a power of 10, or of 2 if the upper bit is set.
    fn from_option(value: u8) -> Self {
        let power = u32::from(value & 0x7f);
        if value & 0x80 != 0 {
            Self::Binary(power)
        } else if power <= 9 {
            Self::Times(10_u64.pow(9 - power))
        } else {
            // With ticks below 10^-28 s no 64-bit count reaches a nanosecond.
            10_u64.checked_pow(power - 9).map_or(Self::Times(0), Self::Over)
        }
    }
}

struct Interface {
    linktype: LinkType,
    /// Snaplen in bytes; 0: unlimited.
    snaplen: u32,
    resolution: Resolution,
    /// Seconds to add to every timestamp.
    offset: i64,
}

/// Maximum distance of a timestamp from the epoch in nanoseconds; the rest of an `i64` holds the longest timeout.
pub(super) const TIME_LIMIT: i64 = 8_000_000_000_000_000_000;

impl Interface {
    /// Nanoseconds since the epoch; the nearest valid time as the error.
    fn time(&self, ticks: u64) -> Result<i64, i64> {
        let ns = match self.resolution {
            Resolution::Times(ns) => i128::from(ticks) * i128::from(ns),
            Resolution::Over(per) => i128::from(ticks / per),
            Resolution::Binary(power) => ((u128::from(ticks) * 1_000_000_000) >> power) as i128,
        } + i128::from(self.offset) * 1_000_000_000;
        let limit = i128::from(TIME_LIMIT);
        if ns.abs() <= limit { Ok(ns as i64) } else { Err(ns.clamp(-limit, limit) as i64) }
    }
}

/// Parser of a pcapng file.
pub(super) struct Pcapng {
    big: bool,
    interfaces: Vec<Interface>,
    /// True after an unreadable section header, which leaves the section's blocks without meaning.
    skipping: bool,
    /// Time of the last packet in nanoseconds, for simple packet blocks.
    last_ts: i64,
    /// Offset of the first skipped byte and the kind of damage there, while bytes are skipped.
    damaged: Option<(u64, DamageKind)>,
}

/// Byte order of a section by its byte-order magic; true for big-endian.
fn byte_order(block: &[u8]) -> Option<bool> {
    [false, true].into_iter().find(|&big| u32_at(big, block, 8) == ORDER_MAGIC)
}

/// Check the first section header, of at least [`HEADER_LEN`] bytes. The error has offset, found and expected
/// content.
pub(super) fn check_head(head: &[u8]) -> Result<(), (u64, String, String)> {
    let Some(big) = byte_order(head) else {
        let found = head.get(8..12).unwrap_or_default();
        return Err((8, format!("byte-order magic {}", hex(found)), "1a 2b 3c 4d in either order".into()));
    };
    match u16_at(big, head, 12) {
        1 => Ok(()),
        major => Err((12, format!("pcapng version {major}"), "version 1".into())),
    }
}

impl Pcapng {
    pub(super) fn new() -> Self {
        Self { big: false, interfaces: Vec::new(), skipping: true, last_ts: 0, damaged: None }
    }

    /// Number of bytes missing behind `rest`, an incomplete block at the end of the file.
    pub(super) fn missing(&self, rest: &[u8]) -> u64 {
        let length = if rest.len() < BLOCK_MIN { BLOCK_MIN } else { self.length(rest) };
        length.saturating_sub(rest.len()) as u64
    }

    /// Length field at the front of a block.
    fn length(&self, block: &[u8]) -> usize {
        let section = u32_at(false, block, 0) == SECTION;
        let big = if section { byte_order(block).unwrap_or(self.big) } else { self.big };
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
            let block = &data[pos..];
            if block.len() < BLOCK_MIN {
                return pos;
            }
            let at = chunk.offset + pos as u64;
            if u32_at(false, block, 0) == SECTION {
                // A damaged section header ends the previous section all the same.
                self.interfaces.clear();
                self.skipping = true;
                let Some(big) = byte_order(block) else {
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
            let framed = (BLOCK_MIN..=BLOCK_MAX).contains(&length) && length.is_multiple_of(4);
            let whole = framed && block.len() >= length;
            // A block truncated by the end of the file has an intact frame, unless further blocks lie within.
            if framed && !whole && !(chunk.last && matches!(self.scan(data, pos + 1, true), Scan::Resync(_))) {
                return pos;
            }
            let trailer = if whole { u32_at(self.big, block, length - 4) as usize } else { 0 };
            if !whole || trailer != length {
                let found = || match trailer {
                    0 => format!("a block of {length} bytes"),
                    _ => format!("a block of {length} bytes that ends with the length {trailer}"),
                };
                if self.skip_from(at, DamageKind::BlockLength, sink, found, LENGTHS) {
                    return pos;
                }
                pos += 1;
                continue;
            }
            if self.block(&block[..length], at, chunk.origin + pos as u32, sink) {
                return pos;
            }
            pos += length;
        }
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
            SECTION => HEADER_LEN,
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
            return false;
        }
        if self.skipping {
            return false;
        }
        match kind {
            INTERFACE if self.interfaces.len() == INTERFACES_MAX => {
                let found = || "one more interface".to_owned();
                sink.damage(at, bytes, DamageKind::TooManyInterfaces, found, "at most 65536 interfaces in a section")
            }
            INTERFACE => {
                self.interfaces.push(self.interface(block));
                false
            }
            _ => self.packet(kind, block, at, origin, sink),
        }
    }

    fn interface(&self, block: &[u8]) -> Interface {
        let mut interface = Interface {
            linktype: LinkType::from_header(u32::from(u16_at(self.big, block, 8))),
            snaplen: u32_at(self.big, block, 12),
            resolution: Resolution::Times(1000),
            offset: 0,
        };
        let mut options = &block[16..block.len() - 4];
        while let Some((header, rest)) = options.split_first_chunk::<4>() {
            let (code, len) = (u16_at(self.big, header, 0), usize::from(u16_at(self.big, header, 2)));
            let (Some(value), true) = (rest.get(..len), code != 0) else { break };
            match (code, value) {
                (TSRESOL, [resolution, ..]) => interface.resolution = Resolution::from_option(*resolution),
                (TSOFFSET, value) if len == 8 => {
                    let (high, low) = if self.big { (0, 4) } else { (4, 0) };
                    let (high, low) = (u32_at(self.big, value, high), u32_at(self.big, value, low));
                    interface.offset = (u64::from(high) << 32 | u64::from(low)) as i64;
                }
                _ => {}
            }
            options = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        interface
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
            });
        }
        strict
    }

    /// Scan for the next block of a known type whose two lengths agree. Every index is tried, because bytes may be
    /// missing. The scan is linear: no index is visited twice.
    fn scan(&self, data: &[u8], from: usize, last: bool) -> Scan {
        let mut at = from;
        while let Some(block) = data.get(at..).filter(|block| block.len() >= BLOCK_MIN) {
            let length = self.length(block);
            if self.may_begin(block) && (BLOCK_MIN..=BLOCK_MAX).contains(&length) && length.is_multiple_of(4) {
                if block.len() < length && !last {
                    return Scan::NeedMore(at);
                }
                if block.len() >= length && self.length_at(block, length - 4) == length {
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
        let big = if section { byte_order(block).unwrap_or(self.big) } else { self.big };
        u32_at(big, block, at) as usize
    }

    /// True if a block may begin here. In a skipped section only the next section header counts.
    fn may_begin(&self, block: &[u8]) -> bool {
        match u32_at(self.big, block, 0) {
            SECTION => byte_order(block).is_some(),
            // Packets, interfaces, names, statistics, the systemd journal, secrets and custom blocks.
            1..=6 | 9 | 10 | 0xbad | 0x4000_0bad => !self.skipping,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn resolutions() {
        let time = |value: Option<u8>, offset: i64, ticks: u64| {
            let resolution = value.map_or(Resolution::Times(1000), Resolution::from_option);
            Interface { linktype: LinkType::ETHERNET, snaplen: 0, resolution, offset }.time(ticks)
        };
        assert_eq!(time(None, 0, 1_500_000), Ok(1_500_000_000));
        assert_eq!(time(Some(0), 0, 3), Ok(3_000_000_000));
        assert_eq!(time(Some(9), 0, 12_345), Ok(12_345));
        assert_eq!(time(Some(12), 0, 12_345), Ok(12));
        assert_eq!(time(Some(127), 0, u64::MAX), Ok(0));
        assert_eq!(time(Some(0x80), 0, 3), Ok(3_000_000_000));
        assert_eq!(time(Some(0x8a), 0, 1536), Ok(1_500_000_000));
        assert_eq!(time(Some(0xff), 0, u64::MAX), Ok(0));
        assert_eq!(time(Some(6), -1, 1_500_000), Ok(500_000_000));
        assert_eq!(time(Some(6), -3, 1_500_000), Ok(-1_500_000_000));
        assert_eq!(time(Some(0), 0, u64::MAX), Err(TIME_LIMIT));
        assert_eq!(time(None, i64::MIN, 0), Err(-TIME_LIMIT));
        assert_eq!(time(None, i64::MAX, u64::MAX), Err(TIME_LIMIT));
    }

    #[test]
    fn sections_interfaces_and_packets() {
        for big in [false, true] {
            let offset = if big { 10_i64.to_be_bytes() } else { 10_i64.to_le_bytes() };
            let mut file = PcapngFile::new(big);
            file.interface(1, 5, &[(2, b"eth0"), (9, &[9]), (0, b"")]);
            file.interface(276, 0, &[(14, &offset), (9, &[0x80])]);
            file.simple(7, b"no time").packet(0, 17, b"first").packet(1, 5, b"second");
            file.raw(2, 0, 99, 3, b"old");
            file.block(0xbad, &[b"custom"]).block(5, &[&[0; 20]]).block(0x7777_7777, &[]);
            file.simple(7, b"simple!").simple(2, b"ab");
            file.section(!big).packet(0, 0, b"whose").interface(101, 0, &[]).packet(0, 3, b"raw");
            let all = read_every_way(&file.bytes);
            let got: Vec<_> = all.records.iter().map(|r| (r.ts, r.linktype.0, r.len, &r.bytes[..])).collect();
            let expected: [(i64, u16, u32, &[u8]); 7] = [
                (0, 1, 7, b"no ti"),
                (17, 1, 5, b"first"),
                (15_000_000_000, 276, 6, b"second"),
                (99, 1, 3, b"old"),
                (99, 1, 7, b"simpl"),
                (99, 1, 2, b"ab"),
                (3000, 101, 3, b"raw"),
            ];
            assert_eq!(got, expected);
            assert_eq!((all.damage.total(), all.damage.count(DamageKind::UnknownInterface)), (1, 1));
        }
    }

    /// A file of 3 packets with an insertion between the first and the second.
    fn with_inserted(insert: impl FnOnce(&mut PcapngFile)) -> (Vec<u8>, u64, u64) {
        let mut file = PcapngFile::new(false);
        file.interface(1, 0, &[(9, &[0])]).packet(0, 1, &payload(1));
        let at = file.bytes.len();
        insert(&mut file);
        let bytes = file.bytes.len() - at;
        file.packet(0, 2, &payload(2)).packet(0, 3, &payload(3));
        (file.bytes, at as u64, bytes as u64)
    }

    type Insert<'a> = Box<dyn FnOnce(&mut PcapngFile) + 'a>;

    #[test]
    fn damage_costs_one_block() {
        let patch = |file: &mut PcapngFile, at: usize, bytes: &[u8]| {
            let start = file.bytes.len();
            file.packet(0, 9, &payload(9));
            let at = if at == usize::MAX { file.bytes.len() - 4 } else { start + at };
            file.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        };
        let cases: Vec<(Insert<'_>, DamageKind)> = vec![
            (
                Box::new(|f| {
                    f.packet(7, 1, b"?");
                }),
                DamageKind::UnknownInterface,
            ),
            (
                Box::new(|f| {
                    f.raw(6, 0, 1, 9, b"1234");
                }),
                DamageKind::CaptureLength,
            ),
            (
                Box::new(|f| {
                    f.raw(2, 0, 1, u32::MAX, b"1234");
                }),
                DamageKind::CaptureLength,
            ),
            (
                Box::new(|f| {
                    f.block(6, &[&[0; 12]]);
                }),
                DamageKind::BlockLength,
            ),
            (
                Box::new(|f| {
                    f.block(1, &[]);
                }),
                DamageKind::BlockLength,
            ),
            (Box::new(|f| patch(f, 4, &[0x62])), DamageKind::BlockLength),
            (Box::new(|f| patch(f, 4, &[0; 4])), DamageKind::BlockLength),
            (Box::new(|f| patch(f, 4, &[0xfc; 4])), DamageKind::BlockLength),
            (Box::new(|f| patch(f, 4, &[0x70])), DamageKind::BlockLength),
            (Box::new(|f| patch(f, 4, &[0, 0x10])), DamageKind::BlockLength),
            (Box::new(|f| patch(f, usize::MAX, &[0])), DamageKind::BlockLength),
            (Box::new(|f| f.bytes.extend(b"junk that is no block")), DamageKind::BlockLength),
        ];
        for (i, (insert, kind)) in cases.into_iter().enumerate() {
            let (file, at, bytes) = with_inserted(insert);
            let all = read_every_way(&file);
            assert_eq!(all.records.len(), 3, "case {i}: {:?}", all.damage);
            let [damage] = all.damage.details() else { panic!("case {i}: {:?}", all.damage) };
            assert_eq!((damage.offset, damage.bytes, damage.kind), (at, bytes, kind), "case {i}");
            let strict = read_strict(&file);
            assert_eq!((strict.records.len(), format_error(&strict).0), (1, at), "case {i}");
        }
    }

    #[test]
    fn times_out_of_range_are_clamped() {
        let (file, at, _) = with_inserted(|f| {
            f.packet(0, u64::MAX, b"late");
        });
        let all = read_every_way(&file);
        assert_eq!((all.records.len(), all.records[1].ts), (4, TIME_LIMIT));
        assert_eq!(all.damage.details()[0].kind, DamageKind::Timestamp);
        let strict = read_strict(&file);
        assert_eq!((strict.records.len(), format_error(&strict).0), (1, at));
    }

    #[test]
    fn a_bad_section_header_costs_its_section() {
        for (at, bytes) in [(8, [9, 9, 9, 9]), (12, [2, 0, 0, 0])] {
            let mut file = PcapngFile::new(false);
            file.interface(1, 0, &[]).packet(0, 1, b"one");
            let start = file.bytes.len();
            file.section(false);
            file.bytes[start + at..start + at + 4].copy_from_slice(&bytes);
            file.interface(1, 0, &[]).packet(0, 2, b"lost");
            file.section(true).interface(1, 0, &[]).packet(0, 3, b"three");
            let all = read_every_way(&file.bytes);
            assert_eq!((all.records.len(), all.damage.count(DamageKind::SectionHeader)), (2, 1));
            assert_eq!(all.damage.total(), 1);

            let first = read(&file.bytes[start..]);
            assert_eq!(format_error(&first).0, at as u64);
        }
    }

    #[test]
    fn too_many_interfaces() {
        let mut file = PcapngFile::new(false);
        for _ in 0..INTERFACES_MAX + 2 {
            file.interface(1, 0, &[]);
        }
        file.packet(65_535, 1, b"last").packet(65_536, 1, b"none");
        let all = read(&file.bytes);
        assert_eq!((all.records.len(), all.damage.count(DamageKind::TooManyInterfaces)), (1, 2));
    }

    #[test]
    fn a_file_cut_anywhere_keeps_its_whole_records() {
        let good = sample_ng(6);
        let whole = read(&good);
        for end in 0..good.len() {
            let all = read(&good[..end]);
            if end < HEADER_LEN {
                assert_eq!(format_error(&all).0, 0);
                continue;
            }
            assert_eq!(all.records, whole.records[..all.records.len()]);
            assert!(all.damage.total() <= 1);
            if let [damage] = all.damage.details() {
                assert_eq!(damage.kind, DamageKind::TruncatedFile);
                assert!(damage.offset < end as u64 && damage.bytes > 0);
            }
        }
    }
}
