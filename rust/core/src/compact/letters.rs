//! The letters of a history, twelve of four bits: what an ordinary connection has.

use crate::flow::Side;
use crate::zeek::Letters as Full;

/// The letters that have a code; upper case is side A's.
const ALPHABET: &[u8; 12] = b"SHAFRDshafrd";
const MOST: u32 = 12;

/// Four bits for each, the first one lowest; 0: no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Letters(pub(super) u64);

/// Codes of side A's letters.
pub(super) mod code {
    /// SYN.
    pub const S: u64 = 1;
    /// SYN+ACK.
    pub const H: u64 = 2;
    /// A pure ACK.
    pub const A: u64 = 3;
    /// FIN.
    pub const F: u64 = 4;
    /// RST.
    pub const R: u64 = 5;
    /// Payload.
    pub const D: u64 = 6;
}

/// From side A's letter to side B's.
const OTHER_SIDE: u64 = 6;

pub(super) fn pack(letters: &Full) -> Option<Letters> {
    let mut packed = Letters::default();
    for letter in letters.written(Side::A) {
        let code = ALPHABET.iter().position(|one| *one == letter)? as u64 + 1;
        packed = packed.and(code)?;
    }
    Some(packed)
}

impl Letters {
    fn len(self) -> u32 {
        MOST.min((u64::BITS - self.0.leading_zeros()).div_ceil(4))
    }

    fn and(self, code: u64) -> Option<Self> {
        let len = self.len();
        (len < MOST).then_some(Self(self.0 | code << (len * 4)))
    }

    /// With this letter of a side if it is not among them; None where there is no room.
    #[inline]
    pub(super) fn with(self, code: u64, side: Side) -> Option<Self> {
        let code = code + OTHER_SIDE * side as u64;
        if self.holds(code) { Some(self) } else { self.and(code) }
    }

    /// Whether one of them is this one.
    #[inline]
    fn holds(self, code: u64) -> bool {
        const EACH: u64 = 0x1111_1111_1111;
        let difference = self.0 ^ (code * EACH);
        // A nibble that is zero: it borrows, and its top bit was not set.
        difference.wrapping_sub(EACH) & !difference & (EACH << 3) != 0
    }

    pub(super) fn unpack(self) -> Full {
        let codes = (0..self.len()).map(|place| (self.0 >> (place * 4) & 0xf) as usize);
        Full::of_once(codes.filter_map(|code| ALPHABET.get(code.wrapping_sub(1)).copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_fit_and_are_found() {
        let all = [code::S, code::H, code::A, code::F, code::R, code::D];
        let mut letters = Letters::default();
        for side in [Side::A, Side::B] {
            for code in all {
                assert!(!letters.holds(code + OTHER_SIDE * side as u64), "{code}");
                letters = letters.with(code, side).unwrap();
                assert_eq!(letters.with(code, side), Some(letters));
            }
        }
        assert_eq!(letters.and(code::S), None);
        assert_eq!(pack(&letters.unpack()), Some(letters));
    }
}
