//! Captures compressed in every way, cut and corrupt.

use std::io::{Read, Write};

use super::super::DamageKind;
use super::super::testing::*;
use super::*;

const KINDS: [Kind; 5] = [Kind::Gzip, Kind::Zstd, Kind::Lz4, Kind::Xz, Kind::Bzip2];

fn compress(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let done = match kind {
        Kind::Gzip => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(bytes).and_then(|()| gzip.finish())
        }
        Kind::Zstd => {
            let mut zstd = ::zstd::Encoder::new(Vec::new(), 1).expect("a zstd encoder");
            zstd.include_checksum(true).and_then(|()| zstd.write_all(bytes)).and_then(|()| zstd.finish())
        }
        Kind::Lz4 => {
            let mut info = lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max64KB);
            info = info.block_checksums(true).content_checksum(true);
            info = info.block_mode(lz4_flex::frame::BlockMode::Linked);
            let mut lz4 = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
            lz4.write_all(bytes).and_then(|()| lz4.finish().map_err(std::io::Error::other))
        }
        Kind::Xz => liblzma::read::XzEncoder::new(bytes, 1).read_to_end(&mut out).map(|_| out),
        Kind::Bzip2 => {
            ::bzip2::read::BzEncoder::new(bytes, ::bzip2::Compression::fast()).read_to_end(&mut out).map(|_| out)
        }
    };
    done.expect("compression to memory")
}

#[test]
fn every_format_in_one_and_several_members() {
    let plain = sample(3000);
    let expected = read(&plain);
    for kind in KINDS {
        let members = plain.chunks(plain.len() / 3).map(|part| compress(kind, part)).collect::<Vec<_>>();
        let padded = [members.concat(), vec![0; 512]].concat();
        for bytes in [compress(kind, &plain), members.concat(), padded] {
            assert_eq!(Kind::detect(&bytes), Some(kind));
            let all = read_every_way(&bytes);
            assert_eq!(all.damage.total(), 0, "{kind}: {:?}", all.damage);
            assert!(all.records == expected.records, "{kind}");
        }
    }
}

#[test]
fn a_large_file_in_every_format() {
    let mut file = PcapFile::plain();
    for i in 0..300 {
        file.packet(T0, i, &payload(i).repeat(50));
    }
    let expected = read(&file.bytes).records;
    for kind in KINDS {
        assert!(read(&compress(kind, &file.bytes)).records == expected, "{kind}");
    }
}

#[test]
fn skippable_frames_before_zstd() {
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let bytes = [skippable.clone(), compress(Kind::Zstd, &sample(5)), skippable].concat();
    let all = read_every_way(&bytes);
    assert_eq!((all.records.len(), all.damage.total()), (5, 0));
}

/// A skippable frame.
fn skippable(size: u32) -> Vec<u8> {
    [&[0x5a, 0x2a, 0x4d, 0x18][..], &size.to_le_bytes(), &vec![7; size as usize]].concat()
}

/// A legacy frame of blocks of this size.
fn legacy(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut made = vec![0x02, 0x21, 0x4c, 0x18];
    for block in bytes.chunks(size) {
        let block = lz4_flex::block::compress(block);
        made.extend((block.len() as u32).to_le_bytes());
        made.extend(block);
    }
    made
}

#[test]
fn skippable_and_legacy_frames() {
    let plain = sample(900);
    let expected = read(&plain).records;
    let (first, second) = plain.split_at(20_000);
    let lz4 = |bytes: &[u8]| compress(Kind::Lz4, bytes);
    let zstd = |bytes: &[u8]| compress(Kind::Zstd, bytes);
    for bytes in [
        [skippable(0), lz4(first), skippable(300), skippable(0), lz4(second), skippable(9)].concat(),
        [skippable(70_000), zstd(first), skippable(3), zstd(second), skippable(0)].concat(),
        legacy(&plain, 8 << 20),
        legacy(&plain, 1000),
        [legacy(first, 3000), legacy(second, 5000), vec![0; 512]].concat(),
        [skippable(5), legacy(first, 3000), skippable(5), lz4(second)].concat(),
        [lz4(first), legacy(second, 700), skippable(0)].concat(),
    ] {
        let all = read_every_way(&bytes);
        assert_eq!((all.damage.total(), all.error.is_none()), (0, true), "{:?}", all.damage);
        assert!(all.records == expected);
    }
    let bytes = legacy(&plain, 3000);
    for end in (5..bytes.len()).step_by(997) {
        let all = read(&bytes[..end]);
        assert!(all.records == expected[..all.records.len()]);
    }
    let huge = [&[0x02, 0x21, 0x4c, 0x18][..], &[0xff; 40]].concat();
    assert!(format_error(&read(&huge)).1.contains("an lz4 block of 4294967295 bytes"));
}

