//! Captures batch by batch, and the tracker that takes them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatchIterator;
use conntrack_core::capture::{Captures, Lacks, LinkType, RecordBatch, ring};
use conntrack_core::columns::protocol_number;
use conntrack_core::decode::{Addr, Family, FiveTuple, Vlan};
use conntrack_core::error::CaptureError;
use conntrack_core::flow::icmp::is_icmp;
use conntrack_core::pipeline::{self, Ended, Stream};
use conntrack_core::rows::Rows;
use conntrack_core::stats::Stats;
use conntrack_core::sync::Turn;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict, PyList};

use crate::arrow_batch::ArrowBatch;
use crate::buffer::Buffer;
use crate::checkpoint_file;
use crate::config::{Config, bounds};
use crate::connections::{Connections, stream};
use crate::errors::{arrow_error, capture_error};
use crate::home::{Home, Visit};
use crate::packets;
use crate::shard_rows;
use crate::source::{Source, inputs};
use crate::table::Run;
use crate::track::{self, faults, zones};

/// Records as they were captured, with their bytes; immutable.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct Batch {
    batch: Arc<RecordBatch>,
    /// The pool of the capture that reuses the memory.
    home: Spares,
}

/// Dropped batches, whose memory is reused: page faults of fresh memory cost more than reading.
type Spares = Arc<Mutex<Vec<RecordBatch>>>;

/// Spare batches of a capture.
const MOST_SPARES: usize = 4;

impl Batch {
    fn new(batch: RecordBatch) -> Self {
        Self { batch: Arc::new(batch), home: Spares::default() }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // Nobody reads into it where the capture is gone, or there never was one.
        if Arc::strong_count(&self.home) > 1
            && let Some(batch) = Arc::into_inner(std::mem::take(&mut self.batch))
            && let Ok(mut spares) = self.home.try_lock()
            && spares.len() < MOST_SPARES
        {
            spares.push(batch);
        }
    }
}

#[pymethods]
impl Batch {
    /// Frames concatenated in `data`, with the end offset, capture time (nanoseconds) and wire length of each.
    #[staticmethod]
    #[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn from_frames(
        py: Python<'_>,
        data: PyBuffer<u8>,
        ends: PyBuffer<u64>,
        timestamps: PyBuffer<i64>,
        lengths: PyBuffer<u32>,
        linktype: u16,
    ) -> PyResult<Self> {
        let data = data.to_vec(py)?;
        let (ends, times, lengths) = (ends.to_vec(py)?, timestamps.to_vec(py)?, lengths.to_vec(py)?);
        if ends.len() != times.len() || ends.len() != lengths.len() {
            return Err(PyValueError::new_err("ends, timestamps and lengths: expected as many of each"));
        }
        let frames = ends.into_iter().zip(times).zip(lengths).map(|((end, ts), length)| (end, ts, length));
        let refused =
            || PyValueError::new_err("offsets: expected frames one behind another, within less than 4 GiB of data");
        let batch = RecordBatch::of_frames(data, LinkType(linktype), frames).ok_or_else(refused)?;
        Ok(Self::new(batch))
    }

    /// Packets of a table: columns by name, of the types of `numbers` and `pieces` (addresses also as u4). Missing columns have
    /// 0 or the implied value.
    #[staticmethod]
    fn from_columns(
        py: Python<'_>,
        columns: &Bound<'_, PyDict>,
        lacks_payloads: bool,
        lacks_numbers: bool,
    ) -> PyResult<Self> {
        let lacks = Lacks { payloads: lacks_payloads, numbers: lacks_numbers, checksums: true, some_bytes: false };
        Ok(Self::new(packets::batch(py, columns, lacks)?))
    }

    /// Packets of a receive ring's block (TPACKET_V3), in a copy. `linktype` None: cooked. `ring`: the ring's number.
    #[staticmethod]
    #[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn from_block(py: Python<'_>, block: PyBuffer<u8>, linktype: Option<u16>, ring: u32) -> PyResult<Self> {
        // The caller has read the block's status, which the kernel wrote last.
        fence(Ordering::Acquire);
        let data = block.to_vec(py)?;
        Ok(Self::new(ring::batch(data, linktype.map(LinkType), ring)))
    }

    /// Packets of several rings in the order of their times: those up to `until`, and the rest.
    #[staticmethod]
    #[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn merged(py: Python<'_>, batches: Vec<Bound<'_, Self>>, until: i64) -> PyResult<(Self, Self)> {
        let batches: Vec<_> = batches.iter().map(|one| one.get().batch.clone()).collect();
        let parts: Vec<_> = batches.iter().map(|one| &**one).collect();
        let merged = py.detach(|| ring::merged(&parts, until));
        let (now, later) = merged.ok_or_else(|| PyValueError::new_err("batches: found 4 GiB, expected less"))?;
        Ok((Self::new(now), Self::new(later)))
    }

    fn __len__(&self) -> usize {
        self.batch.records.len()
    }

    /// Fields that the source lacks: payloads, and TCP's sequence numbers.
    fn lacks(&self) -> (bool, bool) {
        (self.batch.lacks.payloads, self.batch.lacks.numbers)
    }

    /// The columns of numbers, memory by name.
    fn numbers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        packets::numbers(py, &self.batch)
    }

    /// A column of bytes: the bytes of all packets, and offsets as i8.
    fn pieces(&self, py: Python<'_>, name: &str) -> PyResult<(Buffer, Buffer)> {
        packets::pieces(py, &self.batch, name)
    }

    /// The columns as an Arrow stream of one batch. `requested_schema` is not followed, which the interface permits.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        drop(requested_schema);
        let table = py.detach(|| packets::table(&self.batch)).map_err(arrow_error)?;
        let schema = table.schema();
        stream(py, RecordBatchIterator::new([Ok(table)], schema))
    }

    /// Capture times, nanoseconds since 1970 UTC, as i8.
    fn timestamps(&self) -> Buffer {
        Buffer::new(self.batch.records.iter().map(|record| record.ts).collect::<Vec<i64>>().into())
    }
}

