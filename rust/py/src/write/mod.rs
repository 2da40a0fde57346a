//! Tables to files: one file, a directory of files by a property of the rows, or a Python file object.

mod format;
mod partition;
mod sink;

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_schema::ArrowError;
use conntrack_core::columns::COLUMNS;
use conntrack_core::zeek_log::Seed;
use pyo3::exceptions::{PyFileExistsError, PyValueError};
use pyo3::prelude::*;

use crate::errors::{arrow_error, system_error};
use crate::table::{Run, Table};
use format::Encoder;
pub use format::{Content, Format};
use partition::{By, Partitions};
use sink::{Out, PartialFile};
pub use sink::{PyWrite, complete};

/// A target that tables are written to, one after another.
pub struct Writing {
    format: Format,
    /// Path for error messages; None for a file object.
    path: Option<PathBuf>,
    sink: Sink,
    /// Zones of the first table; other zones in a later table are an error.
    zones: Option<Vec<String>>,
    /// Run of the last table.
    run: Option<Arc<Run>>,
    /// Number of runs, which tells two runs of one capture apart.
    runs: u64,
}

enum Sink {
    /// A file before its first table.
    Waiting(Out, Option<PartialFile>),
    /// An open file. Without a part to rename, a pipe may have a reader.
    File(Box<Encoder>, Option<PartialFile>),
    Directory(Partitions),
}

impl Writing {
    /// The path of the target; None: a file object.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Opens a path or a binary file object.
    pub fn open(target: &Bound<'_, PyAny>, format: &str, by: Option<&str>) -> PyResult<Self> {
        let format = Format::named(format).ok_or_else(|| {
            PyValueError::new_err(format!("{format:?}: expected one of {}", Format::NAMES.join(", ")))
        })?;
        let by = by.map(By::named).transpose()?;
        if target.hasattr("write")? {
            if by.is_some() {
                return Err(PyValueError::new_err("by: a file object is no directory: give a path"));
            }
            let out: Out = Box::new(BufWriter::new(PyWrite::new(target.clone().unbind())));
            return Ok(Self::new(format, None, Sink::Waiting(out, None)));
        }
        let path: PathBuf = target.extract()?;
        let sink = match by {
            Some(by) => PartialFile::directory(&path).map(|part| Sink::Directory(Partitions::new(by, format, part))),
            None => sink::open(&path).map(|(file, part)| Sink::Waiting(Box::new(BufWriter::new(file)), part)),
        };
        match sink {
            Ok(sink) => Ok(Self::new(format, Some(path), sink)),
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Err(not_empty(&path)),
            Err(error) => Err(with_path(error.into(), Some(&path))),
        }
    }

    fn new(format: Format, path: Option<PathBuf>, sink: Sink) -> Self {
        Self { format, path, sink, zones: None, run: None, runs: 0 }
    }

    /// Appends a table, and flushes complete rows to the reader of a pipe.
    pub fn write(&mut self, table: &Table) -> Result<(), ArrowError> {
        self.begin(&table.zones)?;
        let Some(first) = table.rows.get(0) else { return self.flush_complete() };
        if self.run.as_ref().is_none_or(|run| !Arc::ptr_eq(run, &table.run)) {
            self.run = Some(table.run.clone());
            self.runs += 1;
        }
        let seed = *table.run.seed.get_or_init(|| Seed::of(first, self.runs - 1));
        match &mut self.sink {
            Sink::File(encoder, _) => encoder.append(table.rows.iter(), seed)?,
            Sink::Directory(partitions) => partitions.append(table, seed)?,
            Sink::Waiting(..) => {}
        }
        self.flush_complete()
    }

    /// Opens the format, whose columns of zones are the first table's.
    fn begin(&mut self, zones: &[String]) -> Result<(), ArrowError> {
        match &self.zones {
            Some(known) if known != zones => {
                let message = format!("zones: found {zones:?}, expected those of the tables before, {known:?}");
                return Err(ArrowError::InvalidArgumentError(message));
            }
            Some(_) => return Ok(()),
            None => self.zones = Some(zones.to_vec()),
        }
        if let Sink::Waiting(out, part) = &mut self.sink {
            let (out, part) = (std::mem::replace(out, Box::new(std::io::sink())), part.take());
            let encoder = Encoder::new(self.format, out, COLUMNS.iter().collect(), zones)?;
            self.sink = Sink::File(Box::new(encoder), part);
        }
        Ok(())
    }

    fn flush_complete(&mut self) -> Result<(), ArrowError> {
        match &mut self.sink {
            Sink::File(encoder, None) => encoder.flush(),
            _ => Ok(()),
        }
    }

    /// Completes the file or directory, which now has its name.
    pub fn close(mut self) -> Result<(), ArrowError> {
        if self.zones.is_none() {
            self.begin(&[])?;
        }
        match self.sink {
            Sink::File(encoder, part) => {
                encoder.finish()?;
                Ok(part.map_or(Ok(()), PartialFile::complete)?)
            }
            Sink::Directory(partitions) => partitions.close(),
            Sink::Waiting(..) => Ok(()),
        }
    }
}

/// Writes a whole table.
pub fn write(py: Python<'_>, table: &Table, target: &Bound<'_, PyAny>, format: &str, by: Option<&str>) -> PyResult<()> {
    let mut writing = Writing::open(target, format, by)?;
    let path = writing.path.clone();
    py.detach(|| writing.write(table).and_then(|()| writing.close())).map_err(|error| with_path(error, path.as_deref()))
}

fn not_empty(path: &Path) -> PyErr {
    let found = path.display();
    PyFileExistsError::new_err(format!(
        "{found}: found files in it, expected no directory or an empty one: remove them, or give another one"
    ))
}

/// The exception for an error of writing, with the path where the system refused.
pub fn with_path(error: ArrowError, path: Option<&Path>) -> PyErr {
    let found = |source: &std::io::Error| path.and_then(|path| system_error(source, path));
    match error {
        ArrowError::IoError(_, source) => found(&source).unwrap_or_else(|| source.into()),
        ArrowError::ExternalError(source) => match source.downcast::<std::io::Error>() {
            Ok(source) => found(&source).unwrap_or_else(|| (*source).into()),
            Err(source) => arrow_error(ArrowError::ExternalError(source)),
        },
        ArrowError::InvalidArgumentError(message) => PyValueError::new_err(message),
        error => arrow_error(error),
    }
}
