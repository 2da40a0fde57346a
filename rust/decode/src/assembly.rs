//! Completion of fragmented datagrams. A gateway judges a datagram once, at the fragment that completes the datagram.
//!
//! The rules are Linux reassembly's (`ip_fragment.c`, `nf_conntrack_reasm.c`). A duplicate fragment is dropped. A
//! fragment that overlaps another or contradicts the datagram's end discards the whole datagram.

use serde::{Deserialize, Serialize};

use super::Family;

/// Maximum number of disjoint runs of a datagram, a bound of memory above every real datagram.
const MOST_RUNS: usize = 128;

/// Received byte ranges of a datagram's payload.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Assembly {
    /// Disjoint runs in order, as (first byte, byte behind the last).
    runs: Vec<(u32, u32)>,
    /// Length of the payload, from the last fragment.
    total: Option<u32>,
}

impl Assembly {
    /// Add a fragment. Returns the payload length if the datagram is now complete, and resets the state.
    pub(super) fn add(&mut self, family: Family, start: u32, length: u32, more: bool) -> Option<u32> {
        let mut end = start.saturating_add(length);
        if more && !end.is_multiple_of(8) {
            match family {
                Family::V4 => end &= !7,
                Family::V6 => return self.discard(),
            }
        }
        let reach = self.runs.last().map_or(0, |run| run.1);
        let contradicts = if more {
            self.total.is_some_and(|total| end > total)
        } else {
            end < reach || self.total.is_some_and(|total| end != total)
        };
        if end <= start || contradicts {
            return self.discard();
        }
        if !more {
            self.total = Some(end);
        }
        let index = self.runs.partition_point(|run| run.1 <= start);
        match self.runs.get(index) {
            Some(run) if run.0 <= start && end <= run.1 => return None,
            Some(run) if run.0 < end => return self.discard(),
            _ => {}
        }
        let touches_before = index > 0 && self.runs[index - 1].1 == start;
        let touches_behind = self.runs.get(index).is_some_and(|run| run.0 == end);
        match (touches_before, touches_behind) {
            (true, true) => {
                self.runs[index - 1].1 = self.runs[index].1;
                self.runs.remove(index);
            }
            (true, false) => self.runs[index - 1].1 = end,
            (false, true) => self.runs[index].0 = start,
            (false, false) if self.runs.len() < MOST_RUNS => self.runs.insert(index, (start, end)),
            (false, false) => return self.discard(),
        }
        let total = self.total.filter(|total| self.runs == [(0, *total)]);
        if total.is_some() {
            *self = Self::default();
        }
        total
    }

    /// Test for disjoint runs in order that do not touch, within the end of the datagram; for state from outside.
    pub(super) fn is_sound(&self) -> bool {
        let ends = self.total.unwrap_or(u32::MAX);
        self.runs.len() <= MOST_RUNS
            && self.runs.iter().all(|run| run.0 < run.1 && run.1 <= ends)
            && self.runs.windows(2).all(|pair| pair[0].1 < pair[1].0)
    }

    /// Discard the datagram; the next fragment begins a new datagram.
    fn discard(&mut self) -> Option<u32> {
        *self = Self::default();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feed (start, length, more) triples and return the last result.
    fn feed(family: Family, pieces: &[(u32, u32, bool)]) -> Option<u32> {
        let mut assembly = Assembly::default();
        pieces.iter().map(|(start, length, more)| assembly.add(family, *start, *length, *more)).last().flatten()
    }

    #[test]
    fn whole_in_every_order() {
        let pieces = [(0, 800, true), (800, 800, true), (1600, 408, false)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            assert_eq!(feed(Family::V4, &order.map(|i| pieces[i])), Some(2008), "{order:?}");
        }
    }

    #[test]
    fn a_repetition_is_dropped_and_an_overlap_takes_all() {
        let first = (0, 800, true);
        assert_eq!(feed(Family::V4, &[first, first, (800, 8, false)]), Some(808));
        assert_eq!(feed(Family::V4, &[first, (8, 16, true), (800, 8, false)]), Some(808));
        assert_eq!(feed(Family::V4, &[first, (792, 16, true), (800, 8, false)]), None);
        assert_eq!(feed(Family::V4, &[first, (792, 16, true), first, (800, 8, false)]), Some(808));
    }

    #[test]
    fn a_contradicted_end_takes_all() {
        assert_eq!(feed(Family::V4, &[(800, 8, false), (800, 16, false), (0, 800, true)]), None);
        assert_eq!(feed(Family::V4, &[(800, 8, false), (808, 8, true), (0, 800, true)]), None);
        assert_eq!(feed(Family::V4, &[(800, 800, true), (800, 8, false), (0, 800, true)]), None);
        assert_eq!(feed(Family::V4, &[(0, 800, true), (800, 0, false)]), None);
    }

    #[test]
    fn an_odd_length_in_the_middle() {
        let pieces = [(0, 804, true), (800, 8, false)];
        assert_eq!(feed(Family::V4, &pieces), Some(808));
        assert_eq!(feed(Family::V6, &pieces), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut assembly = Assembly::default();
        for number in 0..100_000 {
            assembly.add(Family::V4, 16 * number, 8, true);
            assert!(assembly.runs.len() <= MOST_RUNS);
        }
    }
}
