//! Files whose records step back in time by more than the window of the tracker: sorting them first gives better results.

use std::collections::BTreeMap;

use conntrack_base::time::SECOND;
use conntrack_capture::{Record, RecordBatch};
use conntrack_track::config::Config;

/// Least step where the tracker puts no handshakes in order, nanoseconds.
const LEAST_STEP: i64 = SECOND / 10;

/// Steps back in time within files. Those between two captures of a file are the account of the parts.
pub struct StepsBack {
    window: i64,
    last: Option<Record>,
    /// The largest step of each file, nanoseconds.
    pub largest: BTreeMap<u32, i64>,
}

impl StepsBack {
    /// Steps larger than the window in which handshakes are put in order.
    pub fn new(config: &Config) -> Self {
        let window = if config.reorder_window > 0 { config.reorder_window } else { LEAST_STEP };
        Self { window, last: None, largest: BTreeMap::new() }
    }

    /// Note some records of a batch; `are_sorted`: they do not step back among themselves.
    #[inline]
    pub fn note(&mut self, records: &[Record], batch: &RecordBatch, are_sorted: bool) {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return };
        if !are_sorted || self.last.is_some_and(|before| first.ts < before.ts) {
            self.look(records, batch);
        }
        self.last = Some(*last);
    }

    #[cold]
    fn look(&mut self, records: &[Record], batch: &RecordBatch) {
        for record in records {
            let before = self.last.replace(*record).unwrap_or(*record);
            let step = before.ts.saturating_sub(record.ts);
            let is_within = || {
                let begins =
                    |part: &(u32, u64)| part.0 == record.file && (before.offset..=record.offset).contains(&part.1);
                // Another capture may have the same number.
                let is_behind = before.file == record.file && before.offset < record.offset;
                is_behind && !batch.parts.iter().any(begins)
            };
            if step > self.window && is_within() {
                let largest = self.largest.entry(record.file).or_insert(0);
                *largest = step.max(*largest);
            }
        }
    }
}
