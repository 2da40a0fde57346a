//! Checked views of captured bytes.
//!
//! A header of fixed size is read once as an array. Field offsets are constants that the compiler checks against the
//! array's size. Variable parts are read through [`Span`].

use super::Skip;

/// Captured bytes with their length before the capture truncated them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span<'a> {
    bytes: &'a [u8],
    /// Length on the wire or by the enclosing header; never below `bytes.len()`.
    wire: usize,
    /// Offset of the first byte in the record.
    at: usize,
}

impl<'a> Span<'a> {
    /// Span of a record; `wire` is the length on the wire in bytes.
    #[inline]
    pub fn new(bytes: &'a [u8], wire: usize) -> Self {
        Self { bytes, wire: wire.max(bytes.len()), at: 0 }
    }

    /// Captured bytes.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Length in bytes before truncation.
    #[inline]
    pub fn wire(self) -> usize {
        self.wire
    }

    /// Offset of the first byte in the record.
    #[inline]
    pub fn offset(self) -> usize {
        self.at
    }

    /// True if no byte was truncated.
    #[inline]
    pub fn is_complete(self) -> bool {
        self.bytes.len() == self.wire
    }

    /// Read the first `N` bytes.
    #[inline]
    pub fn head<const N: usize>(self) -> Result<&'a [u8; N], Skip> {
        self.bytes.first_chunk().ok_or(Skip::Truncated)
    }

    /// Read `N` bytes at offset `at`.
    #[inline]
    pub fn at<const N: usize>(self, at: usize) -> Result<&'a [u8; N], Skip> {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(Skip::Truncated)
    }

    /// Skip the first `n` bytes.
    #[inline]
    pub fn skip(self, n: usize) -> Result<Self, Skip> {
        match self.bytes.get(n..) {
            // `wire` is at least the captured length, which is at least `n` here.
            Some(bytes) => Ok(Self { bytes, wire: self.wire - n, at: self.at + n }),
            None => Err(Skip::Truncated),
        }
    }

    /// Limit to the first `n` bytes by a length field; fewer bytes may have been captured or sent.
    #[inline]
    pub fn limit(self, n: usize) -> Self {
        Self { bytes: self.bytes.get(..n).unwrap_or(self.bytes), wire: n, at: self.at }
    }
}

/// Fields of a fixed header, at offsets that are checked at compile time.
pub(super) trait Fields {
    /// Byte at `AT`.
    fn byte<const AT: usize>(&self) -> u8;
    /// Sixteen bits at `AT`, network order.
    fn be16<const AT: usize>(&self) -> u16;
    /// Thirty-two bits at `AT`, network order.
    fn be32<const AT: usize>(&self) -> u32;
    /// `L` bytes at `AT`.
    fn array<const AT: usize, const L: usize>(&self) -> [u8; L];
}

impl<const N: usize> Fields for [u8; N] {
    #[inline]
    fn byte<const AT: usize>(&self) -> u8 {
        const { assert!(AT < N) };
        self[AT]
    }

    #[inline]
    fn be16<const AT: usize>(&self) -> u16 {
        u16::from_be_bytes(self.array::<AT, 2>())
    }

    #[inline]
    fn be32<const AT: usize>(&self) -> u32 {
        u32::from_be_bytes(self.array::<AT, 4>())
    }

    #[inline]
    fn array<const AT: usize, const L: usize>(&self) -> [u8; L] {
        const { assert!(AT + L <= N) };
        let mut bytes = [0; L];
        bytes.copy_from_slice(&self[AT..AT + L]);
        bytes
    }
}

/// Offset in the record of the payload behind a header of this size, and the number of captured payload bytes.
#[inline]
pub(super) fn payload_place(segment: Span<'_>, header: usize) -> (u32, u32) {
    let captured = segment.bytes().len().saturating_sub(header);
    if captured == 0 { (0, 0) } else { ((segment.offset() + header) as u32, captured as u32) }
}
