//! Opened checkpoints, from which a tracker resumes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use conntrack_core::checkpoint::{CheckpointError as Core, Reader};
use conntrack_core::pipeline::Stream;
use conntrack_core::sync::Turn;
use conntrack_core::zeek_log::Seed;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::config::Config;
use crate::errors::{CheckpointError, system_error};
use crate::stream::Tracker;
use crate::table::Run;

/// A checkpoint with a verified checksum.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct Checkpoint {
    path: PathBuf,
    config: String,
    note: String,
    run: Arc<Run>,
    /// The parts after the configuration, until [`Self::resume`].
    rest: Turn<Reader<File>>,
}

#[pymethods]
impl Checkpoint {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let opened = py.detach(|| {
            let mut rest = Reader::new(File::open(&path)?)?;
            let config = rest.get()?;
            let note = rest.get()?;
            let seed: Option<Seed> = rest.get()?;
            let run = Run { seed: seed.map(OnceLock::from).unwrap_or_default() };
            Ok((config, note, Arc::new(run), rest))
        });
        let (config, note, run, rest) = opened.map_err(|error| refused(&error, &path))?;
        Ok(Self { path, config, note, run, rest: Turn::new(Box::new(rest)) })
    }

    /// The configuration, as TOML.
    #[getter]
    fn config(&self) -> &str {
        &self.config
    }

    /// The caller's text.
    #[getter]
    fn note(&self) -> &str {
        &self.note
    }

    /// The tracker; a second call is an error.
    fn resume(&self, py: Python<'_>, config: &Config) -> PyResult<Tracker> {
        let rest = self.rest.take();
        let mut rest = rest.ok_or_else(|| PyRuntimeError::new_err("this checkpoint was gone on from before"))?;
        let core = config.core();
        let stream = py.detach(|| Stream::resume(core, &mut rest)).map_err(|error| refused(&error, &self.path))?;
        Ok(Tracker::of(stream, core, self.run.clone()))
    }
}

fn refused(error: &Core, path: &Path) -> PyErr {
    if let Core::Io(source) = error
        && let Some(error) = system_error(source, path)
    {
        return error;
    }
    CheckpointError::new_err(format!("{}: {error}", path.display()))
}
