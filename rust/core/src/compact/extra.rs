//! What no longer follows from the sequence numbers of a TCP connection once data is missing from the capture, as where
//! packets were cut: a line beside its [`Compact`].

use std::io::{self, Read, Write};

use super::letters::MoreLetters;
use super::{Compact, halves};
use crate::checkpoint::{CheckpointError, Reader, Writer};
use crate::slab::{Places, Slab};
use crate::sync::Cells;
use crate::zeek::RUNS;

/// What came of the data that an end sent. Numbers are relative to its SYN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Everything before this was delivered or is lost.
    pub(super) delivered: u32,
    /// Runs of data that wait behind holes; (0, 0): no more.
    pub(super) ahead: [(u32, u32); RUNS],
    /// How many gaps were found.
    pub(super) gaps: u32,
    /// Bytes of payload, counted.
    pub(super) payload: u32,
}

/// One cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// By side.
    pub(super) sent: [Sent; 2],
    /// Bytes that were acknowledged and not captured.
    pub(super) missed: u32,
    /// The letters behind the twelfth.
    pub(super) letters: MoreLetters,
}

/// Words of a line.
const WORDS: usize = 8;

impl Extra {
    fn words(&self) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        for (sent, words) in self.sent.iter().zip(words.chunks_exact_mut(WORDS / 2)) {
            let [first, second] = sent.ahead;
            words[0] = halves([sent.delivered, sent.gaps]);
            words[1] = halves([first.0, first.1]);
            words[2] = halves([second.0, second.1]);
            words[3] = u64::from(sent.payload) << 32;
        }
        words[3] |= u64::from(self.missed);
        words[7] |= u64::from(self.letters.bits());
        words
    }

    fn of_words(words: &[u64; WORDS]) -> Self {
        let pair = |at: usize| ((words[at] >> 32) as u32, words[at] as u32);
        let sent = |at: usize| {
            let ((delivered, gaps), (payload, _)) = (pair(at), pair(at + 3));
            Sent { delivered, ahead: [pair(at + 1), pair(at + 2)], gaps, payload }
        };
        Self {
            sent: [sent(0), sent(WORDS / 2)],
            missed: words[3] as u32,
            letters: MoreLetters::of_bits(words[7] as u32),
        }
    }
}

/// The lines of all connections that have one, by number.
#[derive(Default)]
pub struct Extras(Slab<Cells<WORDS>>);

/// The same lines for readers.
#[derive(Clone)]
pub struct ExtraPlaces(Places<Cells<WORDS>>);

impl ExtraPlaces {
    /// The line of this number: whole where that of its connection is.
    pub fn get(&self, number: u32) -> Option<Extra> {
        self.0.with(number, |place| Extra::of_words(&place.load()))
    }
}

impl Extras {
    /// The line of this number.
    #[inline]
    pub fn get(&self, number: u32) -> Option<Extra> {
        self.0.get(number).map(|place| Extra::of_words(&place.load()))
    }

    /// Writes the line of this number.
    #[inline]
    pub(super) fn set(&self, number: u32, extra: &Extra) {
        if let Some(place) = self.0.get(number) {
            place.store(&extra.words());
        }
    }

    /// Takes a line; None where there are no more numbers.
    pub(super) fn take(&mut self) -> Option<u32> {
        self.0.take().map(|(number, _)| number)
    }

    /// Keeps what belongs beside these words, if anything does; None where there are no more numbers.
    pub fn keep(&mut self, compact: &mut Compact, extra: Option<Extra>) -> Option<()> {
        if let Some(extra) = extra {
            let number = self.take()?;
            self.set(number, &extra);
            compact.set_extra(number);
        }
        Some(())
    }

    /// Gives a line back.
    pub fn give_back(&mut self, number: u32) {
        self.0.give_back(number);
    }

    /// The same lines for readers.
    pub fn places(&self) -> ExtraPlaces {
        ExtraPlaces(self.0.places())
    }

    /// Writes all lines.
    pub fn save(&self, out: &mut Writer<'_, impl Write>) -> io::Result<()> {
        self.0.save(out, Cells::load)
    }

