//! Connections and memory of all shards, against the bounds of one table.
//!
//! Shards have no bounds of their own. As long as their peaks together stay within the bounds, one table would have
//! stayed within them, too: a shard sweeps no more than one table does.

use conntrack_base::sync::{AtomicUsize, Ordering};
use conntrack_track::config::Bounds;
use conntrack_track::tracker::{MOST_ERRORS, Tracker};

/// Sixteenths of the memory that a table may not fill with one kind of connections; see the table's room.
const HELD_BACK: usize = 3;

/// The peaks of the shards.
pub(super) struct Level {
    bounds: Bounds,
    /// Connections and bytes of each shard, the last one that of ICMP.
    peaks: Vec<[AtomicUsize; 2]>,
    hit: AtomicUsize,
}

impl Level {
    pub(super) fn new(bounds: Bounds, shards: usize) -> Self {
        let peaks = std::iter::repeat_with(|| [0, 0].map(AtomicUsize::new)).take(shards + 1).collect();
        Self { bounds, peaks, hit: AtomicUsize::new(0) }
    }

    /// Notes a shard after a batch. True: one table might have hit a bound.
    pub(super) fn note(&self, shard: usize, tracker: &Tracker) -> bool {
        let Some([connections, bytes]) = self.peaks.get(shard).filter(|_| self.bounds != Bounds::default()) else {
            return false;
        };
        connections.store(tracker.peak(), Ordering::Release);
        bytes.fetch_max(tracker.bytes(), Ordering::AcqRel);
        let sum = |at: usize| self.peaks.iter().map(|peak| peak[at].load(Ordering::Acquire)).sum::<usize>();
        let is_icmp = shard + 1 == self.peaks.len();
        let is_hit = sum(0) > self.bounds.connections
            || sum(1) > self.bounds.bytes - self.bounds.bytes / 16 * HELD_BACK
            || (is_icmp && tracker.peak() > MOST_ERRORS);
        if is_hit {
            self.hit.store(1, Ordering::Release);
        }
        is_hit
    }

    pub(super) fn is_hit(&self) -> bool {
        self.hit.load(Ordering::Acquire) > 0
    }
}
