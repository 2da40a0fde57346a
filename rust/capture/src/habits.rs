//! Oddities of pcap record headers, and habits of their writers.
//!
//! A captured length over the snaplen or over the original length, a fraction over a second and a jump in time are odd,
//! but some writers have one in every record. An oddity that a file has shown often is a habit, and is none from then on.

/// Number of confirmed records with an oddity that make the oddity a habit.
const OFTEN: u8 = 4;

/// Kinds of oddities.
const KINDS: usize = 5;

/// Set of oddities of one header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Oddities(u8);

impl Oddities {
    /// Time far from the previous record's.
    pub(super) const FAR: Self = Self(1);
    /// Captured length over the snaplen.
    pub(super) const SNAPLEN: Self = Self(2);
    /// Captured length over the original length.
    pub(super) const ORIGINAL: Self = Self(4);
    /// Fraction of a second or more.
    pub(super) const FRACTION: Self = Self(8);
    /// Original length of no packet.
    pub(super) const LENGTH: Self = Self(16);

    /// The set with `other`, if `holds`.
    #[inline]
    pub(super) fn with(self, other: Self, holds: bool) -> Self {
        if holds { Self(self.0 | other.0) } else { self }
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True if one of `other` is in the set.
    pub(super) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn len(self) -> u32 {
        self.0.count_ones()
    }
}

/// Oddities of the accepted records of a file.
#[derive(Clone, Default)]
pub(super) struct Habits {
    counts: [u8; KINDS],
    seen: u8,
    often: u8,
}

impl Habits {
    /// Count the oddities of an accepted record.
    pub(super) fn note(&mut self, odd: Oddities) {
        for (kind, count) in self.counts.iter_mut().enumerate().filter(|(kind, _)| odd.0 >> kind & 1 != 0) {
            *count = count.saturating_add(1);
            self.often |= u8::from(*count >= OFTEN) << kind;
        }
        self.seen |= odd.0;
    }

    /// True if no oddity was noted.
    pub(super) fn is_unseen(&self) -> bool {
        self.seen == 0
    }

    /// The oddities that are no habits.
    pub(super) fn fresh(&self, odd: Oddities) -> Oddities {
        Oddities(odd.0 & !self.often)
    }

    /// The oddities that no accepted record had.
    pub(super) fn unseen(&self, odd: Oddities) -> Oddities {
        Oddities(odd.0 & !self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oddity_seen_often_is_a_habit() {
        let (mut habits, both) =
            (Habits::default(), Oddities::FAR.with(Oddities::ORIGINAL, true).with(Oddities::LENGTH, false));
        for _ in 0..OFTEN - 1 {
            habits.note(both);
        }
        assert_eq!((habits.fresh(both).len(), habits.unseen(both).len()), (2, 0));
        habits.note(Oddities::FAR);
        assert_eq!(habits.fresh(both), Oddities::ORIGINAL);
        assert!(habits.unseen(Oddities::FRACTION).has(Oddities::FRACTION));
    }
}
