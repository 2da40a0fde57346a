//! Decompressors as push-based state machines, fed with slices.
//!
//! No decompressor reads: the single `read()` stays in the source. So an interrupting signal finds every state
//! machine consistent, and decoded output is delivered before a wait for more input.

use std::fmt;
use std::io::{Cursor, Read};

use liblzma::stream as xz;
use lz4_flex::frame::FrameDecoder;
use zstd::stream::raw::Operation;

/// Memory limit of an xz decoder in bytes. No xz preset needs more than 65 MiB, so a header that asks for gigabytes
/// is refused.
const XZ_MEMORY: u64 = 256 << 20;

/// Size in bytes of the largest block of the LZ4 frame format.
const LZ4_BLOCK: u32 = 4 << 20;

/// Size in bytes of the header of a Zstandard block (RFC 8878, 3.1.1.2).
const ZSTD_BLOCK_HEADER: usize = 3;

/// Number of bytes at the head of a file that [`Kind::detect`] needs.
pub(super) const MAGIC_LEN: usize = 6;

/// A compression format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gzip,
    Zstd,
    Lz4,
    Xz,
    Bzip2,
}

impl Kind {
    /// Detect a format by its magic number, never by the file's name.
    pub(super) fn detect(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, 0x08, ..] => Some(Self::Gzip),
            // The range is the skippable frames, which parallel compressors write first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            [0x04, 0x22, 0x4d, 0x18, ..] => Some(Self::Lz4),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Self::Bzip2),
            _ => None,
        }
    }

    /// True if another member may begin with this byte.
    fn begins_with(self, byte: u8) -> bool {
        match self {
            Self::Gzip => byte == 0x1f,
            Self::Zstd => byte == 0x28 || (0x50..=0x5f).contains(&byte),
            Self::Lz4 => byte == 0x04,
            Self::Xz => byte == 0xfd,
            Self::Bzip2 => byte == b'B',
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        })
    }
}

/// Result of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    /// Input bytes consumed.
    pub(super) read: usize,
    /// Output bytes written.
    pub(super) written: usize,
}

/// Decoder of concatenated members of one format. As in the command-line tools, zero padding between or after members
/// is ignored.
pub(super) struct Codec {
    kind: Kind,
    machine: Machine,
    /// True between two members, where the file may end.
    between: bool,
}

enum Machine {
    Gzip(flate2::Decompress),
    Zstd(Box<Zstd>),
    Lz4(Box<Lz4>),
    Xz(xz::Stream),
    Bzip2(bzip2::Decompress),
}

impl Codec {
    pub(super) fn new(kind: Kind) -> Result<Self, String> {
        Ok(Self { kind, machine: Machine::new(kind)?, between: false })
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// True if the input may end here.
    pub(super) fn may_end(&self) -> bool {
        self.between
    }

    /// Decode a part of `input` into `out`. A step that consumes and writes nothing needs more input. Output before
    /// an error is valid, so the output before an error does not depend on the slicing of the input.
    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> (Step, Result<(), String>) {
        let mut padding = 0;
        if self.between {
            padding = input.iter().take_while(|&&b| b == 0).count();
            match input.get(padding) {
                Some(&byte) if self.kind.begins_with(byte) => match self.machine.restart(self.kind) {
                    Ok(()) => self.between = false,
                    Err(e) => return (Step { read: padding, written: 0 }, Err(e)),
                },
                Some(byte) => {
                    let e = format!("byte {byte:02x} after the end of the compressed data");
                    return (Step { read: padding, written: 0 }, Err(e));
                }
                None => return (Step { read: padding, written: 0 }, Ok(())),
            }
        }
        let (mut step, ended) = self.machine.run(&input[padding..], out);
        step.read += padding;
        (step, ended.map(|ended| self.between = ended))
    }
}

impl Machine {
    fn new(kind: Kind) -> Result<Self, String> {
        Ok(match kind {
            Kind::Gzip => Self::Gzip(flate2::Decompress::new_gzip(15)),
            Kind::Zstd => Self::Zstd(Box::new(Zstd::new()?)),
            Kind::Lz4 => Self::Lz4(Box::default()),
            Kind::Xz => Self::Xz(xz::Stream::new_stream_decoder(XZ_MEMORY, 0).map_err(|e| e.to_string())?),
            Kind::Bzip2 => Self::Bzip2(bzip2::Decompress::new(false)),
        })
    }

