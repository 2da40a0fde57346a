//! What was read, what was not and why.

use std::collections::BTreeMap;
use std::path::Path;

use crate::quality::Quality;

/// A reason for skipping, and where it first happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many records.
    pub count: u64,
    /// The file of the first one, as named by the caller.
    pub file: String,
    /// Its offset in the (uncompressed) file.
    pub offset: u64,
}

/// The account of a run.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Records read.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Records shorter than on the wire, cut by the capture's snaplen.
    pub snapped: u64,
    /// Records in no connection and places of damage, by reason.
    pub skipped: BTreeMap<&'static str, Skipped>,
    /// Connections evicted because the table was full.
    pub evicted: u64,
    /// Connections begun.
    pub connections: u64,
    /// The most connections that lived at once.
    pub peak_connections: u64,
    /// Capture time of the first record in capture order, nanoseconds.
    pub first: Option<i64>,
    /// Latest capture time, nanoseconds.
    pub last: Option<i64>,
    /// What the capture is worth.
    pub quality: Quality,
}

impl Stats {
    /// Counts a reason, and keeps the place of its first time.
    pub fn skip(&mut self, reason: &'static str, count: u64, file: &Path, offset: u64) {
        let place = || Skipped { count: 0, file: file.to_string_lossy().into_owned(), offset };
        self.skipped.entry(reason).or_insert_with(place).count += count;
    }
}
