//! Checked views of captured bytes.
//!
//! A header of known size is taken once as an array; its fields are then read at constant offsets that the compiler
//! has checked against the array's size. What has no fixed size goes through [`Span`].

use super::Skip;

/// Captured bytes, and how many of them there were before the capture cut them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span<'a> {
    bytes: &'a [u8],
    /// The length on the wire, or as the enclosing header says; never below `bytes.len()`.
    wire: usize,
    /// Where it begins in the record.
    at: usize,
}

impl<'a> Span<'a> {
    /// A record's bytes; `wire` is the length it had on the wire.
    #[inline]
    pub fn new(bytes: &'a [u8], wire: usize) -> Self {
        Self { bytes, wire: wire.max(bytes.len()), at: 0 }
    }

    /// What was captured.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// How long it was before the capture cut it.
    #[inline]
    pub fn wire(self) -> usize {
        self.wire
    }

    /// Where it begins in the record.
    #[inline]
    pub fn place(self) -> usize {
        self.at
    }

    /// Whether nothing of it was cut.
    #[inline]
    pub fn is_complete(self) -> bool {
        self.bytes.len() == self.wire
    }

    /// The first `N` bytes.
    #[inline]
    pub fn head<const N: usize>(self) -> Result<&'a [u8; N], Skip> {
        self.bytes.first_chunk().ok_or(Skip::Truncated)
    }

    /// `N` bytes from `at` on.
    #[inline]
    pub fn at<const N: usize>(self, at: usize) -> Result<&'a [u8; N], Skip> {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(Skip::Truncated)
    }

    /// What follows the first `n` bytes.
    #[inline]
    pub fn skip(self, n: usize) -> Result<Self, Skip> {
        match self.bytes.get(n..) {
            // `wire` is at least the captured length, which is at least `n` here.
            Some(bytes) => Ok(Self { bytes, wire: self.wire - n, at: self.at + n }),
            None => Err(Skip::Truncated),
        }
    }

    /// The first `n` bytes, on the word of a length field: fewer may have been captured, or ever been there.
    #[inline]
    pub fn limit(self, n: usize) -> Self {
        Self { bytes: self.bytes.get(..n).unwrap_or(self.bytes), wire: n, at: self.at }
    }
}

/// Fields of a fixed header, at offsets checked at compile time.
pub(super) trait Fields {
    /// The byte at `AT`.
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

/// Where the payload behind a header of this size is in the record, and how much of it was captured.
#[inline]
pub(super) fn payload_place(segment: Span<'_>, header: usize) -> (u32, u32) {
    let captured = segment.bytes().len().saturating_sub(header);
    if captured == 0 { (0, 0) } else { ((segment.place() + header) as u32, captured as u32) }
}
