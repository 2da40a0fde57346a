//! `track`: names and file objects in; a table, labels and statistics out.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use conntrack_core::capture::{Captures, Faults, Input};
use conntrack_core::config::Config as Core;
use conntrack_core::error::CaptureError;
use conntrack_core::names::Shown;
use conntrack_core::pipeline::{self, Observe};
use conntrack_core::stats::{SkippedFile, Stats};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::buffer::Buffer;
use crate::config::Config;
use crate::connections::Connections;
use crate::errors::{ConfigError, capture_error};
use crate::policy::Policy;
use crate::source::{Source, inputs};

/// Interval of checks for signals and of calls of `progress`.
pub const OBSERVE_EVERY: Duration = Duration::from_millis(100);

/// Tracks captures. `sources`: names (`-` is standard input), each with what to read instead.
/// `progress` is called with (bytes read, bytes in all or None, packets) about ten times a second.
#[pyfunction]
#[pyo3(signature = (sources, config, labels, progress=None))]
#[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub fn track<'py>(
    py: Python<'py>,
    sources: Vec<Source>,
    config: &Config,
    labels: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<(Connections, Option<Buffer>, Bound<'py, PyDict>)> {
    let core = config.core();
    let tracked = run(py, sources, core, progress.as_ref(), |captures, observe| {
        pipeline::track(captures, core, labels, observe)
    })?;
    let labels = tracked.labels.map(|bytes| Buffer::new(bytes.into()));
    Ok((Connections::new(tracked.rows, zones(core)), labels, account(py, &tracked.stats)?))
}

/// Tracks captures, with names by row: the name in the payload, or else the DNS name of the responder.
#[pyfunction]
#[pyo3(signature = (sources, config, progress=None))]
#[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub fn named<'py>(
    py: Python<'py>,
    sources: Vec<Source>,
    config: &Config,
    progress: Option<Py<PyAny>>,
) -> PyResult<(Connections, BTreeMap<u64, String>, Bound<'py, PyDict>)> {
    let core = config.core();
    let (tracked, names) =
        run(py, sources, core, progress.as_ref(), |captures, observe| pipeline::named(captures, core, observe))?;
    Ok((Connections::new(tracked.rows, zones(core)), names, account(py, &tracked.stats)?))
}

/// Names by address, each with the word of the protocol that showed it.
type PyHostNames = BTreeMap<String, Vec<(String, &'static str)>>;

/// Tracks captures on one thread, with the names that payloads show for the responders' addresses.
#[pyfunction]
#[pyo3(signature = (sources, config, labels, progress=None))]
#[allow(clippy::needless_pass_by_value, clippy::type_complexity, reason = "extracted from Python; a tuple for Python")]
pub fn track_with_names<'py>(
    py: Python<'py>,
    sources: Vec<Source>,
    config: &Config,
    labels: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<(Connections, Option<Buffer>, PyHostNames, Bound<'py, PyDict>)> {
    let core = config.core();
    let (tracked, names) = run(py, sources, core, progress.as_ref(), |captures, observe| {
        pipeline::with_names(captures, core, labels, observe)
    })?;
    let words = |names: Vec<(String, Shown)>| names.into_iter().map(|(name, shown)| (name, shown.word())).collect();
    let names = names.into_iter().map(|(address, names)| (address.to_string(), words(names))).collect();
    let labels = tracked.labels.map(|bytes| Buffer::new(bytes.into()));
    Ok((Connections::new(tracked.rows, zones(core)), labels, names, account(py, &tracked.stats)?))
}

/// Connections, the account, packets by fate, refused packets by row, and the fate of every packet.
type PyReplay<'py> = (Connections, Bound<'py, PyDict>, [u64; 4], BTreeMap<u64, u64>, Option<Buffer>);

/// Sends captures through a gateway with a policy. `fates`: return the fate of every packet.
#[pyfunction]
#[pyo3(signature = (sources, config, policy, fates, progress=None))]
#[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub fn replay<'py>(
    py: Python<'py>,
    sources: Vec<Source>,
    config: &Config,
    policy: &Policy,
    fates: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<PyReplay<'py>> {
    let core = config.core();
    let replayed = run(py, sources, core, progress.as_ref(), |captures, observe| {
        pipeline::replay(captures, core, &policy.core(), fates, observe)
    })?;
    let tracked = replayed.tracked;
    let account = account(py, &tracked.stats)?;
    let fates = replayed.fates.map(|bytes| Buffer::new(bytes.into()));
    Ok((Connections::new(tracked.rows, zones(core)), account, replayed.packets, replayed.refused, fates))
}

