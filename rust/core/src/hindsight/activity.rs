//! Times of activity, and the pauses between them: a pause of all traffic is taken for a break between captures.

use std::collections::BTreeMap;

use conntrack_base::time::SECOND;

/// The longest pause of all traffic within one capture, nanoseconds.
const LONGEST_PAUSE: i64 = 600 * SECOND;

/// The times at which traffic began after a pause, of these times of activity in any order: a pause beyond
/// [`LONGEST_PAUSE`], or one beyond `timeout` in which a file begins. `files`: the begins of files, sorted.
///
/// Activity that begins within one bin of `timeout` has no pause: of each bin, the first begin and the last end are enough.
pub(super) fn begins(active: impl Iterator<Item = (i64, i64)>, files: &[i64], timeout: i64) -> Vec<i64> {
    let width = timeout.clamp(SECOND, LONGEST_PAUSE);
    let (mut found, mut until) = (Vec::new(), None);
    for (start, end) in activity(active, timeout).into_values() {
        let begins_file = |until: i64| {
            let place = files.partition_point(|file| *file <= until);
            files.get(place).is_some_and(|file| *file <= start)
        };
        let is_break = |until: i64| {
            let pause = start.saturating_sub(until);
            pause > LONGEST_PAUSE || (pause > width && begins_file(until))
        };
        if until.is_none_or(is_break) {
            found.push(start);
        }
        until = until.max(Some(end));
    }
    found
}

/// The first begin and the last end of activity by bin of `timeout`.
pub(super) fn activity(active: impl Iterator<Item = (i64, i64)>, timeout: i64) -> BTreeMap<i64, (i64, i64)> {
    let width = timeout.clamp(SECOND, LONGEST_PAUSE);
    let mut bins: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    let mut latest = None;
    for (start, end) in active {
        let bin = start.div_euclid(width);
        match &mut latest {
            Some((last, first, until)) if *last == bin => (*first, *until) = (start.min(*first), end.max(*until)),
            _ => keep(&mut bins, latest.replace((bin, start, end))),
        }
    }
    keep(&mut bins, latest);
    bins
}

fn keep(bins: &mut BTreeMap<i64, (i64, i64)>, latest: Option<(i64, i64, i64)>) {
    let Some((bin, start, end)) = latest else { return };
    let known = bins.entry(bin).or_insert((start, end));
    *known = (known.0.min(start), known.1.max(end));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pause_of_all_traffic_begins_another_capture() {
        let at = |start: i64, end: i64| (start * SECOND, end * SECOND);
        let begins = |active: Vec<(i64, i64)>| super::begins(active.into_iter(), &[], 30 * SECOND);
        assert_eq!(begins(vec![at(700, 710), at(0, 100)]), [0]);
        assert_eq!(begins(vec![at(0, 100), at(701, 710), at(50, 60)]), [0, 701 * SECOND]);
        assert_eq!(begins(vec![at(0, 5_000), at(701, 710), at(5_601, 5_601)]), [0, 5_601 * SECOND]);
        assert_eq!(begins(vec![(i64::MIN, i64::MAX), (i64::MAX, i64::MAX)]), [i64::MIN]);
        assert!(begins(Vec::new()).is_empty());
    }

    #[test]
    fn a_file_that_begins_in_a_pause_begins_another_capture() {
        let active = [(0, 10 * SECOND), (50 * SECOND, 60 * SECOND)];
        let found = |files: &[i64]| begins(active.into_iter(), files, 30 * SECOND).len();
        assert_eq!(
            [found(&[0]), found(&[0, 50 * SECOND]), found(&[0, 5 * SECOND]), found(&[0, 55 * SECOND])],
            [1, 2, 1, 1]
        );
        let rotated = [(0, 10 * SECOND), (35 * SECOND, 60 * SECOND)];
        assert_eq!(begins(rotated.into_iter(), &[0, 35 * SECOND], 30 * SECOND), [0]);
    }

    proptest! {
        #[test]
        fn bins_give_what_a_sort_gives(active in prop::collection::vec((-3_000..3_000_i64, 0..900_i64), 0..12)) {
            let mut active: Vec<_> = active.into_iter().map(|(at, length)| (at * SECOND, (at + length) * SECOND)).collect();
            let found = begins(active.iter().copied(), &[], 30 * SECOND);
            active.sort_unstable();
            let (mut sorted, mut until) = (Vec::new(), i64::MIN);
            for (start, end) in active {
                if start.saturating_sub(until) > LONGEST_PAUSE {
                    sorted.push(start);
                }
                until = until.max(end);
            }
            prop_assert_eq!(found, sorted);
        }
    }
}
