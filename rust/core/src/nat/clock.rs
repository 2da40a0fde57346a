//! The difference between the clocks of two captures, as it changes over time.
//!
//! Samples are differences of the times at which one packet was seen on both sides. Some of them are wrong: a packet was lost
//! on one side and its retransmission was not. A running median is blind to those, and follows a drifting clock. Without
//! samples that are sure, the clock is where far more probable matches agree than chance would have agree.

/// Samples of a running median.
const WINDOW: usize = 31;
/// Points of the curve, at most.
const MOST_KNOTS: usize = 1 << 12;
/// Least and largest tolerance, nanoseconds.
const LEAST: i64 = 50_000_000;
const LARGEST: i64 = 2_000_000_000;
/// Samples that make a clock.
const FEW: usize = 3;
/// Width of the window in which probable matches must agree, nanoseconds.
const AGREEMENT: i64 = 500_000_000;
/// Bits that the probable matches in the window must have together, and the most that one of them adds.
const SURE_BITS: u32 = 64;
const VOTE_BITS: u32 = 32;
/// Of the connections that may have a match, the share that must agree: one in twenty.
const SHARE: usize = 20;

/// Clock of the outside as a function of the clock of the inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Time inside, and the difference: outside less inside. Sorted, nanoseconds.
    knots: Vec<(i64, i64)>,
    /// Largest distance of a packet from the time at which the clock expects it, nanoseconds.
    pub tolerance: i64,
    /// Samples that it was made of.
    pub samples: usize,
}

/// A probable match: time inside, outside less inside, bits.
pub type Vote = (i64, i64, u8);

impl Clock {
    /// A constant difference and tolerance, both in nanoseconds.
    pub fn given(offset: i64, tolerance: i64) -> Self {
        Self { knots: vec![(0, offset)], tolerance, samples: 0 }
    }

    /// The clock of samples (time inside, outside less inside); None for fewer than three.
    pub fn of_samples(mut samples: Vec<(i64, i64)>) -> Option<Self> {
        if samples.len() < FEW {
            return None;
        }
        samples.sort_unstable();
        let (count, step) = (samples.len(), samples.len().div_ceil(MOST_KNOTS));
        let mut knots = Vec::with_capacity(count.div_ceil(step));
        let mut near = Vec::with_capacity(WINDOW);
        for at in (0..count).step_by(step) {
            let from = at.saturating_sub(WINDOW / 2).min(count.saturating_sub(WINDOW));
            near.clear();
            near.extend(samples[from..(from + WINDOW).min(count)].iter().map(|sample| sample.1));
            let middle = near.len() / 2;
            knots.push((samples[at].0, *near.select_nth_unstable(middle).1));
        }
        let mut clock = Self { knots, tolerance: LARGEST, samples: count };
        let mut errors: Vec<i64> =
            samples.iter().map(|(ts, difference)| difference.abs_diff(clock.difference(*ts)) as i64).collect();
        // Nine of ten samples are right, and three times their error holds nearly every packet.
        let most = errors.len() * 9 / 10;
        let usual = *errors.select_nth_unstable(most.min(count - 1)).1;
        clock.tolerance = usual.saturating_mul(3).clamp(LEAST, LARGEST);
        Some(clock)
    }

    /// The clock on which probable matches agree; `both`: connections of the smaller side that may have a match. None where
    /// chance explains the agreement.
    pub fn of_votes(mut votes: Vec<Vote>, both: usize) -> Option<Self> {
        votes.sort_unstable_by_key(|vote| (vote.1, vote.0));
        let weight = |vote: &Vote| u32::from(vote.2).min(VOTE_BITS);
        let (mut from, mut bits, mut best) = (0, 0, (0, 0..0));
        for to in 0..votes.len() {
            bits += weight(&votes[to]);
            while votes[to].1.saturating_sub(votes[from].1) > AGREEMENT {
                bits -= weight(&votes[from]);
                from += 1;
            }
            if bits > best.0 {
                best = (bits, from..to + 1);
            }
        }
        let (bits, range) = best;
        let agree = range.len();
        if bits < SURE_BITS || agree * SHARE < both {
            return None;
        }
        let samples = votes[range].iter().map(|vote| (vote.0, vote.1)).collect::<Vec<_>>();
        // Two connections of many bits each are enough for a clock, and too few for a median.
        let few = samples.iter().map(|sample| sample.1).min().unwrap_or_default();
        Self::of_samples(samples).or(Some(Self { knots: vec![(0, few)], tolerance: AGREEMENT, samples: agree }))
    }

    /// Outside less inside at a time inside, nanoseconds; constant before the first and after the last sample.
    pub fn difference(&self, ts: i64) -> i64 {
        let after = self.knots.partition_point(|knot| knot.0 <= ts);
        let (Some(before), Some(next)) = (self.knots.get(after.wrapping_sub(1)), self.knots.get(after)) else {
            return self.knots.get(after.min(self.knots.len()).saturating_sub(1)).map_or(0, |knot| knot.1);
        };
        let (run, rise) = (i128::from(next.0) - i128::from(before.0), i128::from(next.1) - i128::from(before.1));
        let part = rise * (i128::from(ts) - i128::from(before.0)) / run.max(1);
        before.1.saturating_add(i64::try_from(part).unwrap_or_default())
    }

    /// The time outside at a time inside.
    pub fn outside(&self, ts: i64) -> i64 {
        ts.saturating_add(self.difference(ts))
    }

    /// The median difference, nanoseconds.
    pub fn offset(&self) -> i64 {
        let mut all: Vec<i64> = self.knots.iter().map(|knot| knot.1).collect();
        let middle = all.len() / 2;
        if all.is_empty() { 0 } else { *all.select_nth_unstable(middle).1 }
    }

    /// Change of the difference per time between the first and the last sample, in parts per million.
    pub fn drift(&self) -> f64 {
        let (Some(first), Some(last)) = (self.knots.first(), self.knots.last()) else { return 0.0 };
        let run = last.0.saturating_sub(first.0);
        if run <= 0 { 0.0 } else { (last.1.saturating_sub(first.1)) as f64 / run as f64 * 1e6 }
    }
}
