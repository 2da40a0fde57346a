//! The capture clock, the only clock.
//!
//! Timestamps and durations are `i64` nanoseconds; timestamps count from the Unix epoch in UTC. [`Clock`] turns the
//! sequence of packet times into the times at which idle connections are swept from memory.

use serde::{Deserialize, Serialize};

/// One second in nanoseconds.
pub const SECOND: i64 = 1_000_000_000;

/// Grace period in nanoseconds between an entry's deadline and its sweep. A late packet within the period finds its
/// connection.
pub const LATENESS: i64 = 10 * SECOND;

/// Timestamp of a packet that was stored without one. Earlier than all others, so that such packets are tracked before
/// those with a time; NumPy's NaT has this value too.
pub const UNTIMED: i64 = i64::MIN;

/// A timestamp, or None for [`UNTIMED`].
#[inline]
pub fn timed(ts: i64) -> Option<i64> {
    (ts != UNTIMED).then_some(ts)
}

/// The UTC hour of a timestamp, as `2026-11-25T14`.
pub fn hour(ts: i64) -> String {
    chrono::DateTime::from_timestamp_nanos(ts).format("%Y-%m-%dT%H").to_string()
}

/// Clock that a single wrong timestamp cannot move.
///
/// The clock is the smaller of the last two packet times. So one packet from the far future times out no connection,
/// and the clock steps back with the capture (appended files, a corrected clock). Only the packet order matters, so
/// sweeps happen at fixed packets for any batch size and thread count.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Clock {
    last: Option<i64>,
    swept: Option<i64>,
    now: i64,
}

impl Clock {
    /// A clock at rest at this time.
    pub fn stopped(at: i64) -> Self {
        Self { last: Some(at), swept: None, now: at }
    }

    /// Advance to a packet's time. Returns the time up to which deadlines are due, once per second of capture time.
    #[inline]
    pub fn tick(&mut self, ts: i64) -> Option<i64> {
        let last = self.last.replace(ts).unwrap_or(ts);
        self.now = last.min(ts);
        // Compare instead of divide: this runs for every packet.
        let since = |second: i64| self.now.wrapping_sub(second.wrapping_mul(SECOND));
        if self.swept.is_some_and(|second| (0..SECOND).contains(&since(second))) {
            return None;
        }
        self.swept = Some(self.now.div_euclid(SECOND));
        Some(self.now.saturating_sub(LATENESS))
    }

    /// Advance past packets for each of which [`Self::tick`] would return None. False: the clock is unchanged.
    #[inline]
    pub fn pass(&mut self, times: impl Iterator<Item = i64>) -> bool {
        let (Some(before), Some(second)) = (self.last, self.swept) else { return false };
        let first = second.wrapping_mul(SECOND);
        let is_within = |ts: i64| (0..SECOND).contains(&ts.wrapping_sub(first));
        let (mut last, mut one_before, mut all) = (before, before, is_within(before));
        for ts in times {
            all &= is_within(ts);
            (one_before, last) = (last, ts);
        }
        if all {
            self.now = one_before.min(last);
            self.last = Some(last);
        }
        all
    }

    /// Current capture time in nanoseconds.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// Time of the last packet in nanoseconds, the end of a capture.
    pub fn end(&self) -> i64 {
        self.last.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hours_have_a_date() {
        assert_eq!(hour(0), "1970-01-01T00");
        assert_eq!(hour(-1), "1969-12-31T23");
        assert_eq!(hour((1_767_225_600 + 14 * 3600) * SECOND), "2026-01-01T14");
    }

    #[test]
    fn ticks_once_a_second() {
        let mut clock = Clock::default();
        assert!(clock.tick(100 * SECOND).is_some());
        assert!(clock.tick(100 * SECOND + 5).is_none());
        clock.tick(101 * SECOND);
        assert_eq!(clock.tick(101 * SECOND), Some(91 * SECOND));
    }

    #[test]
    fn seconds_end_at_every_time() {
        let mut clock = Clock::default();
        for second in [i64::MIN / SECOND, -3, 0, 3, i64::MAX / SECOND - 1] {
            for (nanos, ticks) in [(0, true), (SECOND - 1, false), (SECOND, true), (SECOND + 1, false)] {
                clock.last = None;
                assert_eq!(clock.tick(second * SECOND + nanos).is_some(), ticks, "{second} s and {nanos} ns");
            }
        }
    }

    #[test]
    fn one_wrong_timestamp_does_not_move_it() {
        let mut clock = Clock::default();
        clock.tick(100 * SECOND);
        clock.tick(1_000_000 * SECOND);
        assert_eq!(clock.now(), 100 * SECOND);
        clock.tick(100 * SECOND);
        assert_eq!(clock.now(), 100 * SECOND);
        clock.tick(1_000_000 * SECOND);
        clock.tick(1_000_000 * SECOND);
        assert_eq!(clock.now(), 1_000_000 * SECOND);
    }

    /// Up to a few timestamps, most of them within one second.
    fn times() -> impl Strategy<Value = Vec<i64>> {
        let second = prop_oneof![8 => Just(100_i64), 2 => 99..102_i64, 1 => Just(-1), 1 => Just(0), 1 => any::<i32>().prop_map(i64::from)];
        let nanos = prop_oneof![4 => 0..SECOND, 1 => Just(0), 1 => Just(SECOND - 1)];
        let near = (second, nanos).prop_map(|(second, nanos)| second * SECOND + nanos);
        let extreme = prop::sample::select(vec![i64::MIN, i64::MIN + 1, i64::MAX - 1, i64::MAX]);
        prop::collection::vec(prop_oneof![60 => near, 1 => extreme], 1..6)
    }

    fn facts(clock: Clock) -> (Option<i64>, Option<i64>, i64) {
        (clock.last, clock.swept, clock.now)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn what_passes_at_once_ticks_never(before in times(), passing in times()) {
            let mut clock = Clock::default();
            for ts in &before {
                clock.tick(*ts);
            }
            let (mut passed, mut ticked) = (clock, clock);
            let ticks = passing.iter().filter(|ts| ticked.tick(**ts).is_some()).count();
            if passed.pass(passing.iter().copied()) {
                prop_assert_eq!(ticks, 0);
                prop_assert_eq!(facts(passed), facts(ticked));
            } else {
                prop_assert_eq!(facts(passed), facts(clock), "nothing is noted");
            }
        }

        #[test]
        fn a_second_passes_at_once(second in -5..5_i64, nanos in prop::collection::vec(0..SECOND, 2..9)) {
            let mut clock = Clock::default();
            // Two packets, because the clock is the smaller of two times.
            clock.tick(second * SECOND + nanos[0]);
            clock.tick(second * SECOND + nanos[1]);
            prop_assert!(clock.pass(nanos.iter().map(|nanos| second * SECOND + nanos)));
            prop_assert!(!clock.pass([second * SECOND + SECOND].into_iter()));
            prop_assert!(!Clock::default().pass([0].into_iter()), "a clock that has not begun");
        }
    }
}
