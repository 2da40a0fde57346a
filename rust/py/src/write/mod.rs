//! Tables to files: one file, a directory of files by a property of the rows, or a Python file object.

mod format;
mod json;
mod partition;
mod parts;
pub mod place;
pub mod sink;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_schema::ArrowError;
use conntrack_core::columns::{COLUMNS, Column};
use conntrack_core::zeek_log::Seed;
use pyo3::exceptions::{PyFileExistsError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

use crate::errors::{arrow_error, system_error};
use crate::table::{Run, Table};
use format::Encoder;
pub use format::{Content, Format};
use partition::{By, Partitions};
use parts::Names;
pub use parts::{Parts, Sizes};
use place::PartialFile;
pub use place::complete;
use sink::Out;
pub use sink::PyWrite;

/// A target that tables are written to, one after another.
pub struct Writing {
    format: Format,
    /// Path for error messages; None for a file object.
    path: Option<PathBuf>,
    sink: Sink,
    /// Columns and zones of the first table; others in a later table are an error.
    first: Option<(Vec<&'static Column>, Vec<String>)>,
    /// Run of the last table.
    run: Option<Arc<Run>>,
    /// The file has lines already.
    is_resumed: bool,
    /// Number of runs, which tells two runs of one capture apart.
    runs: u64,
}

enum Sink {
    /// A file before its first table.
    Waiting(Out, Option<PartialFile>),
    /// An open file. Without a part to rename, a pipe may have a reader.
    File(Box<Encoder>, Option<PartialFile>),
    Directory(Partitions),
    /// Files that are published one after another.
    Parts(Box<Parts>),
}

/// Ways to write to a path.
#[derive(Clone, Copy)]
pub enum Manner {
    /// Whole: the output has its name once it is complete.
    Whole,
    /// A file of lines that exists grows at its end, behind so many bytes.
    Grow(u64),
    /// Files one after another, each of which has its name once it is complete.
    Parts(Sizes),
}

impl Writing {
    /// The path of the target; None: a file object.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Opens a path or a binary file object.
    pub fn open(target: &Bound<'_, PyAny>, format: &str, by: Option<&str>, manner: Manner) -> PyResult<Self> {
        let format = Format::named(format).ok_or_else(|| {
            PyValueError::new_err(format!("{format:?}: expected one of {}", Format::NAMES.join(", ")))
        })?;
        let by = by.map(By::named).transpose()?;
        if target.hasattr("write")? {
            if by.is_some() {
                return Err(PyValueError::new_err("by: a file object is no directory: give a path"));
            }
            let out: Out = sink::buffered(PyWrite::new(target.clone().unbind()));
            return Ok(Self::new(format, None, Sink::Waiting(out, None)));
        }
        let path: PathBuf = target.extract()?;
        let sink = match by {
            _ if let Manner::Parts(sizes) = manner => {
                let names = by.map_or_else(|| Names::Series(path.clone()), |by| Names::Hive(path.clone(), by));
                Parts::new(names, format, sizes).map(|parts| Sink::Parts(Box::new(parts)))
            }
            _ if let Manner::Grow(at) = manner => {
                place::grow(&path, at).map(|file| Sink::Waiting(sink::buffered(sink::Lines(file)), None))
            }
            Some(by) => PartialFile::directory(&path).map(|part| Sink::Directory(Partitions::new(by, format, part))),
            None => place::open(&path).map(|(file, part)| Sink::Waiting(sink::buffered(file), part)),
        };
        match sink {
            Ok(sink) => {
                let is_resumed = matches!(manner, Manner::Grow(at) if at > 0);
                Ok(Self { is_resumed, ..Self::new(format, Some(path), sink) })
            }
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Err(not_empty(&path)),
            Err(error) => Err(with_path(error.into(), Some(&path))),
        }
    }

    fn new(format: Format, path: Option<PathBuf>, sink: Sink) -> Self {
        Self { format, path, sink, first: None, run: None, is_resumed: false, runs: 0 }
    }

    /// Appends a table, and flushes complete rows to the reader of a pipe.
    pub fn write(&mut self, table: &Table) -> Result<(), ArrowError> {
        self.begin(&table.columns, &table.zones)?;
        let Some(first) = table.rows.get(0) else { return self.flush_complete() };
        if self.run.as_ref().is_none_or(|run| !Arc::ptr_eq(run, &table.run)) {
            self.run = Some(table.run.clone());
            self.runs += 1;
        }
        let seed = *table.run.seed.get_or_init(|| Seed::of(first, self.runs - 1));
        match &mut self.sink {
            Sink::File(encoder, _) => encoder.append(table.rows.iter(), seed)?,
            Sink::Directory(partitions) => partitions.append(table, seed)?,
            Sink::Parts(parts) => parts.append(table, seed)?,
            Sink::Waiting(..) => {}
        }
        self.flush_complete()
    }

    /// Opens the format, whose columns are the first table's.
    fn begin(&mut self, columns: &[&'static Column], zones: &[String]) -> Result<(), ArrowError> {
        let names = |columns: &[&Column]| columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ");
        match &self.first {
            Some((known, _)) if names(known) != names(columns) => {
                let (found, known) = (names(columns), names(known));
                let message = format!("columns: found {found}, expected those of the tables before, {known}");
                return Err(ArrowError::InvalidArgumentError(message));
            }
            Some((_, known)) if known != zones => {
                let message = format!("zones: found {zones:?}, expected those of the tables before, {known:?}");
                return Err(ArrowError::InvalidArgumentError(message));
            }
            Some(_) => return Ok(()),
            None => self.first = Some((columns.to_vec(), zones.to_vec())),
        }
        if let Sink::Waiting(out, part) = &mut self.sink {
            let (out, part) = (std::mem::replace(out, Box::new(std::io::sink())), part.take());
            let begin = if self.is_resumed { Encoder::resume } else { Encoder::new };
            let encoder = begin(self.format, out, columns.to_vec(), zones)?;
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

    /// The files that are published one after another; None for other targets.
    pub fn parts(&mut self) -> Option<&mut Parts> {
        if let Sink::Parts(parts) = &mut self.sink { Some(parts) } else { None }
    }

    /// Completes the file or directory, which now has its name.
    pub fn close(mut self) -> Result<(), ArrowError> {
        if self.first.is_none() {
            self.begin(&COLUMNS.iter().collect::<Vec<_>>(), &[])?;
        }
        match self.sink {
            Sink::File(encoder, part) => {
                encoder.finish()?;
                Ok(part.map_or(Ok(()), PartialFile::complete)?)
            }
            Sink::Directory(partitions) => partitions.close(),
            Sink::Parts(mut parts) => parts.end_all(None).and_then(|()| parts.publish().map(drop)),
            Sink::Waiting(..) => Ok(()),
        }
    }
}

/// Writes a whole table.
pub fn write(py: Python<'_>, table: &Table, target: &Bound<'_, PyAny>, format: &str, by: Option<&str>) -> PyResult<()> {
    let mut writing = Writing::open(target, format, by, Manner::Whole)?;
    let path = writing.path.clone();
    py.detach(|| writing.write(table).and_then(|()| writing.close())).map_err(|error| with_path(error, path.as_deref()))
}

/// Writes the bytes of a whole file, under a temporary name until it is complete.
#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub fn write_file(py: Python<'_>, path: PathBuf, data: PyBackedBytes) -> PyResult<()> {
    py.detach(|| complete(&path, |out| out.write_all(&data)))
        .map_err(|error: std::io::Error| system_error(&error, &path).unwrap_or_else(|| error.into()))
}

/// Writes all bytes to a binary file object; waits where it would block.
#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub fn write_all(file: &Bound<'_, PyAny>, data: PyBackedBytes) -> PyResult<()> {
    sink::write_all(file, &data)
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
