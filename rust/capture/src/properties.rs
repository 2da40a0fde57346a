//! Properties of arbitrary bytes: no panic, termination, and a result independent of the reads.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::testing::*;
use super::{CaptureReader, DamageKind, RecordBatch};

/// Read in every way, and check the invariants of any file.
fn check(bytes: &[u8]) -> All {
    let all = read_every_way(bytes);
    assert!(all.records.is_sorted_by(|a, b| a.offset < b.offset), "offsets go forward");
    assert!(all.damage.details().is_sorted_by(|a, b| a.offset <= b.offset), "damage goes forward");
    let strict = read_strict(bytes);
    assert!(strict.records.len() <= all.records.len());
    assert_eq!(strict.records, all.records[..strict.records.len()], "strict reading is a prefix");
    assert_eq!(strict.error.is_some(), all.error.is_some() || all.damage.total() > 0);
    all
}

/// Check the further invariants of uncompressed files.
fn check_plain(bytes: &[u8]) {
    let held: usize = check(bytes).records.iter().map(|r| r.bytes.len()).sum();
    assert!(held <= bytes.len(), "no byte is in two packets");
}

/// Bytes that are often lengths, types and small numbers.
fn junk() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        any::<u32>(),
        0..64_u32,
        Just(T0),
        Just(0x0a0d_0d0a),
        Just(0x1a2b_3c4d),
        (0..30_u32).prop_map(|n| n * 4),
    ];
    proptest::collection::vec(word, 0..200).prop_map(|words| words.into_iter().flat_map(u32::to_le_bytes).collect())
}

fn heads() -> impl Strategy<Value = Vec<u8>> {
    let magics = [0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34, 0xa1e2_cb12, 0x1c00_01ab];
    let pcap = (proptest::sample::select(magics.to_vec()), any::<bool>(), any::<u32>(), 0..5_u16);
    prop_oneof![
        pcap.prop_map(|(magic, big, snaplen, minor)| PcapFile::with(magic, big, (2, minor), snaplen, 1).bytes),
        any::<bool>().prop_map(|big| PcapngFile::new(big).interface(1, 0, &[]).bytes.clone()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn junk_after_a_sound_head(head in heads(), junk in junk()) {
        check_plain(&[head, junk].concat());
    }

    #[test]
    fn changes_to_a_sound_file(
        ng in any::<bool>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0..4_u8), 1..12),
    ) {
        let mut bytes = if ng { sample_ng(12) } else { sample(12) };
        for (index, value, how) in changes {
            let at = index.index(bytes.len());
            match how {
                0 => bytes[at] = value,
                1 => bytes.insert(at, value),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(40)),
            }
        }
        check_plain(&bytes);
    }

    #[test]
    fn changes_to_a_compressed_file(
        zstd in any::<bool>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let plain = sample(50);
        let mut bytes = if zstd {
            zstd::encode_all(&plain[..], 1).expect("compression to memory")
        } else {
            let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
            std::io::Write::write_all(&mut lz4, &plain).expect("compression to memory");
            lz4.finish().expect("compression to memory")
        };
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        check(&bytes);
    }
}

