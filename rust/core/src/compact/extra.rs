//! What no longer follows from the sequence numbers of a TCP connection once data is missing from the capture, as where
//! packets were cut: a line beside its [`Compact`].

use super::Compact;
use super::letters::MoreLetters;
use crate::slab::Slab;
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
#[repr(align(64))]
pub struct Extra {
    /// By side.
    pub(super) sent: [Sent; 2],
    /// Bytes that were acknowledged and not captured.
    pub(super) missed: u32,
    /// The letters behind the twelfth.
    pub(super) letters: MoreLetters,
}

/// The lines of all connections that have one, by number.
#[derive(Default)]
pub struct Extras(Slab<Extra>);

impl Extras {
    /// The line of this number.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&Extra> {
        self.0.get(number)
    }

    /// Writes the line of this number.
    #[inline]
    pub(super) fn set(&mut self, number: u32, extra: Extra) {
        if let Some(place) = self.0.get_mut(number) {
            *place = extra;
        }
    }

    /// Takes a line; None where there are no more numbers.
    pub(super) fn take(&mut self) -> Option<u32> {
        self.0.take().map(|(number, _)| number)
    }

    /// Keeps what belongs beside these words, if anything does; None where there are no more numbers.
    pub fn keep(&mut self, compact: &mut Compact, extra: Option<Extra>) -> Option<()> {
        if let Some(extra) = extra {
            let (number, place) = self.0.take()?;
            *place = extra;
            compact.set_extra(number);
        }
        Some(())
    }

    /// Gives a line back, and what was in it.
    pub fn give_back(&mut self, number: u32) -> Option<Extra> {
        let extra = *self.0.get(number)?;
        self.0.give_back(number);
        Some(extra)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Extra>()
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
        assert_eq!(size_of::<Extra>(), 64);
    }

    #[test]
    fn lines_are_used_again() {
        let mut extras = Extras::default();
        let numbers: Vec<_> = (0..3_000).map(|_| extras.take().unwrap()).collect();
        assert_eq!(numbers, (0..3_000).collect::<Vec<_>>());
        extras.give_back(7).unwrap();
        assert_eq!((extras.used(), extras.take()), (2_999, Some(7)));
        extras.set(2_999, Extra { missed: 5, ..Extra::default() });
        assert_eq!(extras.get(2_999).unwrap().missed, 5);
    }
}
