//! `label` and `split`: a second pass over a tracked capture.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use conntrack_core::capture::{Captures, Input};
use conntrack_core::direction::Direction;
use conntrack_core::pipeline::{self, AnnotateError, RunOutput};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::config::Config;
use crate::connections::Connections;
use crate::errors::{capture_error, system_error};
use crate::track::{account, run, zones};
use crate::write::{PyWrite, complete};

/// Results of the first pass, and the outcome of the second.
type TwoPasses<T> = (RunOutput, Result<T, AnnotateError>);

/// Tracks captures, reads them again, and writes every packet with direction bits and a comment. The target is a path for a
/// pcapng file, renamed once complete, or a binary file object.
#[pyfunction]
#[pyo3(signature = (names, config, target, progress=None))]
#[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub fn label<'py>(
    py: Python<'py>,
    names: Vec<String>,
    config: &Config,
    target: &Bound<'py, PyAny>,
    progress: Option<Py<PyAny>>,
) -> PyResult<(Connections, Bound<'py, PyDict>)> {
    let file = target.hasattr("write")?.then(|| PyWrite::new(target.clone().unbind()));
    let path: PathBuf = if file.is_some() { "<file object>".into() } else { target.extract()? };
    let (tracked, written) = twice(py, &names, config, progress.as_ref(), |again, tracked, observe| match file {
        Some(file) => pipeline::label(again, tracked, BufWriter::new(file), observe),
        None => complete(&path, |out| pipeline::label(again, tracked, out, observe)),
    })?;
    written.map_err(|error| annotate_error(error, &path))?;
    result(py, config, tracked)
}

/// Tracks captures, reads them again, and writes one pcapng file for each direction into a directory. Returns their paths, too.
#[pyfunction]
#[pyo3(signature = (names, config, directory, progress=None))]
#[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub fn split<'py>(
    py: Python<'py>,
    names: Vec<String>,
    config: &Config,
    directory: PathBuf,
    progress: Option<Py<PyAny>>,
) -> PyResult<(Connections, Bound<'py, PyDict>, Vec<PathBuf>)> {
    let mut files = Vec::new();
    let (tracked, written) = twice(py, &names, config, progress.as_ref(), |again, tracked, observe| {
        let open = |direction: Direction| {
            let path = directory.join(format!("{}.pcapng", Direction::NAMES[direction as usize]));
            let part = path.with_extension(format!("pcapng.{}.part", std::process::id()));
            let file = File::create(&part)?;
            files.push((part, path));
            Ok(BufWriter::new(file))
        };
        let written = fs::create_dir_all(&directory).map_err(AnnotateError::from);
        let written = written.and_then(|()| pipeline::split(again, tracked, open, observe));
        named(&files, written)
    })?;
    written.map_err(|error| annotate_error(error, &directory))?;
    let (connections, account) = result(py, config, tracked)?;
    Ok((connections, account, files.into_iter().map(|(_, path)| path).collect()))
}

/// Gives files their names once all of them are complete; else takes them away.
fn named(files: &[(PathBuf, PathBuf)], written: Result<(), AnnotateError>) -> Result<(), AnnotateError> {
    let renamed = written.and_then(|()| Ok(files.iter().try_for_each(|(part, path)| fs::rename(part, path))?));
    if renamed.is_err() {
        for (part, _) in files {
            // What is not there any more is what was wanted.
            let _ = fs::remove_file(part);
        }
    }
    renamed
}

/// Reads captures twice: to track them with labels, and for `second`.
fn twice<T: Send>(
    py: Python<'_>,
    names: &[String],
    config: &Config,
    progress: Option<&Py<PyAny>>,
    second: impl FnOnce(&mut Captures, &RunOutput, pipeline::Observe<'_>) -> Result<T, AnnotateError> + Send,
) -> PyResult<TwoPasses<T>> {
    let core = config.core();
    let sources = || names.iter().map(|name| (PathBuf::from(name), None)).collect();
    let again: Vec<Input> = names.iter().map(Input::named).collect();
    run(py, sources(), core, progress, |captures, observe| {
        let tracked = pipeline::track(captures, core, true, observe)?;
        let mut again = Captures::open(again, core.strict)?;
        let written = second(&mut again, &tracked, observe);
        Ok((tracked, written))
    })
}

fn result<'py>(py: Python<'py>, config: &Config, tracked: RunOutput) -> PyResult<(Connections, Bound<'py, PyDict>)> {
    let account = account(py, &tracked.stats)?;
    Ok((Connections::new(tracked.rows, zones(config.core())), account))
}

fn annotate_error(error: AnnotateError, path: &Path) -> PyErr {
    match error {
        AnnotateError::Capture(error) => capture_error(error),
        AnnotateError::Io(error) => system_error(&error, path).unwrap_or_else(|| io::Error::into(error)),
        AnnotateError::Changed { .. } => PyRuntimeError::new_err(error.to_string()),
    }
}