/// A capture whose writer has some of the habits (bits: jumps in time, captured lengths over the snaplen, over the
/// original length, original lengths of 0, fractions over a second), each in the records that a pattern chooses.
fn habitual(n: u32, habits: u8, pattern: u64, sizes: &[u8]) -> Vec<u8> {
    let mut file = PcapFile::with(0xa1b2_c3d4, false, (2, 4), if habits & 2 == 0 { 65_535 } else { 16 }, 1);
    let mut sec = 946_684_800;
    for i in 0..n {
        let has = |bit: u8| habits >> bit & 1 != 0 && (pattern >> ((u32::from(bit) * 13 + i) % 64) & 1 != 0);
        sec = if has(0) { (sec ^ 1 << 30) + 40 * 86_400 } else { sec + i % 2 };
        let data: Vec<u8> =
            (0..20 + u32::from(sizes[i as usize % sizes.len()])).map(|b| 0x80 | (b * i) as u8).collect();
        let caplen = data.len() as u32;
        let len = if has(3) { 0 } else { caplen - if has(2) { 16 } else { 0 } };
        file.raw(sec, i * 7 + if has(4) { 5_000_000 } else { 0 }, caplen, len, &data);
    }
    file.bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_habits_of_a_writer_are_no_damage(
        habits in 0..32_u8,
        pattern in prop_oneof![Just(u64::MAX), any::<u64>()],
        sizes in proptest::collection::vec(any::<u8>(), 1..9),
        n in 1..60_u32,
    ) {
        let bytes = habitual(n, habits, pattern, &sizes);
        let all = read_every_way(&bytes);
        prop_assert_eq!((all.records.len(), all.damage.total()), (n as usize, 0), "{:?}", all.damage);
        prop_assert!(read_strict(&bytes).error.is_none());
        // A cut inside the last record costs no other, and is told.
        let cut = &bytes[..bytes.len() - 1];
        let all = read_every_way(cut);
        prop_assert_eq!((all.records.len(), all.damage.total()), (n as usize - 1, 1), "{:?}", all.damage);
    }

    #[test]
    fn damage_among_habits_costs_little(
        habits in 0..32_u8,
        pattern in prop_oneof![Just(u64::MAX), any::<u64>()],
        at in any::<proptest::sample::Index>(),
        junk in proptest::collection::vec(0x80_u8.., 1..200),
    ) {
        let n = 60;
        let mut bytes = habitual(n, habits, pattern, &[77, 3, 150]);
        // The records behind the damage are enough evidence.
        let at = 24 + at.index(bytes.len() * 2 / 3 - 24 - junk.len());
        bytes[at..at + junk.len()].copy_from_slice(&junk);
        let all = read_every_way(&bytes);
        let hit = junk.len().div_ceil(16 + 23) + 1;
        prop_assert!(all.records.len() + hit + FEW >= n as usize, "{} records, {:?}", all.records.len(), all.damage);
        let lost: u64 = DamageKind::ALL.into_iter().map(|kind| all.damage.unused(kind)).sum();
        let used: usize = all.records.iter().map(|record| 16 + record.bytes.len()).sum();
        prop_assert_eq!(24 + used as u64 + lost, bytes.len() as u64, "every byte is used or told");
    }
}

/// Odd records before damage that are lost where too few records are left to confirm them.
const FEW: usize = 3;

/// Folder of real captures. None outside of the project's own machines, except where tests must not be skipped.
fn corpus() -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus"));
    if path.is_dir() {
        return Some(path.to_owned());
    }
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{} is missing", path.display());
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    {
        eprintln!("skipped: {} is missing", path.display());
    }
    None
}

#[test]
fn real_captures() {
    let Some(corpus) = corpus() else { return };
    let lines = std::fs::read_to_string(corpus.join("expected.jsonl")).expect("the list of captures");
    let mut files = 0;
    for line in lines.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).expect("a JSON object a line");
        let name = entry["file"].as_str().expect("the name of a file");
        let mut reader = CaptureReader::open(&corpus.join(name), 0, true).expect("the file opens");
        let mut batch = RecordBatch::default();
        let mut packets = 0;
        while reader.next_batch(&mut batch).unwrap_or_else(|e| panic!("{e}")) {
            packets += batch.records.len() as u64;
        }
        assert_eq!(Some(packets), entry["packets"].as_u64(), "{name}");
        files += 1;
    }
    assert!(files >= 67, "{files} files");
}

/// Oddities of writers: each changes time, fraction, captured and original length of record `i`.
type Oddity = fn(u32, &mut [u32; 4]);

const ODDITIES: [(&str, Oddity); 7] = [
    ("a clock that starts in 2000", |i, record| record[0] = 946_684_800 + i / 4),
    ("a captured length with 16 bytes more", |_, record| record[3] = record[3].saturating_sub(16)),
    ("an original length of 0", |_, record| record[3] = 0),
    ("nanoseconds in a file of microseconds", |i, record| record[1] = 1_000_000 + i * 25_000_000),
    ("gaps of 40 days", |i, record| record[0] = record[0].wrapping_add(i / 5 * 40 * 86_400)),
    ("a clock that is set within the capture", |i, record| {
        if i < 9 {
            record[0] = i;
        }
    }),
    ("a clock that jumps to and fro", |i, record| record[0] = record[0].wrapping_sub(i % 2 * 50 * 86_400)),
];

