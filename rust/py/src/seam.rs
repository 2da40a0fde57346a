//! The two halves of a distributed run, in Arrow types that every engine has. Unsigned integers, fixed-size binary and
//! dictionaries are left out; times are whole nanoseconds.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::ffi::FFI_ArrowArray;
use arrow_array::ffi_stream::RecordBatchStreamReader;
use arrow_array::types::Int64Type;
use arrow_array::{
    Array, ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch as Table, RecordBatchIterator, StringArray,
    StructArray,
};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use conntrack_core::capture::{Captures, Lacks, LinkType, Record, RecordBatch};
use conntrack_core::columns::{COLUMNS, Kind};
use conntrack_core::error::CaptureError;
use conntrack_core::flow::shard;
use conntrack_core::pipeline::{self, CapturePosition, CellRecord};
use conntrack_core::rows::Rows;
use conntrack_core::sync::Turn;
use conntrack_core::time::timed;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};

use crate::arrow_in;
use crate::config::Config;
use crate::connections::{schema, stream};
use crate::errors::arrow_error;
use crate::errors::capture_error;
use crate::source::{Source, inputs};
use crate::split;
use crate::stream::address;
use crate::track;

/// A batch of headers has as many rows, or bytes of frames.
const ROWS: usize = 1 << 16;
const BYTES: usize = 16 << 20;

/// An Arrow record batch.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct ArrowBatch {
    table: Table,
}

#[pymethods]
impl ArrowBatch {
    fn __len__(&self) -> usize {
        self.table.num_rows()
    }

    /// The schema, as the Arrow PyCapsule interface has it.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        schema(py, &self.table.schema())
    }

    /// A struct array, as the interface has it.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        drop(requested_schema);
        let array = FFI_ArrowArray::new(&StructArray::from(self.table.clone()).to_data());
        Ok((self.__arrow_c_schema__(py)?, PyCapsule::new_with_value(py, array, arrow_in::ARRAY)?))
    }

    /// An Arrow stream of one batch.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        stream(py, RecordBatchIterator::new([Ok(self.table.clone())], self.table.schema()))
    }
}

/// The batches of an Arrow stream from elsewhere, one by one.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct ArrowReader {
    reader: Turn<RecordBatchStreamReader>,
}

#[pymethods]
impl ArrowReader {
    #[new]
    fn new(source: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self { reader: Turn::new(Box::new(arrow_in::reader(source)?)) })
    }

    /// The next batch; None at the end. Python code may produce the batch.
    fn next(&self) -> PyResult<Option<ArrowBatch>> {
        let mut turn = self.reader.take().ok_or_else(|| PyRuntimeError::new_err("another thread reads this stream"))?;
        let next = turn.next().transpose();
        self.reader.give_back(turn);
        Ok(next.map_err(arrow_in::refused)?.map(|table| ArrowBatch { table }))
    }
}

/// The cell of two addresses: a shard is a cell modulo the number of shards.
#[pyfunction]
pub fn cell(one: &str, other: &str) -> PyResult<u16> {
    Ok(shard::cell_v1(address("one", one)?, address("other", other)?))
}

/// Reads the headers of a capture.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct Headers {
    captures: Turn<pipeline::Headers>,
    file: i64,
    shards: u32,
}

#[pymethods]
impl Headers {
    /// `shards`: 1 to 65,536. `part`: of the only source.
    #[new]
    #[pyo3(signature = (sources, config, file, shards, part=None))]
    #[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn new(
        py: Python<'_>,
        mut sources: Vec<Source>,
        config: &Config,
        file: i64,
        shards: u32,
        part: Option<split::Range>,
    ) -> PyResult<Self> {
        let config = config.core();
        let inputs = match part {
            Some(part) if sources.len() == 1 => {
                let (name, object) = sources.swap_remove(0);
                vec![split::input(name, object, part).map_err(capture_error)?]
            }
            _ => inputs(py, sources),
        };
        let captures = py.detach(|| Captures::open(inputs, track::faults(config))).map_err(capture_error)?;
        Ok(Self {
            captures: Turn::new(Box::new(pipeline::Headers::new(captures, config))),
            file,
            shards: shards.clamp(1, shard::CELLS as u32),
        })
    }

    /// The account so far as a dictionary, as a tracker's.
    fn account<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let turn = self.captures.take().ok_or_else(busy)?;
        let account = turn.account();
        self.captures.give_back(turn);
        track::account(py, &account.map_err(capture_error)?)
    }

    /// The next headers; None at the end.
    fn next(&self, py: Python<'_>) -> PyResult<Option<ArrowBatch>> {
        let mut turn = self.captures.take().ok_or_else(busy)?;
        let read = self.read(py, &mut turn);
        self.captures.give_back(turn);
        let rows = read?;
        if rows.ts.is_empty() {
            return Ok(None);
        }
        Ok(Some(ArrowBatch { table: rows.table().map_err(arrow_error)? }))
    }
}

