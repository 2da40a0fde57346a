//! The letters of `history`.
//!
//! Source: Zeek's conn.log documentation. Upper case is the originator's.
//!
//! | letter | event | letter | event |
//! |---|---|---|---|
//! | s | SYN | c | bad checksum |
//! | h | SYN+ACK | g | gap |
//! | a | pure ACK | t | retransmission |
//! | d | payload | w | zero window |
//! | f | FIN | i | FIN+RST |
//! | r | RST | q | SYN with FIN or RST |
//! | ^ | flipped | | |

use serde::{Deserialize, Serialize};

use crate::flow::Side;

/// The most stored letters; only an attacker makes more, and a longer history keeps its first letters.
const LETTERS: usize = 30;

/// Events that are noted once for each end.
#[derive(Clone, Copy)]
pub(super) enum Once {
    Syn = 0,
    Fin = 1,
    Rst = 2,
    FinRst = 3,
    Data = 4,
    Ack = 5,
    Several = 6,
}

impl Once {
    /// The letter in the originator's case.
    fn letter(self) -> u8 {
        match self {
            Self::Syn => b'S',
            Self::Fin => b'F',
            Self::Rst => b'R',
            Self::FinRst => b'I',
            Self::Data => b'D',
            Self::Ack => b'A',
            Self::Several => b'Q',
        }
    }
}

/// Events that are noted the 1st, 10th, 100th... time.
#[derive(Clone, Copy)]
pub(super) enum Scaled {
    Checksum = 0,
    Retransmission = 1,
    ZeroWindow = 2,
    Gap = 3,
}

impl Scaled {
    fn letter(self) -> u8 {
        match self {
            Self::Checksum => b'C',
            Self::Retransmission => b'T',
            Self::ZeroWindow => b'W',
            Self::Gap => b'G',
        }
    }
}

/// The number of each [`Scaled`] event, by side.
type Counts = [[u32; 4]; 2];

/// Letters in the order of appearance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Letters {
    /// Upper case: sent by side A, independent of the originator.
    written: [u8; LETTERS],
    len: u8,
    /// The [`Once`] events so far, a bit each, by side.
    seen: [u8; 2],
    counts: Counts,
}

impl Letters {
    /// Test for a length within the array; for state from outside.
    pub(super) fn is_sound(&self) -> bool {
        usize::from(self.len) <= LETTERS
    }
}

fn cased(letter: u8, side: Side) -> u8 {
    match side {
        Side::A => letter,
        Side::B => letter.to_ascii_lowercase(),
    }
}

/// Test for a count that is noted: powers of ten.
#[inline]
fn is_noted(count: u32) -> bool {
    matches!(count, 1 | 10 | 100 | 1_000 | 10_000 | 100_000 | 1_000_000 | 10_000_000 | 100_000_000 | 1_000_000_000)
}

impl Letters {
    /// Letters noted once each; upper case: side A's.
    pub fn of_once(written: impl Iterator<Item = u8>) -> Self {
        let mut letters = Self::default();
        written.for_each(|letter| {
            let side = if letter.is_ascii_uppercase() { Side::A } else { Side::B };
            let what = match letter.to_ascii_uppercase() {
                b'S' | b'H' => Once::Syn,
                b'F' => Once::Fin,
                b'R' => Once::Rst,
                b'D' => Once::Data,
                _ => Once::Ack,
            };
            letters.seen[side as usize] |= 1 << what as u8;
            letters.push(letter);
        });
        letters
    }

    /// The notes of a side: acknowledgement noted, data noted.
    pub fn noted(&self, side: Side) -> [bool; 2] {
        [Once::Ack, Once::Data].map(|what| self.seen[side as usize] & 1 << what as u8 != 0)
    }

    /// Test for a SYN or SYN+ACK of a side.
    pub(super) fn has_syn(&self, side: Side) -> bool {
        self.seen[side as usize] & 1 << Once::Syn as u8 != 0
    }

    fn push(&mut self, letter: u8) {
        if let Some(place) = self.written.get_mut(usize::from(self.len)) {
            *place = letter;
            self.len += 1;
        }
    }

    fn so_far(&self) -> &[u8] {
        self.written.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Note a letter; true if already present, and therefore not noted again.
    #[inline]
    pub(super) fn once(&mut self, what: Once, letter: Option<u8>, side: Side) -> bool {
        let seen = &mut self.seen[side as usize];
        let bit = 1 << what as u8;
        if *seen & bit != 0 {
            return true;
        }
        *seen |= bit;
        self.push(cased(letter.unwrap_or(what.letter()), side));
        false
    }

    /// Note a letter that may be repeated.
    pub(super) fn again(&mut self, letter: u8, side: Side) {
        self.push(cased(letter, side));
    }

    /// Count an event, and note the 1st, 10th, 100th... time.
    pub(super) fn scaled(&mut self, what: Scaled, side: Side) {
        let count = &mut self.counts[side as usize][what as usize];
        *count = count.saturating_add(1);
        if is_noted(*count) {
            self.push(cased(what.letter(), side));
        }
    }

    /// Test for a history of nothing but a SYN+ACK of this side.
    pub(super) fn is_lone_syn_ack(&self, side: Side) -> bool {
        self.so_far() == [cased(b'H', side)]
    }

    /// Exchange the roles. The letters stay as written, so that each end's case is exchanged.
    pub(super) fn flip(&mut self) {
        for letter in &mut self.written {
            if letter.is_ascii_alphabetic() {
                *letter ^= 0x20;
            }
        }
        self.seen.swap(0, 1);
        self.push(b'^');
    }

    /// Rewrite the history of a flipped connection that began with a SYN+ACK of this side.
    pub(super) fn begin_with_flipped_syn_ack(&mut self, side: Side) {
        self.len = 0;
        self.push(b'^');
        self.push(cased(b'H', side));
    }

    /// The letters in Zeek's case for this originator.
    pub fn written(&self, orig: Side) -> impl Iterator<Item = u8> + '_ {
        let turned = orig == Side::B;
        self.so_far().iter().map(move |letter| letter ^ (u8::from(turned && letter.is_ascii_alphabetic()) << 5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(letters: &Letters, orig: Side) -> String {
        letters.written(orig).map(char::from).collect()
    }

    #[test]
    fn counts_are_logarithmic() {
        let mut letters = Letters::default();
        for _ in 0..1000 {
            letters.scaled(Scaled::Retransmission, Side::B);
        }
        assert_eq!(text(&letters, Side::A), "tttt");
        assert_eq!(text(&letters, Side::B), "TTTT");
    }

    #[test]
    fn a_flip_leaves_what_is_written() {
        let mut letters = Letters::default();
        letters.once(Once::Data, None, Side::A);
        assert_eq!(text(&letters, Side::A), "D");
        letters.flip();
        assert_eq!(text(&letters, Side::B), "D^");
        // The new originator's own bit counts as seen: the letter is already present.
        assert!(letters.once(Once::Data, None, Side::B));
    }

    #[test]
    fn letters_are_bounded() {
        let mut letters = Letters::default();
        for _ in 0..1000 {
            letters.again(b'S', Side::A);
        }
        assert_eq!(text(&letters, Side::A).len(), LETTERS);
    }
}
