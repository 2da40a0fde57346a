//! A [`View`] of a TCP connection on which nothing unusual happened, in a few numbers: everything came once, no number
//! wrapped, and behind a hole at most two runs of data wait. What else it holds follows from them.

use crate::flow::Side;

use super::endpoint::Endpoint;
use super::history::Letters;
use super::stream::Stream;
use super::{EndState, View};

/// Runs of data that may wait behind holes.
pub const RUNS: usize = 2;

/// One end.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
pub struct End {
    /// Sequence number of the SYN.
    pub start: u32,
    /// Behind the last one sent.
    pub last: u32,
    /// Highest acknowledged.
    pub acked: u32,
    /// Relative number before which everything was delivered or is lost.
    pub delivered: u64,
    /// The first runs of data behind holes, in relative numbers; (0, 0): no more.
    pub ahead: [(u64, u64); RUNS],
    /// Its state.
    pub state: EndState,
    /// The one before.
    pub before: EndState,
    /// It sent a FIN.
    pub fin: bool,
    /// Its close was taken note of.
    pub closed: bool,
    /// A packet of it was seen.
    pub seen: bool,
    /// The end of its data was reported.
    pub ended: bool,
}

/// What is known of both.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
pub struct Facts {
    /// Picked up in mid-stream.
    pub partial: bool,
    /// The handshake is over.
    pub established: bool,
    /// Its end was reported.
    pub reported: bool,
    /// A close waits for its data.
    pub deferred: bool,
}

impl View {
    /// An end's numbers. They are all there is to say only of an ordinary connection.
    pub fn end(&self, side: Side) -> End {
        let end = &self.ends[side as usize];
        let mut ahead = [(0, 0); RUNS];
        for (place, run) in ahead.iter_mut().zip(end.stream.ahead()) {
            *place = *run;
        }
        End {
            start: end.start,
            last: end.last,
            acked: end.acked,
            delivered: end.stream.delivered(),
            ahead,
            state: end.state,
            before: end.before,
            fin: end.fin,
            closed: end.closed,
            seen: end.seen,
            ended: end.stream.ended(),
        }
    }

    /// Sets an end of an ordinary connection.
    pub fn set_end(&mut self, side: Side, end: End) {
        let sent = u64::from(end.last.wrapping_sub(end.start));
        let acked = u64::from(end.acked.wrapping_sub(end.start));
        let trimmed = acked.min(sent.saturating_sub(u64::from(end.fin)));
        let before_fin = if end.fin { sent.saturating_sub(1) as u32 } else { 0 };
        let behind_rst = if end.state == EndState::Reset { sent as u32 } else { 0 };
        self.ends[side as usize] = Endpoint {
            start: end.start,
            last: end.last,
            acked: end.acked,
            marks: [0, before_fin, behind_rst],
            fin_end: if end.fin { sent } else { 0 },
            stream: Stream::of_runs(end.delivered, trimmed.max(1), &end.ahead, end.ended),
            state: end.state,
            before: end.before,
            fin: end.fin,
            closed: end.closed,
            seen: end.seen,
            ..Endpoint::default()
        };
    }

    /// What is known of both ends.
    pub fn facts(&self) -> Facts {
        Facts {
            partial: self.partial,
            established: self.timers.established,
            reported: self.timers.reported,
            deferred: self.timers.deferred,
        }
    }

    /// Sets what is known of both ends.
    pub fn set_facts(&mut self, facts: Facts) {
        self.partial = facts.partial;
        self.timers.established = facts.established;
        self.timers.reported = facts.reported;
        self.timers.deferred = facts.deferred;
    }

    /// Sets how many bytes were acknowledged and not captured.
    pub fn set_missed(&mut self, missed: u64) {
        self.missed = missed;
    }

    /// The letters.
    pub fn letters(&self) -> &Letters {
        &self.letters
    }

    /// Sets the letters.
    pub fn set_letters(&mut self, letters: Letters) {
        self.letters = letters;
    }

    /// Sets the capture time of the last packet that counts for `duration`.
    pub fn set_active_until(&mut self, ts: i64) {
        self.timers.active_until = ts;
    }
}
