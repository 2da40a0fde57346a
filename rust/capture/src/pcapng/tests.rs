//! Sections, interfaces and packets, and the cost of damage.

use super::super::testing::*;
use super::interface::TIME_LIMIT;
use super::*;

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
            (UNTIMED, 1, 7, b"no ti"),
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
        if end < SECTION_LEN {
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

/// A file of packets whose blocks leave the padding out of their lengths, or out of the blocks too.
fn unpadded(n: u32, keeps_padding: bool) -> Vec<u8> {
    let mut file = PcapngFile::new(false);
    file.interface(1, 0, &[]);
    for i in 0..n {
        let data = payload(i);
        let length = (32 + data.len() as u32).to_le_bytes();
        let size = (data.len() as u32).to_le_bytes();
        for field in [[6, 0, 0, 0], length, [0; 4], [0; 4], [1; 4], size, size] {
            file.bytes.extend(field);
        }
        file.bytes.extend(&data);
        if keeps_padding {
            file.bytes.resize(file.bytes.len().next_multiple_of(4), 0);
        }
        file.bytes.extend(length);
    }
    file.bytes
}

#[test]
fn lengths_without_the_padding() {
    for keeps_padding in [true, false] {
        let good = unpadded(9, keeps_padding);
        let all = read_every_way(&good);
        assert_eq!((all.records.len(), all.damage.total()), (9, 0));
        assert!(all.records.iter().zip(0..).all(|(record, i)| record.bytes == payload(i)));
        let mut bad = good.clone();
        bad[all.records[4].offset as usize + 5] = 0x77;
        let all = read_every_way(&bad);
        assert_eq!((all.records.len(), all.damage.total()), (8, 1));
        let all = read_every_way(&good[..good.len() - 1]);
        assert_eq!((all.records.len(), all.damage.count(DamageKind::TruncatedFile)), (8, 1));
    }
}

#[test]
fn blocks_of_any_size_are_passed_over() {
    let large = vec![0x77; BLOCK_MAX + 1000];
    for kind in [10, 0xbad, 0x4000_0bad, 0x204] {
        let (good, at, bytes) = with_inserted(|file| {
            file.block(kind, &[&large]);
        });
        let all = read(&good);
        assert_eq!((all.records.len(), all.damage.total()), (3, 0), "{kind}");
        assert_eq!(read_strict(&good).records, all.records);
        // The trailer tells another length.
        let mut bad = good.clone();
        bad[(at + bytes) as usize - 2] ^= 1;
        let all = read(&bad);
        assert_eq!((all.records.len(), all.damage.unused(DamageKind::BlockLength)), (3, bytes));
        assert_eq!(format_error(&read_strict(&bad)).0, at);
        let cut = read(&good[..(at + bytes) as usize - 7]);
        assert_eq!((cut.records.len(), cut.damage.details()[0].kind), (1, DamageKind::TruncatedFile));
        assert_eq!(cut.damage.details()[0].bytes, 7);
    }
}

#[test]
fn a_damaged_length_swallows_no_packets() {
    let (mut bytes, at, size) = with_inserted(|file| {
        file.block(10, &[&[0x77; 400]]);
    });
    let at = at as usize;
    let mut more = PcapngFile { big: false, bytes: Vec::new() };
    for i in 0..50 {
        more.packet(0, 4, &payload(i));
    }
    bytes.extend(more.bytes);
    bytes[at + 7] = 9;
    let all = read_every_way(&bytes);
    assert_eq!((all.records.len(), all.damage.total()), (53, 1));
    assert_eq!(all.damage.details()[0].bytes, size);
}