fn busy() -> PyErr {
    PyRuntimeError::new_err("another thread reads these headers")
}

impl Headers {
    fn read(&self, py: Python<'_>, headers: &mut pipeline::Headers) -> PyResult<HeaderRows> {
        let mut rows = HeaderRows::default();
        let mut more = true;
        while more && rows.ts.len() < ROWS && rows.bytes < BYTES {
            more = match py.detach(|| headers.next(|seen| rows.push(&seen, self.file, self.shards))) {
                Ok(more) => more,
                Err(CaptureError::Interrupted) => {
                    py.check_signals()?;
                    true
                }
                Err(error) => return Err(capture_error(error)),
            };
        }
        Ok(rows)
    }
}

/// Headers on the way to columns.
#[derive(Default)]
struct HeaderRows {
    ts: Vec<i64>,
    file: Vec<i64>,
    index: Vec<i64>,
    shard: Vec<i32>,
    src: StringBuilder,
    dst: StringBuilder,
    ports: [Vec<i32>; 2],
    proto: Vec<i32>,
    length: Vec<i64>,
    linktype: Vec<i32>,
    wire: Vec<i64>,
    abridged: Vec<bool>,
    frame: BinaryBuilder,
    bytes: usize,
}

impl HeaderRows {
    fn push(&mut self, seen: &CellRecord<'_>, file: i64, shards: u32) {
        let (record, tuple) = (&seen.record, &seen.packet.tuple);
        self.ts.push(record.ts);
        self.file.push(file);
        self.index.push(seen.index as i64);
        self.shard.push((u32::from(seen.cell) % shards) as i32);
        self.src.append_value(tuple.src.ip(tuple.family).to_string());
        self.dst.append_value(tuple.dst.ip(tuple.family).to_string());
        self.ports[0].push(tuple.sport.into());
        self.ports[1].push(tuple.dport.into());
        self.proto.push(tuple.proto.into());
        self.length.push(seen.packet.ip_bytes.into());
        self.linktype.push(record.linktype.0.into());
        self.wire.push(record.len.into());
        self.abridged.push(record.abridged);
        self.frame.append_value(seen.bytes);
        self.bytes += seen.bytes.len();
    }

    fn table(mut self) -> Result<Table, ArrowError> {
        let [sport, dport] = self.ports;
        let longs = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
        let ints = |values: Vec<i32>| -> ArrayRef { Arc::new(Int32Array::from(values)) };
        let columns: [(&str, ArrayRef); 14] = [
            ("ts", longs(self.ts)),
            ("file", longs(self.file)),
            ("idx", longs(self.index)),
            ("shard", ints(self.shard)),
            ("src", Arc::new(self.src.finish())),
            ("dst", Arc::new(self.dst.finish())),
            ("sport", ints(sport)),
            ("dport", ints(dport)),
            ("proto", ints(self.proto)),
            ("length", longs(self.length)),
            ("linktype", ints(self.linktype)),
            ("wire", longs(self.wire)),
            ("abridged", Arc::new(BooleanArray::from(self.abridged))),
            ("frame", Arc::new(self.frame.finish())),
        ];
        Table::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, false)))
    }
}

/// Tracks the packets of some shards.
#[pyclass(module = "conntrack_py._native")]
pub struct Part {
    shards: pipeline::ShardTracker,
    zones: Vec<String>,
    last: Option<CapturePosition>,
}

#[pymethods]
impl Part {
    #[new]
    fn new(config: &Config) -> Self {
        let core = config.core();
        let zones = core.zones.iter().map(|zone| zone.name.clone()).collect();
        Self { shards: pipeline::ShardTracker::new(core), zones, last: None }
    }

    /// Tracks headers in order, and returns the closed connections.
    fn take(&mut self, py: Python<'_>, headers: &Bound<'_, PyAny>) -> PyResult<ArrowBatch> {
        for table in arrow_in::batches(headers)? {
            let (batch, places) = records(&table).map_err(PyValueError::new_err)?;
            self.check(&places)?;
            let part = &mut self.shards;
            py.detach(|| part.take(&batch, &places));
        }
        let (rows, ids) = self.shards.drain();
        let table = py.detach(|| connections(&rows, &ids, &self.zones)).map_err(arrow_error)?;
        Ok(ArrowBatch { table })
    }

    /// Closes the live connections; see the core.
    fn finish(&mut self, py: Python<'_>, until: Option<i64>) -> PyResult<ArrowBatch> {
        let (rows, ids) = self.shards.finish(until);
        let table = py.detach(|| connections(&rows, &ids, &self.zones)).map_err(arrow_error)?;
        Ok(ArrowBatch { table })
    }
}

