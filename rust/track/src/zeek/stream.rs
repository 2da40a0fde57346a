//! The stream of an end's data: Zeek's reassembler, without the bytes.
//!
//! Source: Zeek's `Reassem.cc` and `TCP_Reassembler.cc`, with its default limits. Numbers are relative: 1 is the first
//! byte of data.

use serde::{Deserialize, Serialize};

/// The most unacknowledged data, bytes: beyond, acknowledgements were not captured (`tcp_max_initial_window`,
/// `tcp_max_above_hole_without_any_acks`).
pub const WITHOUT_ACKS: u64 = 16 << 10;
/// `tcp_excessive_data_without_further_acks`.
pub const WITHOUT_FURTHER_ACKS: u64 = 10 << 20;
/// The most stored runs ahead of a hole; an attacker may send more, and then the stream is given up.
const MOST_RUNS: usize = 256;

/// The state of a stream of data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stream {
    /// All data before this number is delivered, or known to be lost.
    pub(crate) delivered: u64,
    /// All data before this number is acknowledged and forgotten.
    pub(crate) trimmed: u64,
    /// The first run behind a hole: its start, and its length; 0: there is none.
    pub(crate) first: u64,
    pub(crate) length: u32,
    /// The stream was given up: data is no longer put in order.
    pub(crate) gave_up: bool,
    /// The end of the stream was reported.
    pub(crate) ended: bool,
    /// The other disjoint runs, sorted.
    #[expect(clippy::box_collection, reason = "hardly any connection has them, and every one has the room")]
    pub(crate) more: Option<Box<Vec<(u64, u64)>>>,
}

impl Default for Stream {
    fn default() -> Self {
        Self { delivered: 1, trimmed: 1, first: 0, length: 0, gave_up: false, ended: false, more: None }
    }
}

impl Stream {
    /// Test for a bounded list of runs; for state from outside. Numbers wrap, and may be any.
    pub(super) fn is_sound(&self) -> bool {
        self.more.as_deref().is_none_or(|more| more.len() <= MOST_RUNS)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let runs = |more: &Vec<(u64, u64)>| size_of_val(more) + more.capacity() * size_of::<(u64, u64)>();
        self.more.as_deref().map_or(0, runs)
    }

    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(crate) fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Test for data that was not acknowledged, or that waits behind a hole.
    pub(crate) fn holds_any(&self) -> bool {
        self.trimmed < self.delivered || self.length > 0
    }

    /// Report the end once; false: already reported.
    pub(super) fn end(&mut self) -> bool {
        !std::mem::replace(&mut self.ended, true)
    }

    /// Process data; `unacked`: nothing of this stream was acknowledged yet, `size`: its length by sequence numbers.
    pub(super) fn data(&mut self, start: u64, end: u64, unacked: bool, size: u64) {
        if self.gave_up || end <= start {
            return;
        }
        let start = start.max(self.delivered);
        if end <= start {
            return;
        }
        if start == self.delivered {
            self.delivered = end;
            self.absorb();
            if unacked && size > WITHOUT_ACKS {
                self.trimmed = self.delivered;
            }
        } else {
            self.keep(start, end);
        }
        if self.length == 0 {
            self.gave_up |= self.delivered.saturating_sub(self.trimmed) > WITHOUT_FURTHER_ACKS;
            return;
        }
        let more = self.more.as_deref().map_or(&[][..], Vec::as_slice);
        let first = self.first.saturating_add(self.length.into());
        let waiting =
            more.iter().fold(u64::from(self.length), |sum, run| sum.saturating_add(run.1.saturating_sub(run.0)));
        let reach = more.last().map_or(first, |run| run.1).saturating_sub(self.delivered);
        let held = waiting.saturating_add(self.delivered.saturating_sub(self.trimmed));
        if (unacked && reach > WITHOUT_ACKS) || held > WITHOUT_FURTHER_ACKS || more.len() >= MOST_RUNS {
            self.gave_up = true;
            (self.length, self.more) = (0, None);
        }
    }