/// Captures, open for reading, their records merged by time.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct Capture {
    captures: Turn<Option<Captures>>,
    spares: Spares,
    /// Records still to be dropped: a run before has read them.
    skip: AtomicU64,
}

#[pymethods]
impl Capture {
    #[new]
    #[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn new(py: Python<'_>, sources: Vec<Source>, config: &Config) -> PyResult<Self> {
        let (inputs, faults) = (inputs(py, sources), faults(config.core()));
        let captures = py.detach(|| Captures::open(inputs, faults)).map_err(capture_error)?;
        Ok(Self { captures: Turn::new(Box::new(Some(captures))), spares: Spares::default(), skip: AtomicU64::new(0) })
    }

    /// Drops the next `records`.
    fn skip(&self, records: u64) {
        self.skip.store(records, Ordering::Relaxed);
    }

    /// The next records, or None at the end. `idle`: a batch without records where the source stays silent for a tenth of a
    /// second.
    #[pyo3(signature = (idle=false))]
    fn next(&self, py: Python<'_>, idle: bool) -> PyResult<Option<Batch>> {
        let mut turn = self.captures.take().ok_or_else(busy)?;
        let read = match &mut *turn {
            Some(captures) => {
                let spare = self.spares.try_lock().ok().and_then(|mut spares| spares.pop());
                self.read(py, captures, spare.unwrap_or_default(), idle)
            }
            None => Ok(None),
        };
        self.captures.give_back(turn);
        Ok(read?.map(|batch| Batch { batch: Arc::new(batch), home: self.spares.clone() }))
    }

    /// Its damage so far as a dictionary: reason → (how often, file, offset of the first).
    fn damage<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let turn = self.captures.take().ok_or_else(busy)?;
        let mut stats = Stats::default();
        if let Some(captures) = &*turn {
            pipeline::count_damage(&mut stats, captures);
        }
        self.captures.give_back(turn);
        track::skipped(py, &stats)
    }

    /// Files passed over so far: file, reason, offset and packets of each.
    fn skipped_files<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let turn = self.captures.take().ok_or_else(busy)?;
        let files = (*turn).as_ref().map(pipeline::skipped_files).unwrap_or_default();
        self.captures.give_back(turn);
        track::skipped_files(py, &files)
    }

    /// Bytes that damage cost so far by reason, bytes read of the uncompressed files, captures read, and those that begin
    /// before the end of earlier ones.
    fn lost<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyDict>, u64, u64, u64)> {
        let turn = self.captures.take().ok_or_else(busy)?;
        let mut stats = Stats::default();
        if let Some(captures) = &*turn {
            pipeline::count_damage(&mut stats, captures);
        }
        self.captures.give_back(turn);
        let lost = PyDict::new(py);
        for (reason, bytes) in &stats.skipped_bytes {
            lost.set_item(reason, bytes)?;
        }
        Ok((lost, stats.file_bytes, stats.parts, stats.early_parts))
    }

    /// Closes the files.
    fn close(&self) {
        if let Ok(mut spares) = self.spares.try_lock() {
            spares.clear();
        }
        if let Some(mut turn) = self.captures.take() {
            *turn = None;
            self.captures.give_back(turn);
        }
    }
}

fn busy() -> PyErr {
    PyRuntimeError::new_err("another thread reads this capture; give each thread batches instead")
}

