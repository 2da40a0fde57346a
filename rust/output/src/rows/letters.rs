//! A history in one 64-bit word: up to twelve letters of five bits.

use conntrack_track::flow::Side;

/// The letters of a history, and their count.
pub type HistoryLetters = ([u8; 31], u8);

/// The letters in the order of their codes, which begin with 1.
const ALPHABET: [u8; 25] = *b"SsHhAaDdFfRrTtCcGgWwIiQq^";
const BITS: u32 = 5;
const MOST: u32 = 12;

/// Codes by letter; 0: no such letter.
const NUMBERS: [u8; 256] = {
    let mut numbers = [0; 256];
    let mut place = 0;
    while place < ALPHABET.len() {
        numbers[ALPHABET[place] as usize] = place as u8 + 1;
        place += 1;
    }
    numbers
};

/// Packs letters into a word; None where they do not fit.
#[inline]
pub fn pack(letters: impl Iterator<Item = u8>) -> Option<u64> {
    let (mut word, mut shift) = (0, 0);
    for letter in letters {
        let number = NUMBERS[usize::from(letter)];
        if number == 0 || shift == BITS * MOST {
            return None;
        }
        word |= u64::from(number) << shift;
        shift += BITS;
    }
    Some(word)
}

/// Repacks the letters of a hot record, four bits each (`conn::letters`), for an originator, after `^` if flipped; None where
/// they do not fit.
#[inline]
pub fn of_codes(mut codes: u64, orig: Side, flipped: bool) -> Option<u64> {
    // S, H, A, F, R, D of side A, then of side B; numbers of ALPHABET for side A as the originator.
    const NUMBERS: [u8; 16] = [0, 1, 3, 5, 9, 11, 7, 2, 4, 6, 10, 12, 8, 0, 0, 0];
    let (mut word, mut shift) = if flipped { (NUMBERS_OF_MARK, BITS) } else { (0, 0) };
    while codes != 0 {
        let number = NUMBERS[codes as usize & 15];
        if shift == BITS * MOST || number == 0 {
            return None;
        }
        // Capital and small letters are neighbours.
        let number = if orig == Side::A { number } else { ((number - 1) ^ 1) + 1 };
        word |= u64::from(number) << shift;
        (codes, shift) = (codes >> 4, shift + BITS);
    }
    Some(word)
}

/// Code of `^`.
const NUMBERS_OF_MARK: u64 = ALPHABET.len() as u64;

/// The letters of a word.
pub fn unpack(mut word: u64) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let letter = ALPHABET.get((word & ((1 << BITS) - 1)).checked_sub(1)? as usize).copied();
        word >>= BITS;
        letter
    })
}

/// Letters as an array with their count.
pub fn collected(letters: impl Iterator<Item = u8>) -> HistoryLetters {
    let mut list = ([0; 31], 0);
    for (place, letter) in list.0.iter_mut().zip(letters) {
        *place = letter;
        list.1 += 1;
    }
    list
}

/// A history with the roles exchanged: the case of each letter changes; `flipped`: the result begins with `^`.
pub fn flip((letters, len): HistoryLetters, flipped: bool) -> HistoryLetters {
    let letters = letters.into_iter().take(usize::from(len)).skip_while(|letter| *letter == b'^');
    let letters = letters.map(|letter| letter ^ (u8::from(letter.is_ascii_alphabetic()) << 5));
    collected(flipped.then_some(b'^').into_iter().chain(letters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_twelve_letters() {
        for text in ["", "S", "^ShADadTtFfRr"[..12].into(), "CcGgWwIiQqHh"] {
            let word = pack(text.bytes()).unwrap();
            assert_eq!(unpack(word).map(char::from).collect::<String>(), text);
        }
        assert_eq!(pack(b"ShADadFfRrTtG".iter().copied()), None, "too many");
        assert_eq!(pack(b"X".iter().copied()), None, "no letter");
    }

    #[test]
    fn a_flip_turns_the_case_and_the_mark() {
        let list = collected(b"^hADd".iter().copied());
        assert_eq!(flip(list, false), collected(b"HadD".iter().copied()));
        assert_eq!(flip(flip(list, false), true), list);
    }
}
