//! Statistics of a run: records read, and records skipped by reason.

use std::collections::BTreeMap;
use std::path::Path;

use crate::quality::Quality;

/// Records skipped for one reason, and the position of the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Number of records.
    pub count: u64,
    /// File of the first record, as named by the caller.
    pub file: String,
    /// Offset of the first record in the (uncompressed) file, bytes.
    pub offset: u64,
}

/// Statistics of a run.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Records read.
    pub packets: u64,
    /// Bytes of the records on the wire.
    pub bytes: u64,
    /// Records cut by the snaplen.
    pub snapped: u64,
    /// Records in no connection and places of damage, by reason.
    pub skipped: BTreeMap<&'static str, Skipped>,
    /// Connections evicted because the table was full.
    pub evicted: u64,
    /// Connections begun.
    pub connections: u64,
    /// Maximum of live connections.
    pub peak_connections: u64,
    /// Capture time of the first record in capture order, nanoseconds.
    pub first: Option<i64>,
    /// Latest capture time, nanoseconds.
    pub last: Option<i64>,
    /// Quality of the capture.
    pub quality: Quality,
}

impl Stats {
    /// Adds to a reason, and keeps the position of its first record.
    pub fn skip(&mut self, reason: &'static str, count: u64, file: &Path, offset: u64) {
        let place = || Skipped { count: 0, file: file.to_string_lossy().into_owned(), offset };
        self.skipped.entry(reason).or_insert_with(place).count += count;
    }
}
