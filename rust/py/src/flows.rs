//! Flow logs: names and file objects in; a table and the account out.

use std::ops::ControlFlow;
use std::time::Instant;

use conntrack_core::error::CaptureError;
use conntrack_flowlogs::{Account, FlowError as Core, Kind, Options, Problem, Progress, read};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::config::Config;
use crate::connections::Connections;
use crate::errors::{FlowError, capture_error, message};
use crate::source::{Source, inputs};
use crate::track::{OBSERVE_EVERY, zones};

/// The words of the kinds of logs.
pub fn kinds() -> Vec<&'static str> {
    Kind::NAMES.to_vec()
}

/// Reads flow logs. `progress` is called with (bytes read, records) about ten times a second.
#[pyfunction]
#[pyo3(signature = (sources, config, kind=None, fields=None, progress=None))]
#[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub fn read_flows<'py>(
    py: Python<'py>,
    sources: Vec<Source>,
    config: &Config,
    kind: Option<&str>,
    fields: Option<Vec<String>>,
    progress: Option<Py<PyAny>>,
) -> PyResult<(Connections, Bound<'py, PyDict>)> {
    let named = |word: &str| Kind::ALL.into_iter().find(|kind| kind.name() == word);
    let unknown =
        |word: &str| PyValueError::new_err(format!("kind: found {word:?}, expected one of {}", Kind::NAMES.join(", ")));
    let kind = kind.map(|word| named(word).ok_or_else(|| unknown(word))).transpose()?;
    let options = Options { kind, fields };
    let (inputs, core) = (inputs(py, sources), config.core());
    let (mut stopped, mut asked) = (None, Instant::now());
    let mut observe = |now: Progress| {
        if !now.waits && asked.elapsed() < OBSERVE_EVERY {
            return ControlFlow::Continue(());
        }
        asked = Instant::now();
        let observed = Python::attach(|py| {
            py.check_signals()?;
            progress.as_ref().map_or(Ok(()), |call| call.call1(py, (now.bytes, now.records)).map(drop))
        });
        match observed {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                stopped = Some(error);
                ControlFlow::Break(())
            }
        }
    };
    let done = py.detach(|| read(inputs, &options, core, &mut observe));
    let output = match (done, stopped) {
        (_, Some(error)) => return Err(error),
        (Err(Core::File(error)), None) => return Err(of_file(error)),
        (Err(Core::Log { path, reason }), None) => {
            return Err(FlowError::new_err((message(&path, &reason), path.into_os_string())));
        }
        (Ok(output), None) => output,
    };
    let account = account(py, &output.account)?;
    Ok((Connections::of_log(output.rows, zones(core), output.translated), account))
}

/// Damage of a compressed log is an error of the log, not of a capture.
fn of_file(error: CaptureError) -> PyErr {
    match error {
        CaptureError::Format { ref path, .. } => {
            FlowError::new_err((message(path, &error.reason()), path.as_os_str().to_owned()))
        }
        error => capture_error(error),
    }
}

type PyProblem = (u64, std::ffi::OsString, u64, String);

fn problem(problem: &Problem) -> PyProblem {
    (problem.count, problem.file.clone().into_os_string(), problem.place, problem.text.clone())
}

fn account<'py>(py: Python<'py>, of: &Account) -> PyResult<Bound<'py, PyDict>> {
    let account = PyDict::new(py);
    account.set_item("records", of.records)?;
    account.set_item("bytes", of.bytes)?;
    let kinds: Vec<_> = of.kinds.iter().map(|(file, kind)| (file.as_os_str(), *kind)).collect();
    account.set_item("kinds", kinds)?;
    let skipped = PyDict::new(py);
    for (reason, what) in &of.skipped {
        skipped.set_item(reason, problem(what))?;
    }
    account.set_item("skipped", skipped)?;
    account.set_item("missing", of.missing.as_ref().map(problem))?;
    account.set_item("no_data", of.no_data)?;
    account.set_item("other", of.other)?;
    account.set_item("sampled", of.sampled)?;
    account.set_item("seen_twice", of.seen_twice)?;
    account.set_item("without_flags", of.without_flags)?;
    let files: Vec<_> = of.skipped_files.iter().map(|(file, reason)| (file.as_os_str(), reason)).collect();
    account.set_item("skipped_files", files)?;
    account.set_item("one_way", of.one_way)?;
    account.set_item("refused", of.refused)?;
    account.set_item("connections", of.connections)?;
    Ok(account)
}
