//! A directory of files by a property of the rows, laid out as Hive does (`direction=egress/part-0.parquet`), which DuckDB,
//! Polars, PyArrow and Spark read as columns.
//!
//! An hour is `hour=2026-11-25T14`: all four programs read it as text, while each infers another type for a date or a padded
//! number. Names and values sort by time, and have no `:`, which file systems and Hive escape. Columns in the path are left out
//! of the files, where they would be a second column of another type.

use std::collections::BTreeMap;
use std::fs::{self, File};

use arrow_schema::ArrowError;
use conntrack_core::columns::Column;
use conntrack_core::direction::Direction;
use conntrack_core::rows::Row;
use conntrack_core::time::{SECOND, UNTIMED, hour};
use conntrack_core::zeek_log::Seed;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::format::{Encoder, Format};
use super::place::PartialFile;
use super::sink::buffered;
use crate::table::Table;

/// Maximum of open files. The least recently used one is closed for another; later rows of its partition go to a new file.
const MOST_OPEN: usize = 32;
/// Seconds of an hour.
const HOUR: i64 = 3600;

/// Partition key of a row.
#[derive(Clone, Copy)]
pub enum By {
    /// The direction of the connection.
    Direction,
    /// The hour, in UTC, in which it began.
    Hour,
}

impl By {
    /// Key of connections without a time.
    const NO_HOUR: i64 = UNTIMED.div_euclid(SECOND * HOUR);

    /// The property of this name.
    pub fn named(name: &str) -> PyResult<Self> {
        match name {
            "direction" => Ok(Self::Direction),
            "hour" => Ok(Self::Hour),
            _ => Err(PyValueError::new_err(format!("by: found {name:?}, expected direction or hour"))),
        }
    }

    /// Partition key of a row.
    pub fn key(self, row: Row<'_>) -> i64 {
        match self {
            Self::Direction => row.direction() as i64,
            Self::Hour => row.start().div_euclid(SECOND * HOUR),
        }
    }

    /// Name of a partition's folder.
    pub fn folder(self, key: i64) -> String {
        match self {
            Self::Direction => format!("direction={}", Direction::NAMES[key as usize]),
            // Hive's name of null, which readers of partitions know.
            Self::Hour if key == By::NO_HOUR => "hour=__HIVE_DEFAULT_PARTITION__".to_owned(),
            Self::Hour => format!("hour={}", hour(key * SECOND * HOUR)),
        }
    }

    /// Test for the name of a partition's folder.
    pub fn is_folder(self, name: &str) -> bool {
        name.starts_with(match self {
            Self::Direction => "direction=",
            Self::Hour => "hour=",
        })
    }

    /// Columns of the files.
    pub fn columns(self, of: &[&'static Column]) -> Vec<&'static Column> {
        let is_in_path = |column: &Column| matches!(self, Self::Direction) && column.name == "direction";
        of.iter().filter(|column| !is_in_path(column)).copied().collect()
    }
}

/// The files of a directory.
pub struct Partitions {
    by: By,
    format: Format,
    part: PartialFile,
    open: BTreeMap<i64, OpenFile>,
    /// Number of files of each partition so far.
    files: BTreeMap<i64, u32>,
    /// Rows so far, over all tables.
    rows: u64,
}

struct OpenFile {
    encoder: Encoder,
    /// Indices of rows of the current table to be written.
    places: Vec<usize>,
    /// Clock of the last use.
    used: u64,
}

impl OpenFile {
    fn write(&mut self, table: &Table, seed: Seed) -> Result<(), ArrowError> {
        let row = |place: &usize| table.rows.get(*place).expect("a place of this table");
        self.encoder.append(self.places.iter().map(row), seed)?;
        self.places.clear();
        Ok(())
    }
}

impl Partitions {
    /// None yet.
    pub fn new(by: By, format: Format, part: PartialFile) -> Self {
        Self { by, format, part, open: BTreeMap::new(), files: BTreeMap::new(), rows: 0 }
    }

    /// Writes the rows of a table to their files, in their order.
    pub fn append(&mut self, table: &Table, seed: Seed) -> Result<(), ArrowError> {
        for (place, row) in table.rows.iter().enumerate() {
            let key = self.by.key(row);
            self.rows += 1;
            if !self.open.contains_key(&key) {
                self.make_room(table, seed)?;
                let file = self.begin(key, table)?;
                self.open.insert(key, file);
            }
            if let Some(file) = self.open.get_mut(&key) {
                file.places.push(place);
                file.used = self.rows;
            }
        }
        self.open.values_mut().try_for_each(|file| file.write(table, seed))
    }

    fn make_room(&mut self, table: &Table, seed: Seed) -> Result<(), ArrowError> {
        while self.open.len() >= MOST_OPEN {
            let longest = self.open.iter().min_by_key(|(_, file)| file.used).map(|(key, _)| *key);
            let Some(mut file) = longest.and_then(|key| self.open.remove(&key)) else { break };
            file.write(table, seed)?;
            file.encoder.finish()?;
        }
        Ok(())
    }

    fn begin(&mut self, key: i64, table: &Table) -> Result<OpenFile, ArrowError> {
        let number = self.files.entry(key).or_default();
        let folder = self.part.place().join(self.by.folder(key));
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("part-{number}.{}", self.format.suffix()));
        *number += 1;
        let out = buffered(File::create_new(path)?);
        let encoder = Encoder::new(self.format, out, self.by.columns(&table.columns), &table.zones)?;
        Ok(OpenFile { encoder, places: Vec::new(), used: 0 })
    }

    /// Ends all files, and gives the directory its name.
    pub fn close(self) -> Result<(), ArrowError> {
        for file in self.open.into_values() {
            file.encoder.finish()?;
        }
        Ok(self.part.complete()?)
    }
}
