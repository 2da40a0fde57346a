//! The classic pcap format (draft-ietf-opsawg-pcap) and its variants.
//!
//! A record has no magic number. After an impossible header the only recovery is a scan for the next chain of
//! plausible headers; see [`super::resync`].

use std::ops::Range;

use super::Record;
use super::damage::DamageKind;
use super::habits::Habits;
use super::linktype::LinkType;
use super::parse::{ABSOLUTE_MAX, Chunk, Scan, Sink, USUAL_MAX, u16_at, u32_at};
use super::part::{self, variant};

/// Size in bytes of the file header of all variants except Ixia's, which adds 4 bytes.
pub(super) const HEADER_LEN: usize = 24;

/// Size in bytes of the standard record header; variants append fields.
const RECORD_LEN: usize = 16;

/// Distance in seconds between consecutive records above which the second record is odd.
const JUMP_SECONDS: u32 = 30 * 86_400;

/// Record header, in host byte order.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) sec: u32,
    pub(super) frac: u32,
    pub(super) caplen: u32,
    pub(super) len: u32,
}

impl Header {
    pub(super) fn is_zero(self) -> bool {
        (self.sec, self.frac, self.caplen, self.len) == (0, 0, 0, 0)
    }
}

/// Order of the two lengths in a record header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lengths {
    /// Captured, then original: since version 2.4.
    Standard,
    /// Original, then captured: before version 2.3, and DG/UX's 543.0.
    Swapped,
    /// Version 2.3, written in both orders; the captured length is the smaller.
    Either,
}

/// Parser of a classic pcap file.
#[derive(Clone)]
pub(super) struct Pcap {
    big: bool,
    /// Nanoseconds per unit of the fraction: 1000 or 1.
    unit: u32,
    /// Number of fraction units in a second, an exclusive bound.
    pub(super) second: u32,
    /// Size in bytes of a record header.
    pub(super) record_len: usize,
    lengths: Lengths,
    linktype: LinkType,
    /// Captured length in bytes above which a record is odd.
    pub(super) snaplen: u32,
    /// Captured length in bytes above which a record is impossible.
    pub(super) limit: u32,
    /// Seconds of the last good record.
    pub(super) last_sec: Option<u32>,
    /// Oddities of the writer.
    pub(super) habits: Habits,
    /// Offset of the record that ended a damaged stretch, which needs no further evidence.
    found: Option<u64>,
    /// Offset of the first skipped byte, while bytes are skipped.
    damaged: Option<u64>,
}

/// True if a record is far in time from the previous record.
#[inline]
pub(super) fn is_far(sec: u32, before: Option<u32>) -> bool {
    before.is_some_and(|before| before.abs_diff(sec) > JUMP_SECONDS)
}

impl Pcap {
    /// Parse the file header, of which [`part::pcap_header_len`] bytes must be present.
    pub(super) fn new(head: &[u8]) -> Option<Self> {
        let big = variant(u32_at(true, head, 0)).is_some();
        let (unit, _, record_len) = variant(u32_at(big, head, 0))?;
        let lengths = match (u16_at(big, head, 4), u16_at(big, head, 6)) {
            (2, 0..=2) | (543, _) => Lengths::Swapped,
            (2, 3) => Lengths::Either,
            _ => Lengths::Standard,
        };
        let snaplen = u32_at(big, head, 16);
        let limit = snaplen.clamp(USUAL_MAX, ABSOLUTE_MAX);
        Some(Self {
            big,
            unit,
            second: 1_000_000_000 / unit,
            record_len,
            lengths,
            linktype: LinkType::from_header(u32_at(big, head, 20)),
            // A snaplen of 0 means no limit.
            snaplen: if snaplen == 0 { limit } else { snaplen.min(limit) },
            limit,
            last_sec: None,
            habits: Habits::default(),
            found: None,
            damaged: None,
        })
    }

    /// Parse all complete records of `chunk` and return the number of bytes consumed.
    pub(super) fn parse(&mut self, chunk: Chunk<'_>, sink: &mut Sink<'_>) -> usize {
        if self.big { self.run::<true>(chunk, sink) } else { self.run::<false>(chunk, sink) }
    }

