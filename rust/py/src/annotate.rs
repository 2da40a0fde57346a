//! `label` and `split`: a second pass over a tracked capture.

use std::fs;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use conntrack_core::capture::Captures;
use conntrack_core::direction::Direction;
use conntrack_core::pipeline::{self, AnnotateError, RunOutput};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::anonymise::Anonymiser;
use crate::config::Config;
use crate::connections::Connections;
use crate::errors::{capture_error, system_error};
use crate::source::{Source, inputs};
use crate::track::{account, faults, run, zones};
use crate::write::place::PartialFile;
use crate::write::sink::UntilError;
use crate::write::{PyWrite, complete};

/// Results of the first pass, and the outcome of the second.
type TwoPasses<T> = (RunOutput, Result<T, AnnotateError>);

/// Tracks captures, reads them again, and writes every packet with direction bits and a comment. The target is a path for a
/// pcapng file, renamed once complete, or a binary file object.
#[pyfunction]
#[pyo3(signature = (sources, config, target, progress=None, names=None))]
#[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub fn label<'py>(
    py: Python<'py>,
    sources: Vec<Source>,
    config: &Config,
    target: &Bound<'py, PyAny>,
    progress: Option<Py<PyAny>>,
    names: Option<&Anonymiser>,
) -> PyResult<(Connections, Bound<'py, PyDict>, u64)> {
    let names = names.map(Anonymiser::core);
    let file = target.hasattr("write")?.then(|| PyWrite::new(target.clone().unbind()));
    let path: PathBuf = if file.is_some() { "<file object>".into() } else { target.extract()? };
    let (tracked, written) = twice(py, sources, config, progress.as_ref(), |again, tracked, observe| {
        if let Some(file) = file {
            return pipeline::label(again, tracked, BufWriter::new(UntilError::new(file)), names, observe);
        }
        let mut dropped = 0;
        let write = |out: &mut _| pipeline::label(again, tracked, out, names, observe).map(|found| dropped = found);
        complete(&path, write).map(|()| dropped)
    })?;
    let dropped = written.map_err(|error| annotate_error(error, &path))?;
    let (connections, account) = result(py, config, tracked)?;
    Ok((connections, account, dropped))
}

/// Tracks captures, reads them again, and writes one pcapng file for each direction into a directory. Returns their paths, too.
#[pyfunction]
#[pyo3(signature = (sources, config, directory, progress=None, names=None))]
#[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
pub fn split<'py>(
    py: Python<'py>,
    sources: Vec<Source>,
    config: &Config,
    directory: PathBuf,
    progress: Option<Py<PyAny>>,
    names: Option<&Anonymiser>,
) -> PyResult<(Connections, Bound<'py, PyDict>, Vec<PathBuf>, u64)> {
    let names = names.map(Anonymiser::core);
    let mut files = Vec::new();
    let (tracked, written) = twice(py, sources, config, progress.as_ref(), |again, tracked, observe| {
        let open = |direction: Direction| {
            let path = directory.join(format!("{}.pcapng", Direction::NAMES[direction as usize]));
            let (file, part) = PartialFile::file(&path)?;
            files.push(part);
            Ok(BufWriter::new(file))
        };
        let written = fs::create_dir_all(&directory).map_err(AnnotateError::from);
        let written = written.and_then(|()| pipeline::split(again, tracked, open, names, observe));
        let files = std::mem::take(&mut files);
        written.and_then(|dropped| Ok((files.into_iter().map(named).collect::<Result<Vec<_>, _>>()?, dropped)))
    })?;
    let (files, dropped) = written.map_err(|error| annotate_error(error, &directory))?;
    let (connections, account) = result(py, config, tracked)?;
    Ok((connections, account, files, dropped))
}

/// Gives a file its name, once all of them are complete; the others are taken away.
fn named(part: PartialFile) -> Result<PathBuf, AnnotateError> {
    let path = part.target().to_owned();
    part.complete()?;
    Ok(path)
}

/// Reads captures twice: to track them with labels, and for `second`.
fn twice<T: Send>(
    py: Python<'_>,
    sources: Vec<Source>,
    config: &Config,
    progress: Option<&Py<PyAny>>,
    second: impl FnOnce(&mut Captures, &RunOutput, pipeline::Observe<'_>) -> Result<T, AnnotateError> + Send,
) -> PyResult<TwoPasses<T>> {
    let core = config.core();
    let copy = |(name, file): &Source| (name.clone(), file.as_ref().map(|file| file.clone_ref(py)));
    let again = inputs(py, sources.iter().map(copy).collect());
    run(py, sources, core, progress, |captures, observe| {
        let tracked = pipeline::track(captures, core, true, observe)?;
        let mut again = Captures::open(again, faults(core))?;
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
