//! The decoder of LZ4 frames, and of the skippable and legacy frames among them.

use std::io::{Cursor, Read};

use lz4_flex::frame::FrameDecoder;

use super::kind::{Kind, Step};

/// Size in bytes of the largest block of the LZ4 frame format.
const LZ4_BLOCK: u32 = 4 << 20;

/// Size in bytes of the magic number of LZ4, which tells the kind of a frame.
const MAGIC: usize = 4;

/// Size in bytes of the largest block of a legacy LZ4 frame, uncompressed.
const LZ4_LEGACY_BLOCK: usize = 8 << 20;

/// LZ4 frame decoder. The library's decoder needs a reader and cannot resume inside a block. So whole blocks are
/// collected here, and the decoder reads from memory only.
pub(super) struct Lz4 {
    decoder: FrameDecoder<Cursor<Vec<u8>>>,
    expects: Lz4Part,
    /// Length of the collected input at which the current part is complete.
    needed: usize,
    block_checksum: bool,
    content_checksum: bool,
    /// True while the decoder has a block to decode or to deliver.
    fed: bool,
    legacy: Option<Legacy>,
    /// Bytes of a skippable frame that are left; the frame ends at 0.
    skip: Option<u64>,
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
            needed: MAGIC,
            block_checksum: false,
            content_checksum: false,
            fed: false,
            legacy: None,
            skip: None,
        }
    }
}

impl Lz4 {
    /// True between two blocks of a legacy frame, which has no end mark.
    pub(super) fn may_end(&self) -> bool {
        self.legacy.as_ref().is_some_and(Legacy::may_end)
    }

    pub(super) fn run(&mut self, input: &[u8], out: &mut [u8]) -> (Step, Result<bool, String>) {
        if let Some(left) = &mut self.skip {
            let read = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
            *left -= read as u64;
            let ended = *left == 0;
            return (Step { read, written: 0 }, Ok(ended));
        }
        if let Some(legacy) = &mut self.legacy {
            let (step, ended) = legacy.run(input, out);
            let Some(magic) = legacy.next_frame() else { return (step, ended.map(|()| false)) };
            *self = Self::default();
            self.decoder.get_mut().get_mut().extend_from_slice(&magic);
            return (step, Ok(false));
        }
        let mut read = 0;
        while !self.fed {
            let collected = self.decoder.get_mut().get_mut();
            let more = &input[read..];
            let missing = self.needed.saturating_sub(collected.len());
            collected.extend_from_slice(&more[..missing.min(more.len())]);
            read += missing.min(more.len());
            if missing > more.len() {
                return (Step { read, written: 0 }, Ok(false));
            }
            if self.needed == MAGIC && self.expects == Lz4Part::Flags {
                match self.decoder.get_ref().get_ref()[..] {
                    [0x02, 0x21, 0x4c, 0x18] => {
                        self.legacy = Some(Legacy::default());
                        return (Step { read, written: 0 }, Ok(false));
                    }
                    [0x50..=0x5f, 0x2a, 0x4d, 0x18] => self.needed = 8,
                    _ => self.needed = MAGIC + 2,
                }
                continue;
            }
            if self.expects == Lz4Part::Flags
                && let Some(size) = Kind::skippable(self.decoder.get_ref().get_ref())
            {
                self.skip = Some(size - 8);
                return (Step { read, written: 0 }, Ok(size == 8));
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

/// Decoder of a legacy frame (`lz4 -l`): blocks with their lengths, up to the end of the file or another frame.
#[derive(Default)]
pub(super) struct Legacy {
    collected: Vec<u8>,
    /// Length of the current block; None while the length is read.
    block: Option<usize>,
    /// Room for a block, of which `out[at..filled]` is pending.
    out: Vec<u8>,
    at: usize,
    filled: usize,
    /// Magic number of another frame.
    next: Option<[u8; 4]>,
}

impl Legacy {
    pub(super) fn may_end(&self) -> bool {
        self.block.is_none() && self.collected.is_empty() && self.at == self.filled
    }

    pub(super) fn next_frame(&self) -> Option<[u8; 4]> {
        self.next
    }

    pub(super) fn run(&mut self, input: &[u8], out: &mut [u8]) -> (Step, Result<(), String>) {
        let mut read = 0;
        while self.at == self.filled {
            let needed = self.block.unwrap_or(4);
            let more = &input[read..];
            let taken = needed.saturating_sub(self.collected.len()).min(more.len());
            self.collected.extend_from_slice(&more[..taken]);
            read += taken;
            if self.collected.len() < needed {
                return (Step { read, written: 0 }, Ok(()));
            }
            if let Err(e) = self.advance() {
                return (Step { read, written: 0 }, Err(e));
            }
            if self.next.is_some() {
                return (Step { read, written: 0 }, Ok(()));
            }
        }
        let written = out.len().min(self.filled - self.at);
        out[..written].copy_from_slice(&self.out[self.at..self.at + written]);
        self.at += written;
        (Step { read, written }, Ok(()))
    }

    /// Use the collected length or block.
    fn advance(&mut self) -> Result<(), String> {
        if self.block.take().is_some() {
            self.out.resize(LZ4_LEGACY_BLOCK, 0);
            let size = lz4_flex::block::decompress_into(&self.collected, &mut self.out).map_err(|e| e.to_string())?;
            (self.at, self.filled) = (0, size);
        } else if let Some(&magic) = self.collected.first_chunk::<4>() {
            let length = u32::from_le_bytes(magic) as usize;
            match magic {
                [0x04, 0x22, 0x4d, 0x18] | [0x02, 0x21, 0x4c, 0x18] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                    self.next = Some(magic);
                }
                // Padding behind the last block.
                [0, 0, 0, 0] => {}
                _ if length > LZ4_LEGACY_BLOCK + LZ4_LEGACY_BLOCK / 255 + 16 => {
                    return Err(format!("an lz4 block of {length} bytes"));
                }
                _ => self.block = Some(length),
            }
        }
        self.collected.clear();
        Ok(())
    }
}
