//! The history of a record without a cold part: at most twelve letters of four bits, each noted once.

use crate::flow::Side;
use crate::zeek::Letters;

const ALPHABET: &[u8; 12] = b"SHAFRDshafrd";
const BITS: u32 = 4;

/// Codes of the letters of side A; those of side B are six more. 0 is no letter.
pub mod code {
    /// SYN.
    pub const SYN: u64 = 1;
    /// SYN+ACK.
    pub const SYN_ACK: u64 = 2;
    /// Acknowledgement without data.
    pub const ACK: u64 = 3;
    /// FIN.
    pub const FIN: u64 = 4;
    /// RST.
    pub const RST: u64 = 5;
    /// Data.
    pub const DATA: u64 = 6;
}

/// The letters, the first lowest, with this letter of a side appended unless present.
#[inline]
pub fn with(letters: u64, code: u64, side: usize) -> u64 {
    const EACH: u64 = 0x1111_1111_1111;
    let code = code + 6 * side as u64;
    // Zero nibbles borrow, and their top bit was not set.
    let difference = letters ^ (code * EACH);
    if difference.wrapping_sub(EACH) & !difference & (EACH << 3) != 0 {
        return letters;
    }
    let len = (u64::BITS - letters.leading_zeros()).div_ceil(BITS);
    letters | code << (len * BITS)
}

fn codes(letters: u64) -> impl Iterator<Item = usize> {
    (0..12).map(move |place| (letters >> (place * BITS) & 0xf) as usize).take_while(|code| *code != 0)
}

/// The letters in Zeek's case for this originator.
pub fn written(letters: u64, orig: Side) -> impl Iterator<Item = u8> {
    let case = if orig == Side::A { 0 } else { 0x20 };
    codes(letters).filter_map(move |code| Some(ALPHABET.get(code - 1)? ^ case))
}

/// Convert to the letters of Zeek's view.
pub fn expand(letters: u64) -> Letters {
    Letters::of_once(written(letters, Side::A))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(noted: &[(u64, usize)]) -> u64 {
        noted.iter().fold(0, |letters, (code, side)| with(letters, *code, *side))
    }

    #[test]
    fn all_twelve_letters_fit() {
        let noted: Vec<_> = (1..=6).flat_map(|code| [(code, 1), (code, 0)]).collect();
        let letters = of(&noted);
        assert_eq!(written(letters, Side::A).collect::<Vec<_>>(), b"sShHaAfFrRdD");
        assert_eq!(written(letters, Side::B).collect::<Vec<_>>(), b"SsHhAaFfRrDd");
        assert!(letters < 1 << 48, "the rest of the word is another number's");
        assert!(noted.iter().all(|(code, side)| with(letters, *code, *side) == letters));
    }

    proptest! {
        #[test]
        fn each_letter_is_noted_once(noted in prop::collection::vec((1..=6_u64, 0..2_usize), 0..20)) {
            let mut once: Vec<u8> = Vec::new();
            for (code, side) in &noted {
                let letter = ALPHABET[*code as usize - 1 + 6 * side];
                if !once.contains(&letter) {
                    once.push(letter);
                }
            }
            prop_assert_eq!(written(of(&noted), Side::A).collect::<Vec<_>>(), &once[..]);
            prop_assert_eq!(expand(of(&noted)).written(Side::A).collect::<Vec<_>>(), once);
        }
    }
}