impl Capture {
    /// The next batch that has records; with `idle` also an empty one of a source that is silent.
    fn read(
        &self,
        py: Python<'_>,
        captures: &mut Captures,
        mut batch: RecordBatch,
        idle: bool,
    ) -> PyResult<Option<RecordBatch>> {
        loop {
            let read = py.detach(|| captures.next_batch(&mut batch));
            self.drop_known(&mut batch);
            match read {
                Ok(_) if !batch.records.is_empty() => return Ok(Some(batch)),
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(CaptureError::Interrupted) => {
                    py.check_signals()?;
                    if idle {
                        return Ok(Some(batch));
                    }
                }
                Err(error) => return Err(capture_error(error)),
            }
        }
    }

    /// Drops records that a run before has read.
    fn drop_known(&self, batch: &mut RecordBatch) {
        // Only who has the turn reads and stores.
        let left = self.skip.load(Ordering::Relaxed);
        if left > 0 {
            let known = batch.records.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            batch.records.drain(..known);
            self.skip.store(left - known as u64, Ordering::Relaxed);
        }
    }
}

/// The result of [`Tracker::fill`].
type PyFill = ((usize, Option<usize>), (usize, Option<usize>), BTreeMap<&'static str, u64>, u64);

/// Tracks connections batch by batch. Any thread may call any method at any time.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct Tracker {
    stream: Stream,
    zones: Vec<String>,
    run: Arc<Run>,
    home: Home,
}

impl Tracker {
    /// A tracker of a configuration, in a run that a checkpoint may have begun.
    pub fn of(stream: Stream, core: &conntrack_core::config::Config, run: Arc<Run>) -> Self {
        Self { stream, zones: zones(core), run, home: Home::default() }
    }

    fn enter(&self) -> PyResult<Visit<'_>> {
        self.home.enter("tracker")
    }

    fn connections(&self, rows: Rows) -> Connections {
        Connections::of_run(rows, self.zones.clone(), self.run.clone())
    }
}

#[pymethods]
impl Tracker {
    #[new]
    fn new(config: &Config) -> Self {
        Self::of(Stream::new(config.core()), config.core(), Arc::default())
    }

    /// Tracks a batch, and returns the labels of its records, 16 bytes each.
    fn process(&self, py: Python<'_>, batch: &Batch) -> PyResult<Buffer> {
        let (_visit, batch) = (self.enter()?, batch.batch.clone());
        Ok(Buffer::new(py.detach(|| self.stream.process(batch)).into()))
    }

    /// Reports connections at their close from now on, or once their entries are gone.
    fn report_closes(&self, py: Python<'_>, at_close: bool) -> PyResult<()> {
        let _visit = self.enter()?;
        py.detach(|| self.stream.report_closes(at_close));
        Ok(())
    }

    /// Advances capture time (nanoseconds) without a packet.
    fn advance(&self, py: Python<'_>, timestamp: i64) -> PyResult<()> {
        let _visit = self.enter()?;
        py.detach(|| self.stream.advance_to(timestamp));
        Ok(())
    }

    /// Takes the connections closed since the last call.
    fn drain(&self, py: Python<'_>) -> PyResult<Connections> {
        let _visit = self.enter()?;
        Ok(self.connections(py.detach(|| self.stream.drain())))
    }

    /// Closes the live connections, and drains.
    fn finish(&self, py: Python<'_>) -> PyResult<Connections> {
        let _visit = self.enter()?;
        Ok(self.connections(py.detach(|| self.stream.finish())))
    }

    /// Keeps the facts of packets from now on.
    fn note_facts(&self, py: Python<'_>) -> PyResult<()> {
        let _visit = self.enter()?;
        py.detach(|| self.stream.note_facts());
        Ok(())
    }

    /// Takes the connections closed since the last call, with facts; `all`: closes the live ones before.
    fn flows(&self, py: Python<'_>, all: bool) -> PyResult<ArrowBatch> {
        let _visit = self.enter()?;
        let flows = py.detach(|| {
            let Ended { rows, ids, noted } = self.stream.drain_flows(all);
            shard_rows::table(rows.iter(), &ids, Some(&noted), &self.zones)
        });
        Ok(ArrowBatch::new(flows.map_err(arrow_error)?))
    }

    /// The live connections.
    fn snapshot(&self, py: Python<'_>) -> PyResult<Connections> {
        let _visit = self.enter()?;
        Ok(self.connections(py.detach(|| self.stream.snapshot())))
    }

