//! The two halves of a distributed run, in Arrow types that every engine has. Unsigned integers, fixed-size binary and
//! dictionaries are left out; times are whole nanoseconds.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch as Table};
use arrow_schema::{ArrowError, DataType};
use conntrack_core::capture::{Captures, Lacks, Record, RecordBatch};
use conntrack_core::error::CaptureError;
use conntrack_core::flow::shard;
use conntrack_core::pipeline::{self, CapturePosition, CellRecord, Header};
use conntrack_core::sync::Turn;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrow_batch::ArrowBatch;
use crate::arrow_in;
use crate::config::Config;
use crate::errors::{arrow_error, capture_error};
use crate::ranges;
use crate::shard_rows;
use crate::source::{Source, inputs};
use crate::stream::address;
use crate::track;

/// Bit of a record's place at which the number of its file within a source begins.
const FILE_SHIFT: u32 = 48;
/// A batch of headers has as many rows, or bytes of frames.
const ROWS: usize = 1 << 16;
const BYTES: usize = 16 << 20;

/// The cell of two addresses: a shard is a cell modulo the number of shards.
#[pyfunction]
pub fn cell(one: &str, other: &str) -> PyResult<u16> {
    Ok(shard::cell_v1(address("one", one)?, address("other", other)?))
}

/// Reads the headers of a capture.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct Headers {
    captures: Turn<pipeline::Headers>,
    file: i32,
    shards: u32,
    /// With columns to filter by.
    all: bool,
}

#[pymethods]
impl Headers {
    /// `shards`: 1 to 65,536. `all`: with columns to filter by. `part`: of the only source.
    #[new]
    #[pyo3(signature = (sources, config, file, shards, all, part=None))]
    #[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn new(
        py: Python<'_>,
        mut sources: Vec<Source>,
        config: &Config,
        file: i32,
        shards: u32,
        all: bool,
        part: Option<ranges::Range>,
    ) -> PyResult<Self> {
        let config = config.core();
        let is_behind = part.as_ref().is_some_and(|part| part.0 > 0);
        let inputs = match part {
            Some(part) if sources.len() == 1 => {
                let (name, object) = sources.swap_remove(0);
                vec![ranges::input(name, object, part).map_err(capture_error)?]
            }
            _ => inputs(py, sources),
        };
        let captures = py.detach(|| Captures::open(inputs, track::faults(config))).map_err(capture_error)?;
        Ok(Self {
            captures: Turn::new(Box::new(pipeline::Headers::new(captures, config, !is_behind))),
            file,
            shards: shards.clamp(1, shard::CELLS as u32),
            all,
        })
    }

    /// A batch without rows, for its schema.
    #[staticmethod]
    fn none(all: bool) -> PyResult<ArrowBatch> {
        Ok(ArrowBatch::new(HeaderRows::default().table(all).map_err(arrow_error)?))
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
        Ok(Some(ArrowBatch::new(rows.table(self.all).map_err(arrow_error)?)))
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
            more = match py.detach(|| headers.next(|seen| rows.push(&seen, self.file, self.shards, self.all))) {
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
    file: Vec<i32>,
    index: Vec<i64>,
    shard: Vec<i32>,
    packet: BinaryBuilder,
    src: StringBuilder,
    dst: StringBuilder,
    ports: [Vec<i32>; 2],
    proto: Vec<i32>,
    length: Vec<i64>,
    bytes: usize,
}

impl HeaderRows {
    fn push(&mut self, seen: &CellRecord, file: i32, shards: u32, all: bool) {
        match seen.cell {
            Some(cell) => self.push_to(u32::from(cell) % shards, seen, file, all),
            None => (0..shards).for_each(|shard| self.push_to(shard, seen, file, all)),
        }
    }

    fn push_to(&mut self, shard: u32, seen: &CellRecord, file: i32, all: bool) {
        self.ts.push(seen.ts);
        self.file.push(file);
        // Records of further files of a source are behind those of the first.
        self.index.push((u64::from(seen.file) << FILE_SHIFT | seen.offset).cast_signed());
        self.shard.push(shard.cast_signed());
        self.packet.append_value(&seen.bytes);
        self.bytes += seen.bytes.len();
        if all {
            let tuple = &seen.packet.tuple;
            self.src.append_value(tuple.src.ip(tuple.family).to_string());
            self.dst.append_value(tuple.dst.ip(tuple.family).to_string());
            self.ports[0].push(tuple.sport.into());
            self.ports[1].push(tuple.dport.into());
            self.proto.push(tuple.proto.into());
            self.length.push(seen.packet.ip_bytes.into());
        }
    }

    fn table(mut self, all: bool) -> Result<Table, ArrowError> {
        let [sport, dport] = self.ports;
        let longs = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
        let ints = |values: Vec<i32>| -> ArrayRef { Arc::new(Int32Array::from(values)) };
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("ts", longs(self.ts)),
            ("file", ints(self.file)),
            ("idx", longs(self.index)),
            ("shard", ints(self.shard)),
            ("packet", Arc::new(self.packet.finish())),
        ];
        if all {
            let filters: [(&str, ArrayRef); 6] = [
                ("src", Arc::new(self.src.finish())),
                ("dst", Arc::new(self.dst.finish())),
                ("sport", ints(sport)),
                ("dport", ints(dport)),
                ("proto", ints(self.proto)),
                ("length", longs(self.length)),
            ];
            columns.extend(filters);
        }
        Table::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, false)))
    }
}