    /// True if no damage is being skipped, and the writer has shown no oddity.
    pub(super) fn stands_between_records(&self) -> bool {
        self.damaged.is_none() && self.habits.is_unseen()
    }

    /// Find the first record in `data` from the middle of a file whose first record is at the front of `first`.
    pub(super) fn find(mut self, first: &[u8], data: &[u8], last: bool) -> Option<Range<usize>> {
        if first.len() >= self.record_len {
            self.last_sec = Some(self.header(first).sec);
        }
        let found = if self.big { self.scan::<true>(data, 0, last) } else { self.scan::<false>(data, 0, last) };
        let Scan::Resync(mut at) = found else { return None };
        if part::begins(&data[at..]) {
            at += part::header_len(&data[at..]);
        }
        if data.len() < at + self.record_len {
            return None;
        }
        let end = at + self.record_len + self.header(&data[at..]).caplen as usize;
        (end <= data.len()).then_some(at..end)
    }

    /// Number of bytes missing behind `rest`, an incomplete record at the end of the file.
    pub(super) fn missing(&self, rest: &[u8]) -> u64 {
        if rest.len() >= part::PEEK && part::begins(rest) {
            return part::header_len(rest).saturating_sub(rest.len()) as u64;
        }
        let body = if rest.len() < self.record_len { 0 } else { u64::from(self.header(rest).caplen) };
        (self.record_len as u64 + body).saturating_sub(rest.len() as u64)
    }

    fn header(&self, data: &[u8]) -> Header {
        if self.big { self.header_at::<true>(data, 0) } else { self.header_at::<false>(data, 0) }
    }

    /// Decode the header at `at`; all zeros out of bounds, which callers exclude.
    #[inline]
    pub(super) fn header_at<const BIG: bool>(&self, data: &[u8], at: usize) -> Header {
        self.header_of::<BIG>(data.get(at..).and_then(|rest| rest.first_chunk()).unwrap_or(&[0; RECORD_LEN]))
    }

