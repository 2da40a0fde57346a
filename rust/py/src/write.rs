//! The table as csv, jsonl, Arrow IPC or parquet, written batch by batch by the Arrow project's own writers.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, TimestampNanosecondArray};
use arrow_schema::{ArrowError, Field, Schema};
use conntrack_core::{listing, zeek_log};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::arrow;
use crate::connections::{Batches, Table, arrow_error};
use crate::errors::system_error;

/// A format by name.
#[derive(Clone, Copy)]
enum Format {
    Csv,
    /// The same without the names of the columns.
    CsvRows,
    Jsonl,
    Arrow,
    Parquet,
    Conntrack,
    Zeek,
}

/// Writes the table to a path (complete, or not there) or a binary file object.
/// `header`: whether csv begins with the names of the columns.
pub fn write(
    py: Python<'_>,
    table: &Arc<Table>,
    target: &Bound<'_, PyAny>,
    format: &str,
    header: bool,
) -> PyResult<()> {
    let format = match format {
        "csv" if header => Format::Csv,
        "csv" => Format::CsvRows,
        "jsonl" => Format::Jsonl,
        "arrow" => Format::Arrow,
        "parquet" => Format::Parquet,
        "conntrack" => Format::Conntrack,
        "zeek" => Format::Zeek,
        _ => {
            let expected = "csv, jsonl, arrow, parquet, conntrack or zeek";
            return Err(PyValueError::new_err(format!("{format:?}: expected {expected}")));
        }
    };
    if target.hasattr("write")? {
        let file = PyWrite::new(target.clone().unbind());
        return py.detach(|| write_to(table, BufWriter::new(file), format)).map_err(arrow_error_to_python);
    }
    let path: PathBuf = target.extract()?;
    py.detach(|| write_path(table, &path, format)).map_err(|error| with_path(error, &path))
}

fn with_path(error: ArrowError, path: &Path) -> PyErr {
    match error {
        ArrowError::IoError(_, source) => system_error(&source, path).unwrap_or_else(|| source.into()),
        error => arrow_error(error),
    }
}

fn arrow_error_to_python(error: ArrowError) -> PyErr {
    match error {
        ArrowError::IoError(_, source) => source.into(),
        error => arrow_error(error),
    }
}

fn write_path(table: &Arc<Table>, path: &Path, format: Format) -> Result<(), ArrowError> {
    complete(path, |out| write_to(table, out, format))
}

/// Writes beside the path and renames, so that a partial file never has the name. A link leads to the file it names; a
/// device or a pipe has nothing to rename and is written to as it is.
pub fn complete<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(BufWriter<File>) -> Result<(), E>,
) -> Result<(), E> {
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return write(BufWriter::new(File::create(path)?));
    }
    let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    let path = match fs::canonicalize(path) {
        Ok(target) if is_link => target,
        // A link to nothing yet: created through the link.
        Err(_) if is_link => return write(BufWriter::new(File::create(path)?)),
        _ => path.to_owned(),
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = File::create(&part)
        .map_err(E::from)
        .and_then(|file| write(BufWriter::new(file)))
        .and_then(|()| fs::rename(&part, &path).map_err(E::from));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written
}

fn write_to(table: &Arc<Table>, mut out: impl Write + Send, format: Format) -> Result<(), ArrowError> {
    let batches = Batches::new(table.clone());
    match format {
        Format::Conntrack => {
            for line in table.rows.iter().filter_map(listing::line) {
                writeln!(out, "{line}")?;
            }
        }
        Format::Zeek => zeek_log::write(&table.rows, &mut out)?,
        Format::Csv | Format::CsvRows => {
            let header = matches!(format, Format::Csv);
            let mut writer = arrow_csv::WriterBuilder::new().with_header(header).build(&mut out);
            if table.rows.is_empty() {
                writer.write(&portable(&RecordBatch::new_empty(arrow::schema()))?)?;
            }
            for batch in batches {
                writer.write(&portable(&batch?)?)?;
            }
        }
        Format::Jsonl => {
            let builder = arrow_json::WriterBuilder::new().with_explicit_nulls(true);
            let mut writer = builder.build::<_, arrow_json::writer::LineDelimited>(&mut out);
            for batch in batches {
                writer.write(&portable(&batch?)?)?;
            }
            writer.finish()?;
        }
        Format::Arrow => {
            let mut writer = arrow_ipc::writer::FileWriter::try_new(&mut out, &arrow::schema())?;
            for batch in batches {
                writer.write(&batch?)?;
            }
            writer.finish()?;
        }
        Format::Parquet => {
            let compression = Compression::ZSTD(ZstdLevel::default());
            let properties = WriterProperties::builder().set_compression(compression).build();
            let mut writer = ArrowWriter::try_new(&mut out, arrow::schema(), Some(properties))?;
            for batch in batches {
                writer.write(&batch?)?;
            }
            writer.close()?;
        }
    }
    Ok(out.flush()?)
}

/// The same batch with times in `+00:00`, which the text writers can print without a time zone database.
fn portable(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let (field, column) = if let Some(times) = column.as_any().downcast_ref::<TimestampNanosecondArray>() {
            let times: ArrayRef = Arc::new(times.clone().with_timezone("+00:00"));
            (Arc::new(Field::new(field.name(), times.data_type().clone(), field.is_nullable())), times)
        } else {
            (field.clone(), column.clone())
        };
        fields.push(field);
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// A Python file object as a sink.
pub struct PyWrite {
    file: Py<PyAny>,
}

impl PyWrite {
    /// Takes a binary file object.
    pub fn new(file: Py<PyAny>) -> Self {
        Self { file }
    }
}

impl Write for PyWrite {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Python::attach(|py| {
            let mut rest = bytes;
            while !rest.is_empty() {
                let file = self.file.bind(py);
                let written = file.call_method1("write", (PyBytes::new(py, rest),)).map_err(io::Error::from)?;
                // Raw files may take less than they are given; buffered ones take all.
                let written = written.extract::<usize>().unwrap_or(rest.len()).min(rest.len());
                rest = &rest[written..];
            }
            Ok(bytes.len())
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Python::attach(|py| self.file.bind(py).call_method0("flush").map(drop).map_err(io::Error::from))
    }
}