/// A capture in which the records of `odd` indexes have some oddities.
fn of_oddities(chosen: &[Oddity], snaplen: u32, n: u32, is_odd: impl Fn(u32) -> bool) -> Vec<u8> {
    let mut file = PcapFile::with(0xa1b2_c3d4, false, (2, 4), snaplen, 1);
    for i in 0..n {
        let data = payload(i);
        let mut record = [T0 + i / 3, i * 1000, data.len() as u32, data.len() as u32];
        if is_odd(i) {
            for oddity in chosen {
                oddity(i, &mut record);
            }
        }
        let [sec, frac, caplen, len] = record;
        file.raw(sec, frac, caplen, len, &data);
    }
    file.bytes
}

#[test]
fn pairs_and_triples_of_oddities_lose_nothing() {
    let n = 48;
    for subset in 1_u32..1 << ODDITIES.len() {
        if subset.count_ones() > 3 {
            continue;
        }
        let of = ODDITIES.iter().enumerate().filter(|(i, _)| subset >> i & 1 != 0).map(|(_, oddity)| *oddity);
        let (names, chosen): (Vec<_>, Vec<Oddity>) = of.unzip();
        for snaplen in [65_535, 0, 16] {
            let patterns: [fn(u32) -> bool; 5] = [|_| true, |i| i >= 20, |i| i < 20, |i| i % 2 == 1, |i| i % 7 == 3];
            for (number, is_odd) in patterns.into_iter().enumerate() {
                let bytes = of_oddities(&chosen, snaplen, n, is_odd);
                let all = read(&bytes);
                let told = (names.join(", "), snaplen, number);
                assert_eq!((all.records.len(), all.damage.total()), (n as usize, 0), "{told:?} {:?}", all.damage);
                assert!(all.records.iter().zip(0..).all(|(record, i)| record.bytes == payload(i)), "{told:?}");
                assert!(read_strict(&bytes).error.is_none(), "{told:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes that look like record headers, in payloads and between records, zeros and noise invent no packet.
    #[test]
    fn hostile_bytes_invent_no_packets(
        oddity in 0..=ODDITIES.len(),
        kind in 0..4_u8,
        at in 1..40_u32,
        amount in 1..40_u32,
        noise in proptest::collection::vec(any::<u8>(), 1..400),
    ) {
        let chosen: Vec<Oddity> = ODDITIES.iter().skip(oddity).take(1).map(|(_, oddity)| *oddity).collect();
        let n = 60;
        let sound = of_oddities(&chosen, 65_535, n, |_| true);
        let places: Vec<u64> = read(&sound).records.iter().map(|record| record.offset).collect();
        prop_assert_eq!(places.len(), n as usize);
        let place = places[at as usize] as usize;
        let inserted = match kind {
            0 => vec![0; 100 * amount as usize],
            1 => noise,
            // A single header without a record behind.
            2 => [T0 + 9, 7, 60, 60].into_iter().flat_map(u32::to_le_bytes).collect(),
            _ => vec![0xff; amount as usize],
        };
        let bytes = [&sound[..place], &inserted, &sound[place..]].concat();
        let all = read(&bytes);
        let known: std::collections::HashSet<Vec<u8>> = (0..n).map(payload).collect();
        let invented = all.records.iter().filter(|record| !known.contains(&record.bytes)).count();
        // A header that is right in itself is a record.
        prop_assert!(invented <= usize::from(kind == 2), "{} invented: {:?}", invented, all.damage);
        prop_assert!(all.records.len() + FEW >= n as usize, "{} records", all.records.len());
        prop_assert!(all.damage.total() > 0);
    }

    /// Headers within a payload are payload.
    #[test]
    fn headers_in_payloads_are_payload(oddity in 0..=ODDITIES.len(), every in 1..9_u32, inner in 1..30_u32) {
        let chosen: Vec<Oddity> = ODDITIES.iter().skip(oddity).take(1).map(|(_, oddity)| *oddity).collect();
        let body = of_oddities(&[], 65_535, inner, |_| false).split_off(24);
        let mut file = PcapFile::plain();
        for i in 0..50 {
            let data = if i % every == 0 { body.clone() } else { payload(i) };
            let mut record = [T0 + i / 3, i * 1000, data.len() as u32, data.len() as u32];
            for oddity in &chosen {
                oddity(i, &mut record);
            }
            file.raw(record[0], record[1], record[2], record[3], &data);
        }
        let all = read(&file.bytes);
        prop_assert_eq!((all.records.len(), all.damage.total()), (50, 0), "{:?}", all.damage);
    }
}