    #[inline]
    fn header_of<const BIG: bool>(&self, bytes: &[u8; RECORD_LEN]) -> Header {
        let field = |i: usize| {
            let field = [bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]];
            if BIG { u32::from_be_bytes(field) } else { u32::from_le_bytes(field) }
        };
        let mut header = Header { sec: field(0), frac: field(4), caplen: field(8), len: field(12) };
        if self.lengths != Lengths::Standard && (self.lengths == Lengths::Swapped || header.caplen > header.len) {
            std::mem::swap(&mut header.caplen, &mut header.len);
        }
        header
    }

    fn run<const BIG: bool>(&mut self, chunk: Chunk<'_>, sink: &mut Sink<'_>) -> usize {
        let Chunk { data, offset, .. } = chunk;
        let mut pos = 0;
        loop {
            if let Some(from) = self.damaged {
                match self.scan::<BIG>(data, pos, chunk.last) {
                    Scan::Resync(at) => {
                        self.damaged = None;
                        self.found = Some(offset + at as u64);
                        let bytes = offset + at as u64 - from;
                        sink.damage(from, bytes, DamageKind::RecordHeader, String::new, "");
                        pos = at;
                    }
                    Scan::NeedMore(_) if chunk.last => {
                        self.damaged = None;
                        let bytes = offset + data.len() as u64 - from;
                        sink.damage(from, bytes, DamageKind::RecordHeader, String::new, "");
                        return data.len();
                    }
                    Scan::NeedMore(at) => return at,
                }
            }
            pos = self.fast_path::<BIG>(chunk, pos, sink);
            if data.len().saturating_sub(pos) < self.record_len {
                return pos;
            }
            if part::begins(&data[pos..]) {
                sink.part = data.len() - pos >= part::header_len(&data[pos..]);
                return pos;
            }
            let (header, at) = (self.header_at::<BIG>(data, pos), offset + pos as u64);
            let is_found = self.found == Some(at);
            let plausible = if is_found {
                true
            } else {
                let Some(plausible) = self.plausible::<BIG>(data, pos, header, chunk.last) else { return pos };
                plausible
            };
            if !plausible {
                if sink.strict {
                    let found = || self.describe(header);
                    let expected = "a record header with lengths and a time that can be true";
                    sink.damage(at, 0, DamageKind::RecordHeader, found, expected);
                    return pos;
                }
                self.damaged = Some(at);
                pos += 1;
                continue;
            }
            let whole = self.record_len + header.caplen as usize;
            if whole > data.len() - pos {
                return pos;
            }
            if is_found {
                self.habits.note(self.oddities(header, self.last_sec));
            }
            self.last_sec = Some(header.sec);
            sink.records.push(self.record(header, chunk, (pos, sink.file)));
            pos += whole;
        }
    }

    /// Parse complete records from `pos` on. Returns the index of the first record that is unusual or incomplete.
    #[inline(never)]
    fn fast_path<const BIG: bool>(&mut self, chunk: Chunk<'_>, mut pos: usize, sink: &mut Sink<'_>) -> usize {
        let (Some(mut before), Lengths::Standard) = (self.last_sec, self.lengths) else { return pos };
        let (file, one) = (sink.file, self.clone());
        while let Some(rest) = chunk.data.get(pos..)
            && let Some(header) = rest.first_chunk()
        {
            let header = one.header_of::<BIG>(header);
            // A captured length of 0 wraps to more than any limit.
            let unusual = header.caplen.wrapping_sub(1) >= one.snaplen
                || header.caplen > header.len
                || header.len > ABSOLUTE_MAX
                || header.frac >= one.second
                || is_far(header.sec, Some(before));
            let whole = one.record_len + header.caplen as usize;
            if unusual || whole > rest.len() {
                break;
            }
            before = header.sec;
            sink.records.push(one.record(header, chunk, (pos, file)));
            pos += whole;
        }
        self.last_sec = Some(before);
        pos
    }

    #[inline]
    fn record(&self, header: Header, chunk: Chunk<'_>, (pos, file): (usize, u32)) -> Record {
        Record {
            ts: i64::from(header.sec) * 1_000_000_000 + i64::from(header.frac) * i64::from(self.unit),
            offset: chunk.offset + pos as u64,
            start: chunk.origin + (pos + self.record_len) as u32,
            caplen: header.caplen,
            len: header.len,
            file,
            linktype: self.linktype,
            abridged: false,
            unsummed: false,
        }
    }

    fn describe(&self, header: Header) -> String {
        let Header { sec, frac, caplen, len } = header;
        if caplen > self.limit {
            return format!("a captured length of {caplen} bytes (the limit is {})", self.limit);
        }
        format!("captured length {caplen}, original length {len}, time {sec} s + {frac}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn ns(sec: u32, frac: i64) -> i64 {
        i64::from(sec) * 1_000_000_000 + frac
    }

    #[test]
    fn variants() {
        let magics = [(0xa1b2_c3d4, 1000), (0xa1b2_3c4d, 1), (0xa1b2_cd34, 1000), (0xa1e2_cb12, 1)];
        for (magic, unit) in magics.into_iter().chain([(0x1c00_01ab, 1000), (0x1c00_01ac, 1)]) {
            for big in [false, true] {
                let mut file = PcapFile::with(magic, big, (2, 4), 65_535, 0x5400_0001);
                file.packet(T0, 5, b"first").packet(u32::MAX, 999_999, b"").raw(T0, 6, 4, 1500, b"abcd");
                let all = read_every_way(&file.bytes);
                assert_eq!(all.damage.total(), 0, "{magic:x}");
                let [first, second, third] = &all.records[..] else { panic!("{magic:x}: {all:?}") };
                assert_eq!((first.ts, &first.bytes[..], first.len), (ns(T0, 5 * unit), &b"first"[..], 5));
                assert_eq!((second.ts, second.bytes.len()), (ns(u32::MAX, 999_999 * unit), 0));
                assert_eq!((&third.bytes[..], third.len, third.linktype), (&b"abcd"[..], 1500, LinkType::ETHERNET));
                assert_eq!(first.offset, part::pcap_header_len(&file.bytes).expect("a pcap file") as u64);
            }
        }
    }

    #[test]
    fn lengths_of_old_versions() {
        for (version, caplen, len) in [((2, 2), 9, 3), ((543, 0), 9, 3), ((2, 3), 9, 3), ((2, 3), 3, 9), ((2, 4), 3, 9)]
        {
            let mut file = PcapFile::with(0xa1b2_c3d4, false, version, 0, 1);
            file.raw(T0, 0, caplen, len, b"abc").raw(T0, 1, caplen, len, b"def");
            let all = read(&file.bytes);
            let got: Vec<_> = all.records.iter().map(|r| (&r.bytes[..], r.len)).collect();
            assert_eq!(got, [(&b"abc"[..], 9), (&b"def"[..], 9)], "{version:?}");
        }
    }

    #[test]
    fn single_oddities_are_no_damage() {
        let mut file = PcapFile::plain();
        file.raw(T0, 1_500_000, 3, 3, b"abc").raw(T0, 0, 3, 2, b"def").raw(0, 0, 0, 0, b"").packet(1, 0, b"x");
        let all = read_every_way(&file.bytes);
        assert_eq!(all.damage.total(), 1, "zeros after a time are damage");
        assert_eq!((all.records[0].ts, all.records[1].len), (ns(T0, 1_500_000_000), 2));

        let mut zero_first = PcapFile::plain();
        zero_first.raw(0, 0, 0, 0, b"").packet(1, 0, b"x");
        assert_eq!(read(&zero_first.bytes).records.len(), 2);
    }

    #[test]
    fn an_oddity_is_tolerated_only_before_a_possible_header() {
        let mut file = PcapFile::plain();
        file.packet(T0, 0, b"good").raw(T0, 1_500_000, 3, 3, b"odd").raw(T0, 1_500_000, 9999, 2, b"bad");
        let bad = file.bytes.len() as u64 - 19;
        for i in 0..9 {
            file.packet(T0, i, &payload(i));
        }
        let all = read_every_way(&file.bytes);
        assert_eq!((all.records.len(), all.damage.details()[0].offset), (11, bad));
    }

    /// Behind damage, records whose original lengths are too small chain as others do.
    #[test]
    fn original_lengths_below_captured_ones_behind_damage() {
        for (frac, len) in [(1_500_000, 3), (0, 2), (0, 3)] {
            let mut file = PcapFile::plain();
            file.raw(T0, frac, 3, len, b"odd");
            // Confirms the odd one; the damage behind swallows no more.
            file.packet(T0, 0, b"good").packet(T0, 1, b"good").raw(T0, 1, u32::MAX, 9, &payload(1));
            for i in 0..9 {
                file.raw(T0, i, 5, 4, b"short");
            }
            for i in 0..9 {
                file.packet(T0, i, &payload(i));
            }
            let all = read_every_way(&file.bytes);
            assert_eq!((all.records.len(), all.damage.total()), (3 + 9 + 9, 1), "fraction {frac}");
            assert_eq!(all.damage.details()[0].bytes, 16 + payload(1).len() as u64);
        }
    }

    #[test]
    fn a_wrong_length_does_not_swallow_the_records_behind_it() {
        for wrong in [50_000, 300, 90] {
            let mut file = PcapFile::plain();
            for i in 0..3000 {
                let (data, len) = (payload(i), payload(i).len() as u32);
                file.raw(T0, i, if i == 1000 || i == 2998 { wrong + len } else { len }, len, &data);
            }
            let all = read_every_way(&file.bytes);
            assert_eq!((all.records.len(), all.damage.count(DamageKind::RecordHeader)), (2998, 2), "{wrong}");
        }
    }

    #[test]
    fn writers_without_original_lengths_are_understood() {
        let mut file = PcapFile::plain();
        for i in 0..100 {
            let data = payload(i);
            let caplen = if i == 50 { u32::MAX } else { data.len() as u32 };
            file.raw(T0, i, caplen, 0, &data);
        }
        // The record before the damage is lost too, because no next header confirms its length.
        let all = read_every_way(&file.bytes);
        assert_eq!((all.records.len(), all.damage.total()), (98, 1));
    }

    #[test]
    fn snaplen_moves_the_limit() {
        let big_packet = vec![0x99; 1 << 20];
        for (snaplen, n) in [(65_535, 0), (2 << 20, 1), (u32::MAX, 1)] {
            let mut file = PcapFile::with(0xa1b2_c3d4, false, (2, 4), snaplen, 1);
            file.packet(T0, 0, &big_packet);
            let all = read(&file.bytes);
            assert_eq!(all.records.len(), n, "snaplen {snaplen}");
            assert_eq!(all.damage.total(), 1 - n as u64);
        }
    }

    #[test]
    fn skips_a_bad_header_and_what_belongs_to_it() {
        for position in [0_u32, 1, 5, 9] {
            let mut file = PcapFile::plain();
            let mut bad = (0, 0);
            for i in 0..10 {
                let at = file.bytes.len() as u64;
                if i == position {
                    file.raw(T0 + i, 0, 0xffff_ffff, 60, &payload(i));
                    bad = (at, file.bytes.len() as u64 - at);
                } else {
                    file.packet(T0 + i, 0, &payload(i));
                }
            }
            let all = read_every_way(&file.bytes);
            assert_eq!(all.records.len(), 9, "bad record {position}");
            let [damage] = all.damage.details() else { panic!("{:?}", all.damage) };
            assert_eq!((damage.offset, damage.bytes, damage.kind), (bad.0, bad.1, DamageKind::RecordHeader));

            let strict = read_strict(&file.bytes);
            assert_eq!(strict.records, all.records[..position as usize]);
            assert_eq!(format_error(&strict).0, bad.0);
            assert!(format_error(&strict).1.contains("4294967295"));
        }
    }

    #[test]
    fn skips_zeros_and_lost_and_inserted_bytes() {
        let good = sample(40);
        let all = read(&good);
        let cut = all.records[20].offset as usize;
        let zeros = [&good[..cut], &[0; 10_000], &good[cut..]].concat();
        let got = read_every_way(&zeros);
        assert_eq!((got.records.len(), got.damage.count(DamageKind::RecordHeader)), (40, 1));
        assert_eq!(got.damage.details()[0].bytes, 10_000);

        let lost = [&good[..cut], &good[cut + 3..]].concat();
        assert_eq!(read_every_way(&lost).records.len(), 39);
        let inserted = [&good[..cut + 20], b"inserted", &good[cut + 20..]].concat();
        let got = read_every_way(&inserted);
        assert!(got.records.len() >= 39 && got.damage.total() == 1, "{got:?}");
    }

    #[test]
    fn a_jump_of_the_clock_behind_damage() {
        for jump in [T0 + 400 * 86_400, 5] {
            let mut file = PcapFile::plain();
            file.packet(T0, 0, b"good").raw(T0, 1, u32::MAX, 9, &payload(1));
            for i in 0..10 {
                file.packet(jump, i, &payload(i));
            }
            let all = read_every_way(&file.bytes);
            assert_eq!(all.records.len(), if jump > T0 { 11 } else { 1 });
        }
    }

    #[test]
    fn damage_up_to_the_end() {
        let mut file = PcapFile::plain();
        file.packet(T0, 0, b"good").bytes.extend(vec![0xff; 300_000]);
        let all = read_every_way(&file.bytes);
        assert_eq!((all.records.len(), all.damage.total()), (1, 1));
        assert_eq!(all.damage.details()[0].bytes, 300_000);
    }

    #[test]
    fn a_file_cut_anywhere_keeps_its_whole_records() {
        let good = sample(6);
        let whole = read(&good);
        for end in 0..good.len() {
            let all = read(&good[..end]);
            if end < HEADER_LEN {
                assert_eq!(format_error(&all).0, 0);
                continue;
            }
            let n = whole.records.iter().filter(|r| r.offset as usize + 16 + r.bytes.len() <= end).count();
            assert_eq!(all.records, whole.records[..n]);
            let at = whole.records[n].offset;
            let missing = if end as u64 - at < 16 { 16 } else { 16 + whole.records[n].bytes.len() as u64 };
            match all.damage.details() {
                [] => assert_eq!(at, end as u64),
                [damage] => {
                    assert_eq!((damage.offset, damage.kind), (at, DamageKind::TruncatedFile));
                    assert_eq!(damage.bytes, at + missing - end as u64);
                    assert_eq!(format_error(&read_strict(&good[..end])).0, at);
                }
                more => panic!("{more:?}"),
            }
        }
    }
}