    /// Store a run behind a hole. A length that overflows is beyond every limit.
    fn keep(&mut self, start: u64, end: u64) {
        let length = |(start, end): (u64, u64)| u32::try_from(end - start).unwrap_or(u32::MAX);
        if self.length == 0 {
            (self.first, self.length) = (start, length((start, end)));
            return;
        }
        let behind = self.first.saturating_add(self.length.into());
        if self.more.is_none() && start <= behind && end >= self.first {
            self.first = self.first.min(start);
            self.length = length((self.first, end.max(behind)));
            return;
        }
        let runs = self.more.get_or_insert_default();
        runs.insert(0, (self.first, behind));
        let first = runs.partition_point(|run| run.1 < start);
        let last = runs.partition_point(|run| run.0 <= end).max(first);
        let merged = match runs.get(first..last) {
            Some([one, .., other]) => (start.min(one.0), end.max(other.1)),
            Some([one]) => (start.min(one.0), end.max(one.1)),
            _ => (start, end),
        };
        runs.splice(first..last, [merged]);
        self.take_first();
    }

    /// Move the first of the other runs to the first one; none where there are no others.
    fn take_first(&mut self) {
        self.length = 0;
        let Some(runs) = &mut self.more else { return };
        if !runs.is_empty() {
            let (start, end) = runs.remove(0);
            (self.first, self.length) = (start, u32::try_from(end.saturating_sub(start)).unwrap_or(u32::MAX));
        }
        if runs.is_empty() {
            self.more = None;
        }
    }

    /// Deliver the runs up to which all data is delivered.
    #[inline]
    fn absorb(&mut self) {
        while self.length > 0 && self.first <= self.delivered {
            self.delivered = self.delivered.max(self.first.saturating_add(self.length.into()));
            self.take_first();
        }
    }

    /// Process an acknowledgement of all data before `seq`, and return the holes below; None where the number is not
    /// new. `ignore_start`: the connection was picked up in mid-stream, so that its first byte may never have been
    /// there.
    #[inline]
    pub(super) fn acknowledged(&mut self, seq: u64, ignore_start: bool) -> Option<Gaps> {
        if seq <= self.trimmed {
            return None;
        }
        let mut gaps = Gaps::default();
        if seq > self.delivered && !(seq <= 2 && ignore_start) {
            if self.length > 0 && !self.gave_up {
                self.pass_runs(seq, &mut gaps);
            }
            if seq > self.delivered {
                if !self.gave_up {
                    gaps.add(seq - self.delivered);
                }
                self.delivered = seq;
            }
        }
        self.trimmed = seq;
        self.absorb();
        Some(gaps)
    }

    /// Count the holes in front of each run that begins before `seq`, and deliver those runs.
    fn pass_runs(&mut self, seq: u64, gaps: &mut Gaps) {
        while self.length > 0 && self.first < seq {
            gaps.add(self.first.saturating_sub(self.delivered));
            self.delivered = self.first;
            self.absorb();
        }
    }
}

/// Acknowledged holes: their number, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gaps {
    pub(super) count: u32,
    pub(super) bytes: u64,
}

impl Gaps {
    #[inline]
    fn add(&mut self, length: u64) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(stream: &mut Stream, ack: u64) -> (u32, u64) {
        let gaps = stream.acknowledged(ack, false).unwrap_or_default();
        (gaps.count, gaps.bytes)
    }

    #[test]
    fn in_order_and_acknowledged_leaves_nothing() {
        let mut stream = Stream::default();
        stream.data(1, 101, true, 100);
        assert!(stream.holds_any());
        assert_eq!(gaps(&mut stream, 101), (0, 0));
        assert!(!stream.holds_any());
        assert_eq!(stream.delivered(), 101);
    }

    #[test]
    fn a_hole_is_a_gap_once_acknowledged() {
        let mut stream = Stream::default();
        stream.data(1, 11, false, 0);
        stream.data(21, 31, false, 0);
        stream.data(41, 51, false, 0);
        assert_eq!(stream.delivered(), 11);
        assert_eq!(gaps(&mut stream, 51), (2, 20));
        assert_eq!(stream.delivered(), 51);
    }

    #[test]
    fn a_late_segment_fills_its_hole() {
        let mut stream = Stream::default();
        stream.data(11, 21, false, 0);
        stream.data(31, 41, false, 0);
        stream.data(15, 35, false, 0);
        stream.data(1, 11, false, 0);
        assert_eq!(stream.delivered(), 41);
        assert_eq!(gaps(&mut stream, 41), (0, 0));
    }

    #[test]
    fn runs_are_bounded() {
        let mut stream = Stream::default();
        for run in 1..10_000 {
            stream.data(run * 4, run * 4 + 1, false, 0);
        }
        assert!(stream.gave_up() && !stream.holds_any());
    }
}
