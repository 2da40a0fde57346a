//! Timers that end a connection; the rules are in [`super::boundary`].

use serde::{Deserialize, Serialize};

/// The timers that end a connection without a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
pub(crate) struct Timers {
    /// Capture time of the last packet that counts.
    pub(crate) active_until: i64,
    /// Zeek's timers decide on the end; otherwise `attempted` and `closed` are unset.
    pub(super) run: bool,
    /// The originator's first SYN.
    pub(super) attempted: Since,
    /// The time at which both ends had closed.
    pub(super) closed: Since,
    /// The handshake is over.
    pub(crate) established: bool,
    /// The end was reported: attempts and half-closes are no longer checked.
    pub(crate) reported: bool,
    /// An end's close waits until its data is delivered.
    pub(crate) deferred: bool,
    /// Zeek's DNS analyzer is attached.
    pub(super) dns: bool,
}

/// The capture time of an event, if any, in half the size of an `Option`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Since(i64);

impl Default for Since {
    fn default() -> Self {
        Self(i64::MAX)
    }
}

impl Since {
    pub(super) fn begin(&mut self, ts: i64) {
        if *self == Self::default() {
            self.0 = ts;
        }
    }

    pub(super) fn get(self) -> Option<i64> {
        (self != Self::default()).then_some(self.0)
    }
}

impl Timers {
    /// The originator's first SYN.
    pub(super) fn attempt(&mut self, ts: i64) {
        if self.run {
            self.attempted.begin(ts);
        }
    }
}
