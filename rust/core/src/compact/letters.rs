//! The letters of a history, four bits each: twelve are what an ordinary connection has, and one with gaps has eight more.

use crate::flow::Side;
use crate::zeek::Letters as Full;

/// The letters that have a code; upper case is side A's.
const ALPHABET: &[u8; 14] = b"SHAFRDGshafrdg";
/// How many fit into the word of a connection, and into its extra line.
const MOST: u32 = 12;
const MOST_MORE: u32 = 8;

/// Four bits for each, the first one lowest; 0: no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Letters(pub(super) u64);

/// Those behind the twelfth, as an extra line has room for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MoreLetters(u32);

impl MoreLetters {
    pub(super) fn bits(self) -> u32 {
        self.0
    }

    pub(super) fn of_bits(bits: u32) -> Self {
        Self(bits)
    }
}

/// All of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Long(pub(super) Letters, pub(super) MoreLetters);

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
    /// A gap.
    pub const G: u64 = 7;
}

/// From side A's letter to side B's.
const OTHER_SIDE: u64 = 7;

fn of_side(code: u64, side: Side) -> u64 {
    code + OTHER_SIDE * side as u64
}

impl Letters {
    fn len(self) -> u32 {
        (u64::BITS - self.0.leading_zeros()).div_ceil(4)
    }

    #[inline(never)]
    fn and(self, code: u64, most: u32) -> Option<Self> {
        let len = self.len();
        (len < most).then(|| Self(self.0 | code << (len * 4)))
    }

    /// With this letter of a side if it is not among them; None where there is no room.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "that a letter is there takes less than a call")]
    pub(super) fn with(self, code: u64, side: Side) -> Option<Self> {
        let code = of_side(code, side);
        if self.holds(code) { Some(self) } else { self.and(code, MOST) }
    }

    /// Whether one of them is this one.
    #[inline]
    fn holds(self, code: u64) -> bool {
        const EACH: u64 = 0x1111_1111_1111_1111;
        let difference = self.0 ^ (code * EACH);
        // A nibble that is zero: it borrows, and its top bit was not set.
        difference.wrapping_sub(EACH) & !difference & (EACH << 3) != 0
    }

    /// As they are written for this originator.
    #[inline]
    pub(super) fn written(self, orig: Side) -> impl Iterator<Item = u8> {
        let case = match orig {
            Side::A => 0,
            Side::B => 0x20,
        };
        self.codes().filter_map(move |code| Some(ALPHABET.get(code.wrapping_sub(1))? ^ case))
    }

    fn codes(self) -> impl Iterator<Item = usize> {
        (0..self.len()).map(move |place| (self.0 >> (place * 4) & 0xf) as usize)
    }
}

impl From<MoreLetters> for Letters {
    fn from(more: MoreLetters) -> Self {
        Self(u64::from(more.0))
    }
}

impl Long {
    pub(super) fn pack(letters: &Full) -> Option<Self> {
        let mut packed = Self::default();
        for letter in letters.written(Side::A) {
            packed.push(ALPHABET.iter().position(|one| *one == letter)? as u64 + 1)?;
        }
        Some(packed)
    }

    fn push(&mut self, code: u64) -> Option<()> {
        if let Some(first) = self.0.and(code, MOST) {
            self.0 = first;
        } else {
            self.1 = MoreLetters(Letters::from(self.1).and(code, MOST_MORE)?.0 as u32);
        }
        Some(())
    }

    /// Notes a letter of a side if it is not among them; None where there is no room.
    pub(super) fn once(&mut self, code: u64, side: Side) -> Option<()> {
        let one = of_side(code, side);
        if self.0.holds(one) || Letters::from(self.1).holds(one) { Some(()) } else { self.push(one) }
    }

    /// Notes a letter that may come again.
    pub(super) fn again(&mut self, code: u64, side: Side) -> Option<()> {
        self.push(of_side(code, side))
    }

    /// The letters, where each side's data had so many gaps.
    pub(super) fn unpack(self, gaps: [u32; 2]) -> Full {
        let codes = self.0.codes().chain(Letters::from(self.1).codes());
        Full::of_once(codes.filter_map(|code| ALPHABET.get(code.wrapping_sub(1)).copied()), gaps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [u64; 6] = [code::S, code::H, code::A, code::F, code::R, code::D];

    #[test]
    fn twelve_fit_and_are_found() {
        let mut letters = Letters::default();
        for side in Side::BOTH {
            for code in ALL {
                assert!(!letters.holds(of_side(code, side)), "{code}");
                letters = letters.with(code, side).unwrap();
                assert_eq!(letters.with(code, side), Some(letters));
            }
        }
        assert_eq!(letters.and(code::S, MOST), None);
        assert_eq!(
            Long::pack(&Long(letters, MoreLetters::default()).unpack([0; 2])),
            Some(Long(letters, MoreLetters::default()))
        );
    }

    #[test]
    fn gaps_go_on_behind_the_twelfth() {
        let mut letters = Long::default();
        for _ in 0..10 {
            letters.again(code::G, Side::B).unwrap();
        }
        for code in ALL {
            letters.once(code, Side::A).unwrap();
            let before = letters;
            letters.once(code, Side::A).unwrap();
            assert_eq!(letters, before);
        }
        for _ in 0..4 {
            letters.again(code::G, Side::A).unwrap();
        }
        assert_eq!(letters.again(code::G, Side::A), None, "twenty are all that fit");
        assert_eq!(Long::pack(&letters.unpack([4, 10])), Some(letters));
    }
}
