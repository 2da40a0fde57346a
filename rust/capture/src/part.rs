//! File headers, at the front of a file and inside: captures one behind the other, as `cat` and `zcat` make them.

use super::parse::{hex, u16_at, u32_at};

/// Type of the section header block, a palindrome in both byte orders.
pub(super) const SECTION: u32 = 0x0a0d_0d0a;
const ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// Size in bytes of the smallest section header block.
pub(super) const SECTION_LEN: usize = 28;

/// Size in bytes of the part of a file header that [`begins`] reads.
pub(super) const PEEK: usize = 16;

/// First bytes of a snoop file (RFC 1761).
pub(super) const SNOOP: &[u8; 8] = b"snoop\0\0\0";

/// Size in bytes of the header of a snoop file.
pub(super) const SNOOP_LEN: usize = 16;

/// Variant by magic number: fraction unit in nanoseconds, sizes in bytes of the file header and of a record header.
pub(super) fn variant(magic: u32) -> Option<(u32, usize, usize)> {
    match magic {
        0xa1b2_c3d4 => Some((1000, 24, 16)),
        0xa1b2_3c4d => Some((1, 24, 16)),
        // Alexey Kuznetzov's patch (1999-10-29): interface index, protocol and packet type follow.
        0xa1b2_cd34 => Some((1000, 24, 24)),
        // netsniff-ng's: time source, interface index, protocol, hardware and packet type follow.
        0xa1e2_cb12 => Some((1, 24, 24)),
        // Ixia's software and hardware captures: the file header ends with the size of all records.
        0x1c00_01ab => Some((1000, 28, 16)),
        0x1c00_01ac => Some((1, 28, 16)),
        _ => None,
    }
}

/// Byte order of a file by its magic number; true for big-endian.
fn byte_order(head: &[u8]) -> Option<bool> {
    let magic = head.first_chunk::<4>()?;
    [false, true].into_iter().find(|&big| variant(u32_at(big, magic, 0)).is_some())
}

/// Size in bytes of the file header if the first 4 bytes are a pcap magic number.
pub(super) fn pcap_header_len(head: &[u8]) -> Option<usize> {
    let magic = head.first_chunk::<4>()?;
    variant(u32::from_le_bytes(*magic)).or_else(|| variant(u32::from_be_bytes(*magic))).map(|v| v.1)
}

/// Test for first bytes that no capture has.
pub(super) fn is_foreign(head: &[u8]) -> bool {
    let Some(magic) = head.first_chunk::<4>() else { return false };
    u32::from_be_bytes(*magic) != SECTION
        && pcap_header_len(head).is_none()
        && !SNOOP.iter().zip(head).all(|(one, found)| one == found)
}

/// Byte order of a section by its byte-order magic; true for big-endian.
pub(super) fn section_order(block: &[u8]) -> Option<bool> {
    [false, true].into_iter().find(|&big| u32_at(big, block, 8) == ORDER_MAGIC)
}

/// Check the first section header, of at least [`SECTION_LEN`] bytes. The error has offset, found and expected
/// content.
pub(super) fn check_section(head: &[u8]) -> Result<(), (u64, String, String)> {
    let Some(big) = section_order(head) else {
        let found = head.get(8..12).unwrap_or_default();
        return Err((8, format!("byte-order magic {}", hex(found)), "1a 2b 3c 4d in either order".into()));
    };
    match u16_at(big, head, 12) {
        1 => Ok(()),
        major => Err((12, format!("pcapng version {major}"), "version 1".into())),
    }
}

/// True if the file header of a capture begins here, by its magic number, a version that exists, and a time zone and an
/// accuracy as all writers have them, which no ordinary record has. At least [`PEEK`] bytes must be present.
#[inline]
pub(super) fn begins(data: &[u8]) -> bool {
    match data {
        // The first bytes of all magic numbers.
        [0xa1 | 0xd4 | 0x4d | 0x34 | 0x12 | 0x1c | 0xab | 0xac | 0x0a | b's', ..] => is_header(data),
        _ => false,
    }
}

/// True if the first 4 bytes are those of a file header that is no pcapng section's.
pub(super) fn may_begin(data: &[u8]) -> bool {
    pcap_header_len(data).is_some() || data.first_chunk::<4>().is_some_and(|first| SNOOP.starts_with(first))
}

fn is_header(data: &[u8]) -> bool {
    if data.len() < PEEK {
        return false;
    }
    if data.starts_with(SNOOP) {
        return u32_at(true, data, 8) == 2;
    }
    if u32_at(false, data, 0) == SECTION {
        return check_section(data).is_ok();
    }
    byte_order(data).is_some_and(|big| {
        let has_version = matches!((u16_at(big, data, 4), u16_at(big, data, 6)), (2, 0..=4) | (543, 0));
        let zone = u32_at(big, data, 8).cast_signed();
        has_version && zone.abs_diff(0) <= DAY && u32_at(big, data, 12) == 0
    })
}

