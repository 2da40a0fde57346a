//! Facts that packets show and rows do not: connections that messages announce, and begins of files. A distributed run hands
//! them on beside the rows, for the second pass.

use std::collections::{HashMap, HashSet, VecDeque};

use conntrack_base::time::timed;
use conntrack_capture::Record;
use conntrack_output::rows::{Row, Rows};
use conntrack_track::direction::{Expectation, Expectations};
use conntrack_track::flow::descriptor::kind;

use super::reading::Batch;

/// Facts beside a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// Announced connections.
    pub announced: Vec<Expectation>,
    /// Capture times of the first records of files, nanoseconds.
    pub begins: Vec<i64>,
}

/// Begins of files, in the order of their first records that have a time.
#[derive(Default)]
pub struct Begins {
    files: HashSet<u32>,
    /// Files and times that are not handed on yet.
    pub waiting: VecDeque<(u32, i64)>,
}

impl Begins {
    /// For a single file that is read from within.
    pub fn behind() -> Self {
        Self { files: HashSet::from([0]), ..Self::default() }
    }

    /// Notes a record.
    pub fn note(&mut self, record: &Record) {
        if let Some(ts) = timed(record.ts).filter(|_| self.files.insert(record.file)) {
            self.waiting.push_back((record.file, ts));
        }
    }
}

/// Facts that no row has yet.
#[derive(Default)]
pub struct FactsSoFar {
    /// All announcements: further ones than a bound are left out.
    all: Expectations,
    /// Announcements in connections that live, by number.
    announced: HashMap<u64, Vec<Expectation>>,
    /// Begins of files, and announcements without a connection: of the next row.
    waiting: Noted,
}

impl FactsSoFar {
    /// Notes begins of files.
    pub fn begin(&mut self, begins: impl IntoIterator<Item = i64>) {
        self.waiting.begins.extend(begins);
    }

    /// Notes the announcements in a record of this connection.
    pub fn note(&mut self, connection: Option<u64>, batch: &Batch<'_>, at: usize) {
        if !batch.decoded.descriptors[at].is(kind::OTHER | kind::ANNOUNCES) {
            return;
        }
        let mut found = Expectations::default();
        batch.note_announcements(at, &mut found);
        for one in found.iter().copied().filter(|one| self.all.insert(*one)) {
            match connection {
                Some(number) => self.announced.entry(number).or_default().push(one),
                None => self.waiting.announced.push(one),
            }
        }
    }

    /// The facts of rows. Without a row they wait: a part without connections has no facts.
    pub fn of(&mut self, rows: &Rows) -> Vec<Noted> {
        let mut own = |row: Row<'_>| self.announced.remove(&row.number()).unwrap_or_default();
        let mut noted: Vec<Noted> = rows.iter().map(|row| Noted { announced: own(row), begins: Vec::new() }).collect();
        if let Some(first) = noted.first_mut() {
            first.begins.append(&mut self.waiting.begins);
            first.announced.append(&mut self.waiting.announced);
        }
        noted
    }
}
