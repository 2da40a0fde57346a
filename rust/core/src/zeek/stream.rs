//! What of an end's data could be put in order: Zeek's reassembler, without the bytes.
//!
//! Source: Zeek's `Reassem.cc` and `TCP_Reassembler.cc`, with its default limits. Numbers are relative: 1 is the first
//! byte of data.

use serde::{Deserialize, Serialize};

/// Data sent that nobody acknowledges: beyond this much, acknowledgements were not captured
/// (`tcp_max_initial_window`, `tcp_max_above_hole_without_any_acks`).
pub const WITHOUT_ACKS: u64 = 16 << 10;
/// `tcp_excessive_data_without_further_acks`.
pub const WITHOUT_FURTHER_ACKS: u64 = 10 << 20;
/// Runs of data ahead of a hole; an attacker may send more, and then order is given up.
const MOST_RUNS: usize = 256;

/// What has come of a stream of data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Stream {
    /// Everything before this is delivered, or known to be lost.
    delivered: u64,
    /// Everything before this is acknowledged and forgotten.
    trimmed: u64,
    /// Disjoint runs behind a hole, in order.
    #[expect(clippy::box_collection, reason = "hardly any connection has them, and every one has the room")]
    ahead: Option<Box<Vec<(u64, u64)>>>,
    /// No longer put in order.
    gave_up: bool,
    /// Its end was reported.
    ended: bool,
}

impl Default for Stream {
    fn default() -> Self {
        Self { delivered: 1, trimmed: 1, ahead: None, gave_up: false, ended: false }
    }
}

impl Stream {
    pub(super) fn heap_bytes(&self) -> usize {
        let runs = |ahead: &Vec<(u64, u64)>| size_of_val(ahead) + ahead.capacity() * size_of::<(u64, u64)>();
        self.ahead.as_deref().map_or(0, runs)
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// There is data that was not acknowledged, or that waits behind a hole.
    pub(super) fn holds_any(&self) -> bool {
        self.trimmed < self.delivered || self.ahead.is_some()
    }

    /// Everything before `delivered` came or is lost, what is before `trimmed` was acknowledged, and these runs wait behind
    /// holes, those that are not empty. `ended`: that was reported.
    pub(super) fn of_runs(delivered: u64, trimmed: u64, ahead: &[(u64, u64)], ended: bool) -> Self {
        let runs: Vec<_> = ahead.iter().copied().filter(|run| run.0 < run.1).collect();
        let ahead = (!runs.is_empty()).then(|| Box::new(runs));
        Self { delivered, trimmed, ahead, ended, ..Self::default() }
    }

    /// The runs that wait behind holes.
    pub(super) fn ahead(&self) -> &[(u64, u64)] {
        self.ahead.as_ref().map_or(&[], |runs| runs.as_slice())
    }

    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Reports the end once.
    pub(super) fn end(&mut self) -> bool {
        !std::mem::replace(&mut self.ended, true)
    }

    /// Data came; `unacked`: nothing of this stream was acknowledged yet, `size`: its length by sequence numbers.
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
        let Some(ahead) = &self.ahead else {
            self.gave_up |= self.delivered.saturating_sub(self.trimmed) > WITHOUT_FURTHER_ACKS;
            return;
        };
        let waiting = ahead.iter().fold(0_u64, |sum, run| sum.saturating_add(run.1 - run.0));
        let reach = ahead.last().map_or(0, |run| run.1 - self.delivered);
        let held = waiting.saturating_add(self.delivered.saturating_sub(self.trimmed));
        if (unacked && reach > WITHOUT_ACKS) || held > WITHOUT_FURTHER_ACKS || ahead.len() > MOST_RUNS {
            self.gave_up = true;
            self.ahead = None;
        }
    }

    /// Keeps a run that lies behind a hole.
    fn keep(&mut self, start: u64, end: u64) {
        let runs = self.ahead.get_or_insert_default();
        let first = runs.partition_point(|run| run.1 < start);
        let behind = runs.partition_point(|run| run.0 <= end);
        let merged = match runs.get(first..behind) {
            Some([one, .., other]) => (start.min(one.0), end.max(other.1)),
            Some([one]) => (start.min(one.0), end.max(one.1)),
            _ => (start, end),
        };
        runs.splice(first..behind, [merged]);
    }

    /// Delivers the runs that the delivered part has reached.
    fn absorb(&mut self) {
        let Some(runs) = &mut self.ahead else { return };
        let reached = runs.iter().take_while(|run| run.0 <= self.delivered).count();
        for run in runs.drain(..reached) {
            self.delivered = self.delivered.max(run.1);
        }
        if runs.is_empty() {
            self.ahead = None;
        }
    }

    /// Data up to `seq` were acknowledged. Every hole below is handed to `gap` with its length. `ignore_start`: the
    /// connection was picked up in mid-stream, so that its first byte may never have been there.
    pub(super) fn acknowledged(&mut self, seq: u64, ignore_start: bool, mut gap: impl FnMut(u64)) -> bool {
        if seq <= self.trimmed {
            return false;
        }
        if seq > self.delivered && !(seq <= 2 && ignore_start) {
            while !self.gave_up {
                let next = self.ahead.as_ref().and_then(|runs| runs.first()).map(|run| run.0);
                let Some(start) = next.filter(|start| *start < seq) else { break };
                gap(start - self.delivered);
                self.delivered = start;
                self.absorb();
            }
            if seq > self.delivered {
                if !self.gave_up {
                    gap(seq - self.delivered);
                }
                self.delivered = seq;
            }
        }
        self.trimmed = seq;
        self.absorb();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(stream: &mut Stream, ack: u64) -> Vec<u64> {
        let mut found = Vec::new();
        stream.acknowledged(ack, false, |length| found.push(length));
        found
    }

    #[test]
    fn in_order_and_acknowledged_leaves_nothing() {
        let mut stream = Stream::default();
        stream.data(1, 101, true, 100);
        assert!(stream.holds_any());
        assert!(gaps(&mut stream, 101).is_empty());
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
        assert_eq!(gaps(&mut stream, 51), [10, 10]);
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
        assert!(gaps(&mut stream, 41).is_empty());
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