#[test]
fn a_window_over_the_limit_is_said_as_such() {
    // Magic number, a descriptor without options, a window of 2 GiB, and the header of a last raw block of 4 bytes.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x21, 0, 0, 1, 2, 3, 4];
    assert_eq!(format_error(&read(&frame)).1, ZSTD_WINDOW);
    let all = read_every_way(&[compress(Kind::Zstd, &sample(5)), frame.to_vec()].concat());
    assert_eq!((all.records.len(), all.damage.count(DamageKind::Compression)), (5, 1));
}

#[test]
fn cut_streams_give_what_they_hold() {
    let plain = sample(400);
    let whole = read(&plain).records;
    for kind in KINDS {
        let bytes = compress(kind, &plain);
        for end in (1..bytes.len()).step_by(bytes.len() / 23) {
            let all = read_every_way(&bytes[..end]);
            assert!(all.records == whole[..all.records.len()], "{kind} cut at {end}");
            if all.error.is_none() {
                assert_eq!(all.damage.count(DamageKind::Compression), 1, "{kind} cut at {end}");
                assert_eq!(all.damage.total(), 1);
                let strict = read_strict(&bytes[..end]);
                assert!(strict.records == all.records);
                assert_eq!(format_error(&strict).1, "the compressed data ends too early");
            }
        }
        // Without the last byte, only a checksum or an end mark is incomplete.
        assert_eq!(read(&bytes[..bytes.len() - 1]).records.len(), 400, "{kind}");
    }
}

#[test]
fn corrupt_streams_give_what_comes_before() {
    let plain = sample(2000);
    let whole = read(&plain).records;
    for kind in KINDS {
        let mut bytes = [compress(kind, &plain), compress(kind, &plain[24..])].concat();
        let at = bytes.len() * 3 / 4;
        for byte in &mut bytes[at..at + 40] {
            *byte ^= 0xa5;
        }
        let all = read_every_way(&bytes);
        assert!(all.records.len() >= 2000, "{kind}: {}", all.records.len());
        assert!(all.records[..2000] == whole, "{kind}");
        assert_eq!(all.damage.count(DamageKind::Compression), 1, "{kind}: {:?}", all.damage);

        let garbage = [compress(kind, &plain), b"garbage".to_vec()].concat();
        let all = read_every_way(&garbage);
        assert_eq!((all.records.len(), all.damage.count(DamageKind::Compression)), (2000, 1), "{kind}");
    }
}

#[test]
fn a_corrupt_block_of_bzip2_gives_the_same_with_every_read_size() {
    // Each bit of a stream of several blocks in turn: some corrupt a block that is found out in the middle.
    let mut plain = sample(1500);
    plain.extend(&sample_ng(1500));
    let whole = read(&plain).records;
    let mut encoder = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::new(1));
    let bytes = encoder.write_all(&plain).and_then(|()| encoder.finish()).expect("compression to memory");
    let mut partial = 0;
    for bit in (0..bytes.len() * 8).step_by(bytes.len() / 19 + 1) {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let all = read_every_way(&bytes);
        partial += usize::from((1..whole.len()).contains(&all.records.len()));
    }
    assert!(partial > 0, "no bit corrupts a block in its middle");
}

#[test]
fn compressed_but_no_capture() {
    let all = read(&compress(Kind::Zstd, b"\x7fELF"));
    assert_eq!(format_error(&all).1, "an ELF program (first bytes 7f 45 4c 46) in zstd data");
    let all = read(&[&[0x1f, 0x8b, 8][..], &[0xff; 40]].concat());
    assert!(format_error(&all).1.starts_with("an empty file in damaged gzip data ("), "{all:?}");
}
