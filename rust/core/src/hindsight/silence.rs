//! Silence before the first packet of a five-tuple: a gateway that saw none for the timeout takes the packet for an opening.
//!
//! Silence counts only while the capture was running. A pause of all traffic is taken for a break between captures.

use conntrack_output::rows::{Row, Rows};

use super::census::{Case, TupleRow};
use conntrack_base::time::SECOND;

/// The longest pause of all traffic within one capture, nanoseconds.
const LONGEST_PAUSE: i64 = 600 * SECOND;

/// The times at which capture began, and the first row of each five-tuple.
pub(super) struct Silence {
    begins: Vec<i64>,
    firsts: Vec<usize>,
}

impl Silence {
    /// Silence over all rows; `records`: the rows of five-tuples with open connections.
    pub(super) fn of(rows: &Rows, records: &[TupleRow], tuples: usize) -> Self {
        let mut firsts = vec![usize::MAX; tuples];
        for record in records {
            let first = &mut firsts[record.tuple as usize];
            *first = (*first).min(record.place);
        }
        Self { begins: begins(rows.iter().map(|row| (row.start(), row.end())).collect()), firsts }
    }

    /// Nanoseconds of the capture before the row without a packet of the five-tuple; 0 after an earlier row.
    pub(super) fn before(&self, row: Row<'_>, case: &Case) -> i64 {
        if self.firsts.get(case.tuple as usize) != Some(&case.place) {
            return 0;
        }
        let began = self.begins.partition_point(|begin| *begin <= row.start()).checked_sub(1);
        began.map_or(0, |place| row.start().saturating_sub(self.begins[place]))
    }
}

/// The times at which traffic began after a pause, of these times of activity.
fn begins(mut active: Vec<(i64, i64)>) -> Vec<i64> {
    let first = active.iter().map(|(start, _)| *start).min();
    let last = active.iter().map(|(_, end)| *end).max();
    let (Some(first), Some(last)) = (first, last) else { return Vec::new() };
    if last.saturating_sub(first) <= LONGEST_PAUSE {
        return vec![first];
    }
    active.sort_unstable();
    let mut found = vec![first];
    let mut until = first;
    for (start, end) in active {
        if start.saturating_sub(until) > LONGEST_PAUSE {
            found.push(start);
        }
        until = until.max(end);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_of_all_traffic_begins_another_capture() {
        let at = |start: i64, end: i64| (start * SECOND, end * SECOND);
        assert_eq!(begins(vec![at(700, 710), at(0, 100)]), [0]);
        assert_eq!(begins(vec![at(0, 100), at(701, 710), at(50, 60)]), [0, 701 * SECOND]);
        assert_eq!(begins(vec![at(0, 5_000), at(701, 710), at(5_601, 5_601)]), [0, 5_601 * SECOND]);
        assert_eq!(begins(vec![(i64::MIN, i64::MAX), (i64::MAX, i64::MAX)]), [i64::MIN]);
        assert!(begins(Vec::new()).is_empty());
    }
}
