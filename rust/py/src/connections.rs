//! The table of connections for Python.

use std::ffi::CStr;
use std::io::Cursor;
use std::sync::{Arc, OnceLock};

use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::ffi::FFI_ArrowSchema;
use arrow_schema::{ArrowError, Schema, SchemaRef};
use conntrack_core::checkpoint::{CheckpointError, Reader, Writer};
use conntrack_core::columns::{self, ALL, ALL_COUNT, COLUMNS, Column, Kind};
use conntrack_core::direction::Direction;
use conntrack_core::rows::{Hosts, Row, Rows, Selection, portable};
use conntrack_core::zeek_log::Seed;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyIndexError, PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyCapsule, PyString};

use crate::arrow::{self, BATCH_ROWS, Builders};
use crate::buffer::Buffer;
use crate::errors::arrow_error;
use crate::table::{Run, Table};
use crate::write;

/// Capsule names of the Arrow PyCapsule interface.
pub const SCHEMA: &CStr = c"arrow_schema";
/// That of streams.
pub const STREAM: &CStr = c"arrow_array_stream";

/// A schema, as the Arrow PyCapsule interface has it.
pub fn schema<'py>(py: Python<'py>, of: &Schema) -> PyResult<Bound<'py, PyCapsule>> {
    PyCapsule::new_with_value(py, FFI_ArrowSchema::try_from(of).map_err(arrow_error)?, SCHEMA)
}

/// A stream of batches, as the Arrow PyCapsule interface has it.
pub fn stream(py: Python<'_>, batches: impl RecordBatchReader + Send + 'static) -> PyResult<Bound<'_, PyCapsule>> {
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(batches)), STREAM)
}

/// Finished connections, one row each, immutable.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct Connections {
    table: Arc<Table>,
    /// Columns converted for NumPy, cached.
    numbers: [OnceLock<arrow_buffer::Buffer>; ALL_COUNT],
}

impl Connections {
    /// The rows.
    pub fn rows(&self) -> &Selection {
        &self.table.rows
    }

    /// The rows, with zones and run.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Takes the rows of a whole run.
    pub fn new(rows: Rows, zones: Vec<String>) -> Self {
        Self::of_run(rows, zones, Arc::default())
    }

    /// Takes some of the rows of a run.
    pub fn of_run(rows: Rows, zones: Vec<String>, run: Arc<Run>) -> Self {
        Self::of_table(Table { rows: rows.into(), columns: COLUMNS.iter().collect(), zones, run })
    }

    /// Takes a table.
    pub fn of_table(table: Table) -> Self {
        Self { table: Arc::new(table), numbers: std::array::from_fn(|_| OnceLock::new()) }
    }

    /// Takes the rows of a log; `translated`: with the columns of translations.
    pub fn of_log(rows: Rows, zones: Vec<String>, translated: bool) -> Self {
        Self::of_table(Table { rows: rows.into(), columns: columns::of_log(translated), zones, run: Arc::default() })
    }

    /// Takes tracked rows with the columns of translations.
    pub fn of_translated(rows: Rows, zones: Vec<String>) -> Self {
        Self::of_table(Table { rows: rows.into(), columns: columns::of_translated(), zones, run: Arc::default() })
    }

    /// Takes rows made of those of a table, with its columns and those of translations.
    pub fn translated_of(rows: Rows, of: &Table) -> Self {
        let mut columns = of.columns.clone();
        let more = columns::of_translated().into_iter().skip(COLUMNS.len());
        columns.extend(more.filter(|column| !of.columns.iter().any(|own| own.name == column.name)));
        Self::of_table(Table { rows: rows.into(), columns, zones: of.zones.clone(), run: Arc::default() })
    }

    /// Some rows of the table.
    fn part(&self, rows: Selection) -> Self {
        let Table { columns, zones, .. } = &*self.table;
        let run = self.table.run_of_part();
        Self::of_table(Table { rows, columns: columns.clone(), zones: zones.clone(), run })
    }
}