    /// Statistics so far as a dictionary, with the damage of a capture.
    fn account<'py>(&self, py: Python<'py>, capture: Option<&Capture>) -> PyResult<Bound<'py, PyDict>> {
        let _visit = self.enter()?;
        let turn = capture.map(|capture| capture.captures.take().ok_or_else(busy)).transpose()?;
        let (account, turn) = py.detach(|| {
            let account = match turn.as_deref() {
                Some(Some(captures)) => self.stream.account(captures),
                _ => Captures::open(Vec::new(), false).and_then(|none| self.stream.account(&none)),
            };
            (account, turn)
        });
        if let (Some(capture), Some(turn)) = (capture, turn) {
            capture.captures.give_back(turn);
        }
        track::account(py, &account.map_err(capture_error)?)
    }

    /// Bounds the table anew; None: no bound.
    fn set_bounds(&self, py: Python<'_>, connections: Option<usize>, bytes: Option<usize>) -> PyResult<()> {
        let _visit = self.enter()?;
        let bounds = bounds(connections, bytes);
        py.detach(|| self.stream.set_bounds(bounds));
        Ok(())
    }

    /// Live connections and bytes of memory for them, each with its bound, connections evicted by bound, and packets that
    /// found no room.
    fn fill(&self, py: Python<'_>) -> PyResult<PyFill> {
        let _visit = self.enter()?;
        let fill = py.detach(|| self.stream.fill());
        let bound = |bound: usize| (bound != usize::MAX).then_some(bound);
        let connections = (fill.connections, bound(fill.bounds.connections));
        Ok((connections, (fill.bytes, bound(fill.bounds.bytes)), fill.evicted_by, fill.refused))
    }

    /// Packets, connections begun, live connections, and connections to be drained.
    fn sizes(&self, py: Python<'_>) -> PyResult<[u64; 4]> {
        let _visit = self.enter()?;
        Ok(py.detach(|| self.stream.sizes()))
    }

    /// Counts connections as they begin, from now on.
    fn count_begun(&self, py: Python<'_>) -> PyResult<()> {
        let _visit = self.enter()?;
        py.detach(|| self.stream.count_begun());
        Ok(())
    }

    /// Connections begun since then: direction, evidence and number.
    fn begun(&self, py: Python<'_>) -> PyResult<Vec<(&'static str, &'static str, u64)>> {
        let _visit = self.enter()?;
        Ok(py.detach(|| self.stream.begun()))
    }

    /// Bytes of memory that the live connections take.
    fn table_bytes(&self, py: Python<'_>) -> PyResult<usize> {
        let _visit = self.enter()?;
        Ok(py.detach(|| self.stream.table_bytes()))
    }

    /// Writes a checkpoint, with the configuration as TOML and a text of the caller.
    #[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn save(&self, py: Python<'_>, path: PathBuf, config: &str, note: &str) -> PyResult<()> {
        let _visit = self.enter()?;
        py.detach(|| checkpoint_file::save(&self.stream, &self.run, &path, config, note))
    }

    /// The live connection of a five-tuple in either direction, as a table of one row; None without one.
    fn lookup(
        &self,
        src: (&str, u16),
        dst: (&str, u16),
        proto: &str,
        vlan: Option<u16>,
    ) -> PyResult<Option<Connections>> {
        let (_visit, (src, sport), (dst, dport)) = (self.enter()?, src, dst);
        let (src, dst) = (address("src", src)?, address("dst", dst)?);
        if src.1 != dst.1 {
            return Err(PyValueError::new_err(
                "src and dst: found an IPv4 and an IPv6 address, expected two of a kind",
            ));
        }
        let number = protocol_number(proto)
            .ok_or_else(|| PyValueError::new_err(format!("proto: found {proto:?}, expected tcp, udp, sctp, ...")))?;
        if is_icmp(number) {
            let message = format!("proto: {proto} has no ports to look a connection up by; use snapshot()");
            return Err(PyValueError::new_err(message));
        }
        let tuple = FiveTuple { src: src.0, dst: dst.0, sport, dport, proto: number, family: src.1 };
        // Tags hold the VID and one.
        let vlan = Vlan { outer: vlan.map_or(0, |vid| vid.saturating_add(1)), inner: 0 };
        Ok(self.stream.lookup(&tuple, vlan).map(|rows| self.connections(rows)))
    }
}

/// An address of Python's.
pub fn address(name: &str, text: &str) -> PyResult<(Addr, Family)> {
    let addr: std::net::IpAddr = text
        .parse()
        .map_err(|_| PyValueError::new_err(format!("{name}: found {text:?}, expected an IPv4 or IPv6 address")))?;
    Ok(match addr {
        std::net::IpAddr::V4(addr) => (Addr::v4(addr.octets()), Family::V4),
        std::net::IpAddr::V6(addr) => (Addr(addr.into()), Family::V6),
    })
}
