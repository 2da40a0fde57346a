//! Statistics of a run: records read, and records skipped by reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::quality::Quality;

/// Records skipped for one reason, and the position of the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Number of records.
    pub count: u64,
    /// File of the first record, as named by the caller.
    pub file: PathBuf,
    /// Offset of the first record in the (uncompressed) file, bytes.
    pub offset: u64,
}

/// A file that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedFile {
    /// The file, as named by the caller.
    pub file: PathBuf,
    /// Reason, without the file's name.
    pub reason: String,
    /// Byte offset in the uncompressed file up to which the file was read; None where the file could not be opened.
    pub offset: Option<u64>,
    /// Records before the error, which are counted and used.
    pub packets: u64,
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
    /// Files passed over, in their order.
    pub skipped_files: Vec<SkippedFile>,
    /// Records without IP by protocol. The most frequent protocols have an entry each, all others one together.
    pub not_ip: BTreeMap<String, u64>,
    /// Bytes of the (uncompressed) files that damage cost, by reason.
    pub skipped_bytes: BTreeMap<&'static str, u64>,
    /// Bytes of the (uncompressed) files read.
    pub file_bytes: u64,
    /// Captures read: files, those one behind the other in a file, and pcapng sections.
    pub parts: u64,
    /// Packets of connections after their report: a stream reports a connection at its close.
    pub after_close: u64,
    /// Captures merged by time with others of their file.
    pub merged_parts: u64,
    /// Captures that begin before the end of earlier ones of their file, and were read as stored.
    pub early_parts: u64,
    /// Files whose records step back in time by more than the reorder window, and the largest step, nanoseconds.
    pub unsorted: BTreeMap<PathBuf, i64>,
    /// Connections evicted because the table was full.
    pub evicted: u64,
    /// Connections and fragmented datagrams evicted, by the bound that was hit.
    pub evicted_by: BTreeMap<&'static str, u64>,
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
        let place = || Skipped { count: 0, file: file.to_owned(), offset };
        self.skipped.entry(reason).or_insert_with(place).count += count;
    }
}
