//! Counts of connections as they begin, by direction and evidence, for those who watch a stream.

use std::collections::BTreeMap;

use conntrack_output::labels::Labels;
use conntrack_track::conn;
use conntrack_track::direction::Direction;
use conntrack_track::evidence::Evidence;
use conntrack_track::table::NO_SLOT;
use conntrack_track::tracker::Tracker;

use super::early_reports::found;
use super::reading::Batch;

/// Connections begun since the count began.
#[derive(Default)]
pub struct Begun {
    /// The number of the next connection.
    next: u64,
    counts: BTreeMap<(u8, Evidence), u64>,
}

impl Begun {
    /// Counts of connections from the next one on.
    pub fn after(tracker: &Tracker) -> Self {
        Self { next: tracker.begun(), ..Self::default() }
    }

    /// Count the connections that began in a group, whose labels are the last ones. Direction and evidence are those after
    /// the group.
    pub fn note(&mut self, tracker: &Tracker, batch: &Batch<'_>, labels: &Labels) {
        if tracker.begun() == self.next {
            return;
        }
        let first = labels.len().saturating_sub(batch.records.len());
        for at in 0..batch.records.len() {
            let Some(id) = labels.connection(first + at).filter(|id| *id >= self.next) else { continue };
            // A connection that another has replaced within the group is counted with it.
            self.next = id + 1;
            let connection = found(tracker, batch, at, NO_SLOT);
            let (direction, evidence) = connection.map_or((Direction::None, Evidence::Unknown), |connection| {
                let places = tracker.keys().places(&connection.key);
                let direction = conn::direction(places, connection.orig, connection.was_broadcast());
                (direction, connection.evidence)
            });
            *self.counts.entry((direction as u8, evidence)).or_default() += 1;
        }
        self.next = tracker.begun();
    }

    /// The counts.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.counts
            .iter()
            .map(|((direction, evidence), count)| (Direction::numbered(*direction).name(), evidence.name(), *count))
    }
}