/// The names of the zones, by number.
pub fn zones(core: &Core) -> Vec<String> {
    core.zones.iter().map(|zone| zone.name.clone()).collect()
}

/// Opens captures and runs `work` on them without the GIL, with periodic checks for signals and calls of `progress`.
pub fn run<T: Send>(
    py: Python<'_>,
    sources: Vec<Source>,
    core: &Core,
    progress: Option<&Py<PyAny>>,
    work: impl FnOnce(&mut Captures, Observe<'_>) -> Result<T, CaptureError> + Send,
) -> PyResult<T> {
    let inputs = inputs(py, sources);
    let mut stopped = None;
    let mut asked = Instant::now();
    let mut observe = |now: pipeline::Progress| {
        if !now.interrupted && asked.elapsed() < OBSERVE_EVERY {
            return ControlFlow::Continue(());
        }
        asked = Instant::now();
        let observed = Python::attach(|py| {
            py.check_signals()?;
            // Before the first packets there is nothing to tell.
            progress
                .filter(|_| now.packets > 0)
                .map_or(Ok(()), |call| call.call1(py, (now.bytes, now.total, now.packets)).map(drop))
        });
        match observed {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                stopped = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    let done = py.detach(|| work(&mut Captures::open(inputs, faults(core))?, &mut observe));
    match (done, stopped) {
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(capture_error(error)),
        (Ok(done), None) => Ok(done),
    }
}

/// Runs a baseline loop for benchmarks up to a step (`read`, `decode`, `look_up`), and returns the number of records that
/// reached it. Another depth is a `ConfigError`.
#[pyfunction]
#[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub fn walk(py: Python<'_>, names: Vec<String>, config: &Config, depth: &str) -> PyResult<u64> {
    let core = config.core();
    let found = pipeline::Depth::named(depth);
    let depth = found
        .ok_or_else(|| ConfigError::new_err(format!("depth: found {depth:?}, expected read, decode or look_up")))?;
    let walked = py.detach(|| {
        let mut captures = Captures::open(names.into_iter().map(Input::named).collect(), core.strict)?;
        pipeline::walk(&mut captures, core, depth)
    });
    walked.map_err(capture_error)
}

/// Skipped records: reason → (number, file and offset of the first).
pub fn skipped<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    let skipped = PyDict::new(py);
    for (reason, what) in &stats.skipped {
        skipped.set_item(reason, (what.count, what.file.as_os_str(), what.offset))?;
    }
    Ok(skipped)
}

/// Files passed over: file, reason, offset and packets of each.
pub fn skipped_files<'py>(py: Python<'py>, files: &[SkippedFile]) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, files.iter().map(|one| (one.file.as_os_str(), &one.reason, one.offset, one.packets)))
}

/// Treatment of damage and of files that cannot be read.
pub fn faults(core: &Core) -> Faults {
    Faults { strict: core.strict, skip: core.skip_files }
}

/// Statistics as a dictionary.
pub fn account<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    let account = PyDict::new(py);
    account.set_item("packets", stats.packets)?;
    account.set_item("bytes", stats.bytes)?;
    account.set_item("snapped", stats.snapped)?;
    account.set_item("skipped", skipped(py, stats)?)?;
    account.set_item("skipped_files", skipped_files(py, &stats.skipped_files)?)?;
    account.set_item("not_ip", &stats.not_ip)?;
    account.set_item("skipped_bytes", stats.skipped_bytes.clone())?;
    account.set_item("file_bytes", stats.file_bytes)?;
    account.set_item("parts", stats.parts)?;
    account.set_item("after_close", stats.after_close)?;
    account.set_item("merged_parts", stats.merged_parts)?;
    account.set_item("early_parts", stats.early_parts)?;
    let unsorted = PyDict::new(py);
    for (file, step) in &stats.unsorted {
        unsorted.set_item(file.as_os_str(), step)?;
    }
    account.set_item("unsorted", unsorted)?;
    account.set_item("evicted", stats.evicted)?;
    account.set_item("evicted_by", stats.evicted_by.clone())?;
    account.set_item("connections", stats.connections)?;
    account.set_item("peak_connections", stats.peak_connections)?;
    account.set_item("first", stats.first)?;
    account.set_item("last", stats.last)?;
    let facts = PyDict::new(py);
    for (name, value) in stats.quality.counters() {
        facts.set_item(name, value)?;
    }
    account.set_item("quality", facts)?;
    Ok(account)
}