    /// Reset for the next member.
    fn restart(&mut self, kind: Kind) -> Result<(), String> {
        // A zstd context continues across frames and is kept: parallel compressors write many frames.
        if kind != Kind::Zstd {
            *self = Self::new(kind)?;
        }
        Ok(())
    }

    /// Run one step within a member; returns true at the member's end.
    fn run(&mut self, input: &[u8], out: &mut [u8]) -> (Step, Result<bool, String>) {
        match self {
            Self::Gzip(gzip) => {
                let (read, written) = (gzip.total_in(), gzip.total_out());
                let status = gzip.decompress(input, out, flate2::FlushDecompress::None);
                let ended = status.map(|s| s == flate2::Status::StreamEnd).map_err(|e| e.to_string());
                (step(gzip.total_in() - read, gzip.total_out() - written), ended)
            }
            Self::Zstd(zstd) => zstd.run(input, out),
            Self::Lz4(lz4) => lz4.run(input, out),
            Self::Xz(stream) => {
                let (read, written) = (stream.total_in(), stream.total_out());
                let status = stream.process(input, out, xz::Action::Run);
                let ended = status.map(|s| s == xz::Status::StreamEnd).map_err(|e| e.to_string());
                (step(stream.total_in() - read, stream.total_out() - written), ended)
            }
            Self::Bzip2(bzip2) => {
                let (read, written) = (bzip2.total_in(), bzip2.total_out());
                let status = bzip2.decompress(input, out);
                let ended = status.map(|s| s == bzip2::Status::StreamEnd).map_err(|e| e.to_string());
                (step(bzip2.total_in() - read, bzip2.total_out() - written), ended)
            }
        }
    }
}

fn step(read: u64, written: u64) -> Step {
    Step { read: read as usize, written: written as usize }
}

/// Zstandard decoder. A call that ends in an error reports no output of that call. So each call gets at most the one
/// requested block, and no input while earlier output waits: an error never comes with output.
struct Zstd {
    decoder: zstd::stream::raw::Decoder<'static>,
    /// Number of input bytes that the decoder requested: a block, and the header of the next block.
    wanted: usize,
    /// True if the last call filled its output, so that more output may wait.
    flushing: bool,
}

impl Zstd {
    fn new() -> Result<Self, String> {
        let decoder = zstd::stream::raw::Decoder::new().map_err(|e| e.to_string())?;
        Ok(Self { decoder, wanted: 1, flushing: false })
    }

