//! Memory of what ends a connection by time; the rules are in [`super::boundary`].

use serde::{Deserialize, Serialize};

/// What ends a connection that its packets do not end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
pub(crate) struct Timers {
    /// Capture time of the last packet that counts.
    pub(crate) active_until: i64,
    /// Zeek decides when the connection ends: only then the next two are kept.
    pub(super) run: bool,
    /// The originator's first SYN.
    pub(super) attempted: Since,
    /// When both ends had closed.
    pub(super) closed: Since,
    /// The handshake is over.
    pub(crate) established: bool,
    /// Its end was reported, so that attempts and half-closes are no longer looked at.
    pub(crate) reported: bool,
    /// An end's close waits until its data is delivered.
    pub(crate) deferred: bool,
    /// Zeek's DNS analyzer follows it.
    pub(super) dns: bool,
}

/// The capture time at which something began, if it did, in half the room of an Option.
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
