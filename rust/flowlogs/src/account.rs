//! The account of a run over logs: bad lines by reason with the first one's place, and facts to warn of.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Characters of a bad line that are kept.
const SHOWN: usize = 120;

/// Bad records of one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Number of records.
    pub count: u64,
    /// File of the first.
    pub file: PathBuf,
    /// Line of the first, from 1; of a binary file the byte offset.
    pub place: u64,
    /// Beginning of the first.
    pub text: String,
}

/// The account of a run.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Records read, bad ones included.
    pub records: u64,
    /// Bytes of the files, uncompressed.
    pub bytes: u64,
    /// Files with their kinds.
    pub kinds: Vec<(PathBuf, &'static str)>,
    /// Bad records by reason.
    pub skipped: BTreeMap<&'static str, Problem>,
    /// Records that tell of a time without traffic (AWS `NODATA`).
    pub no_data: u64,
    /// Records that tell of records that are missing (AWS `SKIPDATA`), with the place of the first.
    pub missing: Option<Problem>,
    /// Records of other things than flows: events, intermediate logs.
    pub other: u64,
    /// Records of sampled packets.
    pub sampled: u64,
    /// Connections that several observers logged: the larger counts were kept.
    pub seen_twice: u64,
    /// TCP connections whose records have no flags.
    pub without_flags: u64,
    /// Files passed over, with the reason.
    pub skipped_files: Vec<(PathBuf, String)>,
    /// Connections that were refused.
    pub refused: u64,
    /// Connections of one direction.
    pub one_way: u64,
    /// Connections.
    pub connections: u64,
}

impl Account {
    /// Counts a bad record.
    pub fn bad(&mut self, reason: &'static str, place: (&std::path::Path, u64), text: &[u8]) {
        note(self.skipped.entry(reason).or_insert_with(|| problem(place, text)));
    }

    /// Counts a record that tells of missing ones.
    pub fn miss(&mut self, place: (&std::path::Path, u64), text: &[u8]) {
        note(self.missing.get_or_insert_with(|| problem(place, text)));
    }
}

fn note(problem: &mut Problem) {
    problem.count += 1;
}

fn problem(place: (&std::path::Path, u64), text: &[u8]) -> Problem {
    let shown: String = String::from_utf8_lossy(&text[..text.len().min(4 * SHOWN)]).chars().take(SHOWN).collect();
    Problem { count: 0, file: place.0.to_owned(), place: place.1, text: shown }
}