    fn run(&mut self, input: &[u8], out: &mut [u8]) -> (Step, Result<bool, String>) {
        loop {
            let alone =
                if self.wanted > ZSTD_BLOCK_HEADER { self.wanted - ZSTD_BLOCK_HEADER } else { self.wanted.max(1) };
            let given = if self.flushing { 0 } else { alone.min(input.len()) };
            let flushed = std::mem::take(&mut self.flushing);
            let status = match self.decoder.run_on_buffers(&input[..given], out) {
                Ok(status) => status,
                Err(e) => return (Step::default(), Err(e.to_string())),
            };
            let done = Step { read: status.bytes_read, written: status.bytes_written };
            self.wanted = status.remaining;
            self.flushing = done.written == out.len();
            if done == Step::default() && flushed {
                continue;
            }
            // No input requested: the end of a frame.
            return (done, Ok(done != Step::default() && status.remaining == 0));
        }
    }
}

/// LZ4 frame decoder. The library's decoder needs a reader and cannot resume inside a block. So whole blocks are
/// collected here, and the decoder reads from memory only.
struct Lz4 {
    decoder: FrameDecoder<Cursor<Vec<u8>>>,
    expects: Lz4Part,
    /// Length of the collected input at which the current part is complete.
    needed: usize,
    block_checksum: bool,
    content_checksum: bool,
    /// True while the decoder has a block to decode or to deliver.
    fed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lz4Part {
    /// The magic number and two bytes of flags.
    Flags,
    /// The rest of the frame's header.
    Header,
    /// A block's length.
    Length,
    /// A block, or the field behind the end mark.
    Block { last: bool },
}

impl Default for Lz4 {
    fn default() -> Self {
        Self {
            decoder: FrameDecoder::new(Cursor::new(Vec::new())),
            expects: Lz4Part::Flags,
            needed: 6,
            block_checksum: false,
            content_checksum: false,
            fed: false,
        }
    }
}

impl Lz4 {
    fn run(&mut self, input: &[u8], out: &mut [u8]) -> (Step, Result<bool, String>) {
        let mut read = 0;
        while !self.fed {
            let collected = self.decoder.get_mut().get_mut();
            let missing = self.needed.saturating_sub(collected.len());
            let more = &input[read..];
            collected.extend_from_slice(&more[..missing.min(more.len())]);
            read += missing.min(more.len());
            if missing > more.len() {
                return (Step { read, written: 0 }, Ok(false));
            }
            if let Err(e) = self.advance() {
                return (Step { read, written: 0 }, Err(e));
            }
        }
        let written = match self.decoder.read(out) {
            Ok(written) => written,
            Err(e) => return (Step { read, written: 0 }, Err(e.to_string())),
        };
        let mut ended = false;
        if written == 0 && !out.is_empty() {
            ended = self.expects == Lz4Part::Block { last: true };
            let collected = self.decoder.get_mut();
            collected.set_position(0);
            collected.get_mut().clear();
            self.fed = false;
            self.expects = Lz4Part::Length;
            self.needed = 4;
            if !ended && read == 0 {
                // This call made no progress, but input is left.
                return self.run(input, out);
            }
        }
        (Step { read, written }, Ok(ended))
    }

    /// Compute the end of the next part, once the current part is complete.
    fn advance(&mut self) -> Result<(), String> {
        let collected = self.decoder.get_ref().get_ref();
        match self.expects {
            Lz4Part::Flags => {
                let flags = collected.get(4).copied().unwrap_or_default();
                self.block_checksum = flags & 0x10 != 0;
                self.content_checksum = flags & 0x04 != 0;
                self.needed += 1 + if flags & 0x08 == 0 { 0 } else { 8 } + if flags & 0x01 == 0 { 0 } else { 4 };
                self.expects = Lz4Part::Header;
            }
            Lz4Part::Header => {
                self.needed += 4;
                self.expects = Lz4Part::Length;
            }
            Lz4Part::Length => {
                let length = collected.last_chunk::<4>().map_or(0, |b| u32::from_le_bytes(*b)) & 0x7fff_ffff;
                if length > LZ4_BLOCK {
                    return Err(format!("an lz4 block of {length} bytes"));
                }
                let last = length == 0;
                let checksum = if last { self.content_checksum } else { self.block_checksum };
                self.needed += length as usize + if checksum { 4 } else { 0 };
                self.expects = Lz4Part::Block { last };
            }
            Lz4Part::Block { .. } => self.fed = true,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

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
                let mut zstd = zstd::Encoder::new(Vec::new(), 1).expect("a zstd encoder");
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
                bzip2::read::BzEncoder::new(bytes, bzip2::Compression::fast()).read_to_end(&mut out).map(|_| out)
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
    fn compressed_but_no_capture() {
        let all = read(&compress(Kind::Zstd, b"\x7fELF"));
        assert_eq!(format_error(&all).1, "first bytes 7f 45 4c 46 in zstd data");
        let all = read(&[&[0x1f, 0x8b, 8][..], &[0xff; 40]].concat());
        assert!(format_error(&all).1.starts_with("an empty file in damaged gzip data ("), "{all:?}");
    }
}