impl Part {
    /// Checks that positions grow; an error names the first that does not.
    fn check(&mut self, places: &[CapturePosition]) -> PyResult<()> {
        for place in places {
            if let Some(last) = self.last.replace(*place).filter(|last| last >= place) {
                let CapturePosition { ts, file, index } = *place;
                return Err(PyValueError::new_err(format!(
                    "batches: found (ts, file, idx) = ({ts}, {file}, {index}) behind ({}, {}, {}), expected them to grow: sort by \
                     ts, file, idx",
                    last.ts, last.file, last.index
                )));
            }
        }
        Ok(())
    }
}

/// The records of a table of headers, and their places.
fn records(table: &Table) -> Result<(RecordBatch, Vec<CapturePosition>), String> {
    let column = |name: &str, data_type: &DataType| -> Result<ArrayRef, String> {
        let found =
            table.column_by_name(name).ok_or_else(|| format!("{name}: found none, expected that of decode_headers"))?;
        let fits = if *data_type == DataType::LargeBinary {
            matches!(found.data_type(), DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
        } else {
            found.data_type().is_integer() || *found.data_type() == DataType::Boolean
        };
        if !fits {
            return Err(format!("{name}: found {}, expected that of decode_headers", found.data_type()));
        }
        if found.null_count() > 0 {
            return Err(format!("{name}: found null, expected a value in each row"));
        }
        found.to_data().validate_full().map_err(|error| format!("{name}: {error}"))?;
        cast(found, data_type).map_err(|error| format!("{name}: {error}"))
    };
    let number = |name: &str| column(name, &DataType::Int64);
    let numbers = ["ts", "file", "idx", "linktype", "wire", "abridged"];
    let mut found = Vec::with_capacity(numbers.len());
    for name in numbers {
        found.push(number(name)?);
    }
    let [ts, file, index, linktype, wire, abridged] =
        std::array::from_fn(|at| found[at].as_primitive::<Int64Type>().values());
    let frames = column("frame", &DataType::LargeBinary)?;
    let frames = frames.as_binary::<i64>();
    let mut batch = RecordBatch { lacks: Lacks { some_bytes: true, ..Lacks::default() }, ..RecordBatch::default() };
    let mut places = Vec::with_capacity(table.num_rows());
    for row in 0..table.num_rows() {
        let frame = frames.value(row);
        let start =
            u32::try_from(batch.data.len()).ok().filter(|start| start.checked_add(frame.len() as u32).is_some());
        let start = start.filter(|_| u32::try_from(frame.len()).is_ok());
        let start = start.ok_or("frame: found 4 GiB in a batch, expected less; use several")?;
        batch.data.extend_from_slice(frame);
        let caplen = frame.len() as u32;
        let len = u32::try_from(wire[row]).map_err(|_| format!("wire: found {}, expected a length", wire[row]))?;
        let linktype = u16::try_from(linktype[row]).map_err(|_| format!("linktype: found {}", linktype[row]))?;
        batch.records.push(Record {
            ts: ts[row],
            offset: 0,
            start,
            caplen,
            len: len.max(caplen),
            file: 0,
            linktype: LinkType(linktype),
            abridged: abridged[row] != 0,
            unsummed: false,
        });
        places.push(CapturePosition { ts: ts[row], file: file[row], index: index[row] });
    }
    Ok((batch, places))
}

/// Connections in portable types: the columns of the table, with identifiers in place of rows.
fn connections(rows: &Rows, ids: &[([u8; 16], Option<[u8; 16]>)], zones: &[String]) -> Result<Table, ArrowError> {
    let hex = |id: &[u8; 16]| format!("{:032x}", u128::from_be_bytes(*id));
    let own: StringArray = ids.iter().map(|(id, _)| Some(hex(id))).collect();
    let mut fields = vec![Field::new("id", DataType::Utf8, false)];
    let mut arrays: Vec<ArrayRef> = vec![Arc::new(own)];
    for column in COLUMNS {
        let array: ArrayRef = match column.kind {
            Kind::Time(read) => Arc::new(rows.iter().map(|row| timed(read(row))).collect::<Int64Array>()),
            Kind::U64(read) => Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| read(row) as i64))),
            Kind::U16(read) => Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| i32::from(read(row))))),
            // The only number of a row.
            Kind::OptI64(_) => {
                Arc::new(ids.iter().map(|(_, related)| related.as_ref().map(hex)).collect::<StringArray>())
            }
            Kind::Word(read, words) => {
                let words = words(zones);
                let word = |code: Option<u16>| code.and_then(|code| words.get(usize::from(code)));
                Arc::new(rows.iter().map(|row| word(read(row))).collect::<StringArray>())
            }
            _ => crate::arrow::array(column, rows.iter(), zones)?,
        };
        fields.push(Field::new(column.name, array.data_type().clone(), crate::arrow::may_be_null(column.name)));
        arrays.push(array);
    }
    Table::try_new(Arc::new(Schema::new(fields)), arrays)
}