#[pymethods]
impl Connections {
    fn __len__(&self) -> usize {
        self.table.rows.len()
    }

    /// The names of the columns, in order.
    fn names(&self) -> Vec<&'static str> {
        self.table.columns.iter().map(|column| column.name).collect()
    }

    /// The names of all columns that a table may have.
    #[staticmethod]
    fn all_names() -> Vec<&'static str> {
        COLUMNS.iter().map(|column| column.name).collect()
    }

    /// Rows `start` to `stop`; columns that are in memory are shared.
    fn slice(&self, start: usize, stop: usize) -> Self {
        let mut part = self.part(self.table.rows.slice(start..stop));
        let rows = part.table.rows.len();
        for ((own, whole), column) in part.numbers.iter_mut().zip(&self.numbers).zip(ALL.iter()) {
            if let (Some(bytes), Some(width)) = (whole.get(), width(&column.kind)) {
                let first = start.min(self.table.rows.len()) * width;
                *own = bytes.slice_with_length(first, rows * width).into();
            }
        }
        part
    }

    /// The rows at these indices, in their order.
    fn choose(&self, py: Python<'_>, places: &Bound<'_, PyAny>) -> PyResult<Self> {
        let places = places.extract::<PyBuffer<u64>>()?.to_vec(py)?;
        let rows = self.table.rows.choose(&places);
        Ok(self.part(rows.ok_or_else(|| PyIndexError::new_err("an index is not below the number of rows"))?))
    }

    /// The table with these columns, in this order.
    #[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn pick(&self, names: Vec<String>) -> PyResult<Self> {
        let columns = self.columns(&names)?;
        let Table { rows, zones, .. } = &*self.table;
        let run = self.table.run_of_part();
        let table = Table { rows: rows.clone(), columns, zones: zones.clone(), run };
        Ok(Self { table: Arc::new(table), numbers: self.numbers.clone() })
    }

    /// Numbers of the connections in the order of first packets, u64 each.
    fn ids(&self, py: Python<'_>) -> Buffer {
        Buffer::new(py.detach(|| self.table.rows.iter().map(Row::number).collect::<Vec<u64>>().into()))
    }

    /// True for the same columns with the same values in every row.
    fn equals(&self, py: Python<'_>, other: &Self) -> bool {
        py.detach(|| same(&self.table, &other.table))
    }

    /// The table as bytes, which `restore` of the same release reads.
    fn save(&self, py: Python<'_>) -> PyResult<Buffer> {
        let bytes = py.detach(|| {
            let mut out = Writer::new(Vec::new())?;
            out.put(&(KIND, self.names()))?;
            out.put(&self.table.run_of_part().seed.get())?;
            portable::save(self.table.rows.iter(), self.table.rows.locality(), &mut out)?;
            out.finish()
        })?;
        Ok(Buffer::new(bytes.into()))
    }

    /// Reads a table that `save` wrote.
    #[staticmethod]
    #[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn restore(py: Python<'_>, data: PyBackedBytes) -> PyResult<Self> {
        let read = py.detach(|| {
            let mut from = Reader::new(Cursor::new(&data[..]))?;
            let (kind, names): (String, Vec<String>) = from.get()?;
            if kind != KIND {
                return Err(CheckpointError::damaged("it has no table"));
            }
            let seed: Option<Seed> = from.get()?;
            let (rows, zones) = portable::load(&mut from)?;
            from.end()?;
            Ok((names, seed, rows, zones))
        });
        let refused = |error| PyValueError::new_err(format!("a pickled ConnectionTable: {error}"));
        let (names, seed, rows, zones) = read.map_err(refused)?;
        let whole = Self::of_run(rows, zones, Arc::new(Run { seed: seed.map(OnceLock::from).unwrap_or_default() }));
        let known = |name: &String| ALL.iter().find(|column| column.name == name);
        let told = whole.table.rows.are_told();
        let columns = if told { names.iter().filter_map(known).collect() } else { whole.columns(&names)? };
        let Table { rows, zones, run, .. } = &*whole.table;
        Ok(Self::of_table(Table { rows: rows.clone(), columns, zones: zones.clone(), run: run.clone() }))
    }

    /// NumPy's dtype for `numbers(name)`, or None for a column of addresses or free text.
    #[staticmethod]
    fn dtype(name: &str) -> PyResult<Option<&'static str>> {
        Ok(match find(name)?.1 {
            Kind::Time(_) => Some("<M8[ns]"),
            Kind::U64(_) => Some("<u8"),
            Kind::U16(_) => Some("<u2"),
            Kind::F32(_) => Some("<f4"),
            Kind::Bool(_) => Some("?"),
            Kind::OptI32(_) | Kind::Word(..) => Some("<i4"),
            Kind::OptI64(_) => Some("<i8"),
            Kind::Addr(_) | Kind::Text(_) => None,
        })
    }

    /// The values of a column as memory of `dtype(name)`; -1 where a value is missing, NaT where a time is; words as their
    /// numbers.
    fn numbers(&self, py: Python<'_>, name: &str) -> PyResult<Buffer> {
        let (index, kind) = find(name)?;
        let rows = &self.table.rows;
        let told = rows.are_told();
        let make = || {
            py.detach(|| match kind {
                Kind::Time(read) => Some(rows.iter().map(read).collect::<Vec<i64>>().into()),
                Kind::U64(read) => Some(rows.iter().map(known_or_zero(index, read, told)).collect::<Vec<u64>>().into()),
                Kind::U16(read) => Some(rows.iter().map(known_or_zero(index, read, told)).collect::<Vec<u16>>().into()),
                Kind::F32(read) => Some(rows.iter().map(known_or_zero(index, read, told)).collect::<Vec<f32>>().into()),
                Kind::Bool(read) => {
                    let known = known_or_zero(index, read, told);
                    Some(rows.iter().map(|row| u8::from(known(row))).collect::<Vec<u8>>().into())
                }
                Kind::OptI32(read) => Some(rows.iter().map(|row| read(row).unwrap_or(-1)).collect::<Vec<i32>>().into()),
                Kind::OptI64(read) => Some(rows.iter().map(|row| read(row).unwrap_or(-1)).collect::<Vec<i64>>().into()),
                Kind::Word(read, _) => {
                    let known = |row| read(row).filter(|_| !(told && ALL[index].is_unknown(row)));
                    Some(rows.iter().map(|row| known(row).map_or(-1, i32::from)).collect::<Vec<i32>>().into())
                }
                Kind::Addr(_) | Kind::Text(_) => None,
            })
        };
        let Some(cell) = self.numbers.get(index) else { return Err(PyKeyError::new_err(name.to_owned())) };
        if let Some(bytes) = cell.get() {
            return Ok(Buffer::new(bytes.clone()));
        }
        let bytes: arrow_buffer::Buffer =
            make().ok_or_else(|| PyValueError::new_err(format!("{name} holds text: use texts()")))?;
        Ok(Buffer::new(cell.get_or_init(|| bytes).clone()))
    }

    /// Flags of the address of an end (0: originator, 1: responder), two bytes a row: in a local network, and multicast or
    /// broadcast, by the address or by the direction. Another end is a `ValueError`.
    fn places(&self, py: Python<'_>, end: usize) -> PyResult<Buffer> {
        if end > 1 {
            return Err(PyValueError::new_err("an end is 0 or 1"));
        }
        let rows = &self.table.rows;
        let place = |row: Row<'_>| {
            let place = rows.locality().scope_of(row.ip(end), row.proto());
            let is_group = place.is_group || (end == 1 && row.direction() == Direction::Multicast);
            [u8::from(place.is_local), u8::from(is_group)]
        };
        Ok(Buffer::new(py.detach(|| rows.iter().flat_map(place).collect::<Vec<u8>>().into())))
    }

    /// Hosts of the rows: the numbers of the originators, those of the responders, and the address of each number.
    fn hosts(&self, py: Python<'_>) -> (Buffer, Buffer, Vec<String>) {
        let Hosts { ends: [orig, resp], addresses } = py.detach(|| Hosts::of(&self.table.rows.iter()));
        (Buffer::new(orig.into()), Buffer::new(resp.into()), addresses.iter().map(ToString::to_string).collect())
    }

    /// Rows `start` to `stop` of a column whose values the source does not know, a byte each; None where it knows all.
    fn unknown(&self, py: Python<'_>, name: &str, start: usize, stop: usize) -> PyResult<Option<Buffer>> {
        let column = &ALL[find(name)?.0];
        let stop = stop.min(self.table.rows.len());
        let rows = self.table.rows.range(start.min(stop)..stop);
        if column.lacks.is_none() || !self.table.rows.are_told() {
            return Ok(None);
        }
        let unknown = py.detach(|| rows.map(|row| u8::from(column.is_unknown(row))).collect::<Vec<u8>>());
        Ok(unknown.contains(&1).then(|| Buffer::new(unknown.into())))
    }

    /// The words behind the numbers of a column of words; None for other columns.
    fn words(&self, name: &str) -> PyResult<Option<Vec<String>>> {
        Ok(match find(name)?.1 {
            Kind::Word(_, words) => Some(words(&self.table.zones)),
            _ => None,
        })
    }

    /// Rows `start` to `stop` of a column of addresses or free text as Python strings; equal addresses share one string.
    #[pyo3(signature = (name, start=0, stop=None))]
    fn texts<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        start: usize,
        stop: Option<usize>,
    ) -> PyResult<Vec<Option<Bound<'py, PyString>>>> {
        let rows = &self.table.rows;
        let stop = stop.unwrap_or(rows.len()).min(rows.len());
        let rows = rows.range(start.min(stop)..stop);
        let (index, kind) = find(name)?;
        match kind {
            Kind::Addr(read) => {
                let mut known = std::collections::HashMap::new();
                let mut text = |row: Row<'_>| {
                    let addr = read(row);
                    known.entry(addr).or_insert_with(|| PyString::new(py, &addr.to_string())).clone()
                };
                Ok(rows.map(|row| Some(text(row))).collect())
            }
            Kind::Text(read) => {
                let known = |row: &Row<'_>| !ALL[index].is_unknown(*row);
                Ok(rows.map(|row| known(&row).then(|| PyString::new(py, &read(row)))).collect())
            }
            _ => Err(PyValueError::new_err(format!("{name} holds numbers: use numbers()"))),
        }
    }

    /// The Arrow schema, as the Arrow PyCapsule interface has it.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        schema(py, &arrow::schema(&self.table.columns))
    }

    /// An Arrow stream of the table, as the Arrow PyCapsule interface has it. `requested_schema` is not followed, which
    /// the interface permits.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        stream(py, Batches::new(self.table.clone()))
    }

    /// Writes the table to a path, a directory (`by`) or a binary file object.
    #[pyo3(signature = (target, format, by=None))]
    fn write(&self, py: Python<'_>, target: &Bound<'_, PyAny>, format: &str, by: Option<&str>) -> PyResult<()> {
        write::write(py, &self.table, target, format, by)
    }
}

