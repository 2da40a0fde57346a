//! Silence before the first packet of a five-tuple: a gateway that saw none for the timeout takes the packet for an opening.
//!
//! Silence counts only while the capture was running. A pause of all traffic is taken for a break between captures.

use conntrack_output::rows::Row;

use super::census::{Case, TupleRow};

/// The times at which capture began, and the first row of each five-tuple.
pub(super) struct Silence {
    begins: Vec<i64>,
    firsts: Vec<usize>,
}

impl Silence {
    /// Silence between the times at which capture began; `records`: the rows of five-tuples with open connections.
    pub(super) fn of(begins: Vec<i64>, records: &[TupleRow], tuples: usize) -> Self {
        let mut firsts = vec![usize::MAX; tuples];
        for record in records {
            let first = &mut firsts[record.tuple as usize];
            *first = (*first).min(record.place);
        }
        Self { begins, firsts }
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