/// Tracks the packets of some shards.
#[pyclass(module = "conntrack_py._native")]
pub struct Part {
    shards: pipeline::ShardTracker,
    zones: Vec<String>,
    last: Option<CapturePosition>,
    facts: bool,
}

#[pymethods]
impl Part {
    #[new]
    fn new(config: &Config, facts: bool) -> Self {
        let core = config.core();
        let zones = core.zones.iter().map(|zone| zone.name.clone()).collect();
        Self { shards: pipeline::ShardTracker::new(core, facts), zones, last: None, facts }
    }

    /// Tracks headers in order, and returns the closed connections.
    fn take(&mut self, py: Python<'_>, headers: &Bound<'_, PyAny>) -> PyResult<ArrowBatch> {
        for table in arrow_in::batches(headers)? {
            let (batch, places, begins) = records(&table).map_err(PyValueError::new_err)?;
            self.check(&places)?;
            let part = &mut self.shards;
            py.detach(|| part.take(&batch, &places, begins));
        }
        let ended = self.shards.drain();
        self.table(py, &ended)
    }

    /// Closes the live connections; see the core.
    fn finish(&mut self, py: Python<'_>, until: Option<i64>) -> PyResult<ArrowBatch> {
        let ended = self.shards.finish(until);
        self.table(py, &ended)
    }
}

impl Part {
    fn table(&self, py: Python<'_>, ended: &pipeline::Ended) -> PyResult<ArrowBatch> {
        let noted = self.facts.then_some(ended.noted.as_slice());
        let table = py.detach(|| shard_rows::table(ended.rows.iter(), &ended.ids, noted, &self.zones));
        Ok(ArrowBatch::new(table.map_err(arrow_error)?))
    }

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

/// The records of a table of headers, their places, and the begins of files.
fn records(table: &Table) -> Result<(RecordBatch, Vec<CapturePosition>, Vec<i64>), String> {
    let column = |name: &str, data_type| arrow_in::whole(table, name, data_type, "decode_headers");
    let [ts, file, index] = ["ts", "file", "idx"].map(|name| column(name, &DataType::Int64));
    let (ts, file, index) = (ts?, file?, index?);
    let [ts, file, index] = [&ts, &file, &index].map(|column| column.as_primitive::<Int64Type>().values());
    let packets = column("packet", &DataType::LargeBinary)?;
    let packets = packets.as_binary::<i64>();
    let mut batch = RecordBatch { lacks: Lacks { some_bytes: true, ..Lacks::default() }, ..RecordBatch::default() };
    let (mut places, mut begins) = (Vec::with_capacity(table.num_rows()), Vec::new());
    for row in 0..table.num_rows() {
        let start = batch.data.len();
        let header = pipeline::header(packets.value(row), &mut batch.data);
        let Some(Header { wire, linktype, abridged, begin }) = header else {
            return Err(format!("packet: found other bytes in row {row}, expected those of decode_headers"));
        };
        let end = u32::try_from(batch.data.len());
        let end = end.map_err(|_| "packet: found 4 GiB in a batch, expected less; use several")?;
        let (start, caplen) = (start as u32, end - start as u32);
        let (ts, len) = (ts[row], wire.max(caplen));
        let record = Record { ts, offset: 0, start, caplen, len, file: 0, linktype, abridged, unsummed: false };
        batch.records.push(record);
        places.push(CapturePosition { ts, file: file[row], index: index[row] });
        begins.extend(begin);
    }
    Ok((batch, places, begins))
}
