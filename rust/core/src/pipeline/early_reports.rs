//! Reports of connections at their close, while their entries live on.
//!
//! A gateway keeps the entry of a closed connection for a while (TIME_WAIT: 120 s). The row is due at the close. The
//! entry's later packets (retransmitted FINs, stray acknowledgements) are counted in the account, not in the row.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use conntrack_base::checkpoint::{CheckpointError, Reader, Writer};
use conntrack_output::rows::Finished;
use conntrack_track::connection::{Connection, EndReason};
use conntrack_track::flow::descriptor::kind;
use conntrack_track::proto::{CtState, State};
use conntrack_track::table::FinalConnection;
use conntrack_track::tracker::{Closed, Label, Tracker};

use super::reading::Batch;

/// Live connections that were reported at their close.
#[derive(Default)]
pub(super) struct EarlyReports {
    /// Report connections at their close.
    at_close: bool,
    /// Numbers of the connections reported, whose entries live.
    reported: HashSet<u64>,
    /// Packets of connections after their report.
    after_close: u64,
}

impl EarlyReports {
    /// Test for reports at the close.
    pub(super) fn are_wanted(&self) -> bool {
        self.at_close
    }

    /// Report at the close, or no longer. True: closed connections of the table are due.
    pub(super) fn set(&mut self, at_close: bool) -> bool {
        !std::mem::replace(&mut self.at_close, at_close) && at_close
    }

    /// The number of packets after reports.
    pub(super) fn after_close(&self) -> u64 {
        self.after_close
    }

    /// Forget a connection whose entry is gone; true: the connection was reported.
    pub(super) fn take(&mut self, id: u64) -> bool {
        self.reported.remove(&id)
    }

    /// Report the closed connections of a table, in the order of first packets.
    pub(super) fn report_all(&mut self, tracker: &Tracker, rows: &mut Finished) {
        for connection in tracker.snapshot() {
            self.report(connection, tracker, rows);
        }
    }

    /// Report the connection of record `at` if its packet closed the connection, or count the packet.
    #[inline]
    pub(super) fn note(
        &mut self,
        tracker: &Tracker,
        label: &Label,
        (batch, at, guess): (&Batch<'_>, usize, u32),
        rows: &mut Finished,
    ) {
        let Some(id) = label.connection else { return };
        if label.ctstate == CtState::Related {
            return;
        }
        match label.state {
            State::TimeWait | State::Close | State::Closed | State::None => {
                if self.reported.contains(&id) {
                    self.after_close += 1;
                } else if self.at_close
                    && let Some(connection) = found(tracker, batch, at, guess).filter(|found| found.id == id)
                {
                    self.report(connection, tracker, rows);
                }
            }
            // An association that begins again within its entry (RFC 9260, 5.2.2) is due once more.
            State::CookieWait => {
                self.reported.remove(&id);
            }
            _ => {}
        }
    }

    fn report(&mut self, connection: Connection, tracker: &Tracker, rows: &mut Finished) {
        let reason = connection.end_reason(EndReason::EndOfCapture);
        if !is_close(reason) || !self.reported.insert(connection.id) {
            return;
        }
        let places = tracker.keys().places(&connection.key);
        let what = FinalConnection::Whole(Box::new(connection));
        rows.insert(&Closed { what, places, reason, stopped: None, gone: None });
    }

    /// Write to a checkpoint.
    pub(super) fn save(early: Option<&Self>, out: &mut Writer<'_, impl Write>) -> io::Result<()> {
        let none = Self::default();
        let early = early.unwrap_or(&none);
        let mut reported: Vec<u64> = early.reported.iter().copied().collect();
        reported.sort_unstable();
        out.put(&early.at_close)?;
        out.put_all(reported.len(), reported.iter())
    }

    /// Read from a checkpoint. A number that is not alive in the table is an error.
    pub(super) fn load(from: &mut Reader<impl Read>, tracker: &Tracker) -> Result<Option<Self>, CheckpointError> {
        let mut early = Self { at_close: from.get()?, ..Self::default() };
        let mut last = None;
        from.get_all(|id: u64| {
            if last.replace(id).is_some_and(|last| last >= id) || id >= tracker.begun() {
                return Err(CheckpointError::damaged("reported connections are not in order, or have not begun"));
            }
            early.reported.insert(id);
            Ok(())
        })?;
        Ok((early.at_close || !early.reported.is_empty()).then_some(early))
    }
}

/// Test for an end by the connection's own packets.
pub(super) fn is_close(reason: EndReason) -> bool {
    matches!(reason, EndReason::Closed | EndReason::Reset)
}

/// The connection of a record.
pub(super) fn found(tracker: &Tracker, batch: &Batch<'_>, at: usize, guess: u32) -> Option<Connection> {
    let one = &batch.decoded.descriptors[at];
    match batch.packets(at).last() {
        Some(packet) if one.is(kind::OTHER) => tracker.look(&tracker.keys().of(packet)),
        _ => tracker.look_one(one, &batch.decoded.broad[at], guess),
    }
}
