//! Compression formats by their magic numbers, and the result of a decoder's step.

use std::fmt;

/// Number of bytes at the head of a file that [`Kind::detect`] and [`Kind::skippable`] need.
pub(in super::super) const MAGIC_LEN: usize = 8;

/// A compression format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Kind {
    Gzip,
    Zstd,
    Lz4,
    Xz,
    Bzip2,
}

impl Kind {
    /// Detect a format by its magic number, never by the file's name.
    pub(in super::super) fn detect(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, 0x08, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            [0x04, 0x22, 0x4d, 0x18, ..] | [0x02, 0x21, 0x4c, 0x18, ..] => Some(Self::Lz4),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some(Self::Bzip2),
            _ => None,
        }
    }

    /// Size in bytes of the skippable frame of zstd or lz4 that begins here, which parallel compressors write first; 8 bytes
    /// must be present.
    pub(in super::super) fn skippable(head: &[u8]) -> Option<u64> {
        match head {
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, ..] => {
                Some(8 + u64::from(u32::from_le_bytes([*a, *b, *c, *d])))
            }
            _ => None,
        }
    }

    /// True if another member may begin with this byte.
    pub(super) fn begins_with(self, byte: u8) -> bool {
        match self {
            Self::Gzip => byte == 0x1f,
            Self::Zstd => byte == 0x28 || (0x50..=0x5f).contains(&byte),
            Self::Lz4 => byte == 0x04 || byte == 0x02 || (0x50..=0x5f).contains(&byte),
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
pub(in super::super) struct Step {
    /// Input bytes consumed.
    pub(in super::super) read: usize,
    /// Output bytes written.
    pub(in super::super) written: usize,
}