/// First part of a table in the form of a checkpoint.
const KIND: &str = "table";

impl Connections {
    /// Columns of the table by name; another name is a `KeyError`, one that is there twice a `ValueError`.
    fn columns(&self, names: &[String]) -> PyResult<Vec<&'static Column>> {
        let mut columns: Vec<&'static Column> = Vec::new();
        for name in names {
            let found = self.table.columns.iter().find(|column| column.name == name);
            let found = found.ok_or_else(|| PyKeyError::new_err(name.clone()))?;
            if columns.iter().any(|column| column.name == name) {
                return Err(PyValueError::new_err(format!("the column {name} is there twice")));
            }
            columns.push(found);
        }
        Ok(columns)
    }
}

/// Bytes of a value in memory; None for text.
fn width(kind: &Kind) -> Option<usize> {
    match kind {
        Kind::Time(_) | Kind::U64(_) | Kind::OptI64(_) => Some(8),
        Kind::F32(_) | Kind::OptI32(_) | Kind::Word(..) => Some(4),
        Kind::U16(_) => Some(2),
        Kind::Bool(_) => Some(1),
        Kind::Addr(_) | Kind::Text(_) => None,
    }
}

/// The value of a column, or zero where the row's source does not know the value. `told`: some rows are of a log.
fn known_or_zero<T: Default>(index: usize, read: fn(Row<'_>) -> T, told: bool) -> impl Fn(Row<'_>) -> T {
    let column = &ALL[index];
    move |row| if told && column.is_unknown(row) { T::default() } else { read(row) }
}

fn same(one: &Table, other: &Table) -> bool {
    let names = |table: &Table| table.columns.iter().map(|column| column.name).collect::<Vec<_>>();
    if one.rows.len() != other.rows.len() || names(one) != names(other) {
        return false;
    }
    one.columns.iter().all(|column| {
        let mut pairs = one.rows.iter().zip(other.rows.iter());
        if column.lacks.is_some() && pairs.clone().any(|(a, b)| column.is_unknown(a) != column.is_unknown(b)) {
            return false;
        }
        match column.kind {
            Kind::Time(read) => pairs.all(|(a, b)| read(a) == read(b)),
            Kind::U64(read) => pairs.all(|(a, b)| read(a) == read(b)),
            Kind::U16(read) => pairs.all(|(a, b)| read(a) == read(b)),
            Kind::F32(read) => pairs.all(|(a, b)| read(a).to_bits() == read(b).to_bits()),
            Kind::Bool(read) => pairs.all(|(a, b)| read(a) == read(b)),
            Kind::OptI32(read) => pairs.all(|(a, b)| read(a) == read(b)),
            Kind::OptI64(read) => pairs.all(|(a, b)| read(a) == read(b)),
            Kind::Addr(read) => pairs.all(|(a, b)| read(a) == read(b)),
            Kind::Text(read) => pairs.all(|(a, b)| read(a) == read(b)),
            Kind::Word(read, words) => {
                let words = [words(&one.zones), words(&other.zones)];
                let word =
                    |row: Row<'_>, of: &Vec<String>| read(row).and_then(|word| of.get(usize::from(word)).cloned());
                if words[0] == words[1] {
                    return pairs.all(|(a, b)| read(a) == read(b));
                }
                pairs.all(|(a, b)| word(a, &words[0]) == word(b, &words[1]))
            }
        }
    })
}

fn find(name: &str) -> PyResult<(usize, Kind)> {
    let found = ALL.iter().enumerate().find(|(_, column)| column.name == name);
    found.map(|(index, column)| (index, column.kind)).ok_or_else(|| PyKeyError::new_err(name.to_owned()))
}

/// The record batches of a table, made as they are asked for.
pub struct Batches {
    table: Arc<Table>,
    builders: Builders,
    next: usize,
}

impl Batches {
    /// From the first row.
    pub fn new(table: Arc<Table>) -> Self {
        let builders = Builders::new(table.columns.clone(), &table.zones);
        Self { table, builders, next: 0 }
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.next..self.table.rows.len().min(self.next + BATCH_ROWS);
        if rows.is_empty() {
            return None;
        }
        self.next = rows.end;
        self.builders.append(&self.table.rows.range(rows));
        Some(self.builders.finish())
    }
}

impl RecordBatchReader for Batches {
    fn schema(&self) -> SchemaRef {
        self.builders.schema().clone()
    }
}
