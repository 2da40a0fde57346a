//! Properties of arbitrary bytes: no panic, termination, and a result independent of the reads.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::testing::*;
use super::{CaptureReader, RecordBatch};

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