/// Seconds of a day, which no time zone exceeds.
const DAY: u32 = 86_400;

/// Size in bytes of the file header that begins here.
pub(super) fn header_len(data: &[u8]) -> usize {
    if data.starts_with(SNOOP) {
        return SNOOP_LEN;
    }
    pcap_header_len(data).unwrap_or(SECTION_LEN)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{Captures, LinkType};

    fn time(sec: u32, ns: i64) -> i64 {
        i64::from(sec) * 1_000_000_000 + ns
    }

    /// Time, link type and bytes of a record.
    type Read = (i64, u16, Vec<u8>);

    /// One capture of each kind with its records.
    fn kinds() -> Vec<(Vec<u8>, Vec<Read>)> {
        let mut all = Vec::new();
        for (magic, unit) in [(0xa1b2_c3d4, 1000), (0xa1b2_3c4d, 1), (0xa1b2_cd34, 1000), (0x1c00_01ab, 1000)] {
            for (big, network) in [(false, 1), (true, 101)] {
                let mut file = PcapFile::with(magic, big, (2, 4), 65_535, network);
                file.packet(T0, 7, &payload(1)).packet(T0 + 1, 8, &payload(2));
                let records = [(time(T0, 7 * unit), payload(1)), (time(T0 + 1, 8 * unit), payload(2))];
                all.push((file.bytes, records.map(|(ts, bytes)| (ts, network as u16, bytes)).to_vec()));
            }
        }
        for big in [false, true] {
            let mut file = PcapngFile::new(big);
            file.interface(113, 0, &[(9, &[9])]).packet(0, 17, &payload(3));
            all.push((file.bytes, vec![(17, 113, payload(3))]));
        }
        // A capture without packets.
        all.push((PcapFile::plain().bytes, Vec::new()));
        all
    }

    #[test]
    fn any_capture_behind_any_other() {
        let kinds = kinds();
        for (first, second) in kinds.iter().flat_map(|first| kinds.iter().map(move |second| (first, second))) {
            let bytes = [&first.0[..], &second.0, &first.0].concat();
            let expected = [&first.1[..], &second.1, &first.1].concat();
            let all = read_every_way(&bytes);
            let got: Vec<_> = all.records.iter().map(|r| (r.ts, r.linktype.0, r.bytes.clone())).collect();
            assert_eq!((got, all.damage.total()), (expected, 0));
            assert!(read_strict(&bytes).error.is_none());
            let mut reader = reader(&bytes, false);
            drain(&mut reader);
            assert_eq!((reader.parts(), reader.size()), (3, bytes.len() as u64));
        }
    }

    #[test]
    fn a_cut_header_of_a_part_is_told() {
        let whole = sample(2);
        for cut in 1..24 {
            let all = read_every_way(&[&whole[..], &whole[..cut]].concat());
            assert_eq!((all.records.len(), all.damage.total()), (2, 1), "{cut}");
            assert_eq!(all.damage.unused(super::super::DamageKind::TruncatedFile), cut as u64);
        }
    }

    #[test]
    fn damage_ends_at_the_next_part() {
        let (mut first, second) = (sample(5), kinds().swap_remove(1).0);
        first.extend([0xff; 5000]);
        for (second, records) in [(&second, 2), (&sample_ng(4), 4)] {
            let all = read_every_way(&[&first[..], second].concat());
            assert_eq!((all.records.len(), all.damage.total()), (5 + records, 1));
            assert_eq!(all.damage.details()[0].bytes, 5000);
        }
        let mut blocks = sample_ng(3);
        blocks.extend([0xff; 5000]);
        let all = read_every_way(&[&blocks[..], &second].concat());
        assert_eq!((all.records.len(), all.damage.details()[0].bytes), (5, 5000));
        assert_eq!(all.records[4].linktype, LinkType(101));
    }

    #[test]
    fn a_time_equal_to_a_magic_number_begins_no_part() {
        let mut file = PcapFile::plain();
        for i in 0..9 {
            file.packet(0xa1b2_c3d4, i, &payload(i)).packet(0xa1b2_c3d4, 262_146, &payload(i));
        }
        // All that tells a header from a record are the version and the lengths behind the time.
        assert_eq!(read_every_way(&file.bytes).records.len(), 18);
    }

    #[test]
    fn parts_of_merged_files() {
        let bytes = sample(3).repeat(2);
        let inputs = (0..2).map(|_| input("a", Dribble::new(&bytes, 100, false))).collect();
        let mut captures = Captures::open(inputs, true).expect("the inputs open");
        let (mut batch, mut records) = (super::super::RecordBatch::default(), 0);
        while captures.next_batch(&mut batch).expect("sound files") {
            records += batch.records.len();
        }
        assert_eq!((records, captures.size_and_parts()), (12, (2 * bytes.len() as u64, 4)));
    }
}