    /// Reads what was written.
    pub fn load(from: &mut Reader<impl Read>) -> Result<Self, CheckpointError> {
        Ok(Self(Slab::load(from, |place: &Cells<WORDS>, words| place.store(&words))?))
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Cells<WORDS>>()
    }

    /// How many are in use.
    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.0.len()
    }
}

impl Sent {
    /// Data came behind everything that was sent before; None where it would be one run too many behind holes.
    pub(super) fn data(&mut self, start: u32, end: u32) -> Option<()> {
        if start == self.delivered {
            self.delivered = end;
            return Some(());
        }
        let run = self.ahead.iter_mut().find(|run| run.1 == start || **run == (0, 0))?;
        *run = (if run.1 == start { run.0 } else { start }, end);
        Some(())
    }

    /// Data up to `seq` was acknowledged. Returns the lengths of the holes below; 0: no more.
    pub(super) fn acknowledged(&mut self, seq: u32) -> [u32; RUNS + 1] {
        let mut holes = [0; RUNS + 1];
        for hole in &mut holes {
            let behind = if self.has_ahead() { seq.min(self.ahead[0].0) } else { seq };
            if behind <= self.delivered {
                break;
            }
            *hole = behind - self.delivered;
            self.delivered = behind;
            if self.has_ahead() && self.ahead[0].0 == behind {
                self.delivered = self.ahead[0].1;
                self.ahead[0] = (0, 0);
                self.ahead.rotate_left(1);
            }
        }
        holes
    }

    pub(super) fn has_ahead(&self) -> bool {
        self.ahead[0] != (0, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_behind_holes_wait_for_the_acknowledgement() {
        let mut sent = Sent { delivered: 11, ..Sent::default() };
        sent.data(31, 41).unwrap();
        sent.data(41, 51).unwrap();
        sent.data(61, 71).unwrap();
        assert_eq!((sent.delivered, sent.ahead), (11, [(31, 51), (61, 71)]));
        assert_eq!(sent.data(81, 91), None, "three runs do not fit");
        assert_eq!(sent.acknowledged(81), [20, 10, 10]);
        assert_eq!((sent.delivered, sent.ahead), (81, [(0, 0); RUNS]));
        sent.data(81, 91).unwrap();
        assert_eq!(sent.acknowledged(91), [0, 0, 0]);
        assert_eq!(sent.delivered, 91);
    }

    #[test]
    fn an_acknowledged_hole_ends_where_a_run_begins() {
        let mut sent = Sent { delivered: 11, ahead: [(31, 51), (61, 71)], ..Sent::default() };
        assert_eq!(sent.acknowledged(21), [10, 0, 0]);
        assert_eq!((sent.delivered, sent.ahead[0]), (21, (31, 51)));
        assert_eq!(sent.acknowledged(31), [10, 0, 0]);
        assert_eq!((sent.delivered, sent.ahead), (51, [(61, 71), (0, 0)]));
        sent.data(71, 81).unwrap();
        assert_eq!(sent.ahead[0], (61, 81));
    }

    #[test]
    fn it_is_one_line() {
        assert_eq!(size_of::<Cells<WORDS>>(), 64);
        let sent =
            |at| Sent { delivered: at, ahead: [(at + 1, at + 2), (at + 3, at + 4)], gaps: at + 5, payload: at + 6 };
        let extra = Extra { sent: [sent(1), sent(11)], missed: 21, letters: MoreLetters::of_bits(22) };
        assert_eq!(Extra::of_words(&extra.words()), extra);
    }

    #[test]
    fn lines_are_used_again() {
        let mut extras = Extras::default();
        let numbers: Vec<_> = (0..3_000).map(|_| extras.take().unwrap()).collect();
        assert_eq!(numbers, (0..3_000).collect::<Vec<_>>());
        extras.give_back(7);
        assert_eq!((extras.used(), extras.take()), (2_999, Some(7)));
        extras.set(2_999, &Extra { missed: 5, ..Extra::default() });
        assert_eq!(extras.get(2_999).unwrap().missed, 5);
    }
}
