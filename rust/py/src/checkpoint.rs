//! Checkpoints of a tracker: written whole or not at all, and opened once their sum was right.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use conntrack_core::checkpoint::{CheckpointError as Core, Reader, Writer};
use conntrack_core::pipeline::Stream;
use conntrack_core::sync::Turn;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::config::Config;
use crate::errors::{CheckpointError, system_error};
use crate::stream::Tracker;

/// A checkpoint whose sum is right.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct Checkpoint {
    path: PathBuf,
    config: String,
    /// What comes behind the configuration, until it is used.
    rest: Turn<Reader<File>>,
}

#[pymethods]
impl Checkpoint {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let opened = py.detach(|| {
            let mut rest = Reader::new(File::open(&path)?)?;
            Ok((rest.get()?, rest))
        });
        let (config, rest) = opened.map_err(|error| refused(&error, &path))?;
        Ok(Self { path, config, rest: Turn::new(Box::new(rest)) })
    }

    /// The configuration, as TOML.
    #[getter]
    fn config(&self) -> &str {
        &self.config
    }

    /// The tracker. It can be made once.
    fn resume(&self, py: Python<'_>, config: &Config) -> PyResult<Tracker> {
        let rest = self.rest.take();
        let mut rest = rest.ok_or_else(|| PyRuntimeError::new_err("this checkpoint was gone on from before"))?;
        let core = config.core();
        let stream = py.detach(|| Stream::resume(core, &mut rest)).map_err(|error| refused(&error, &self.path))?;
        Ok(Tracker::of(stream, core))
    }
}

/// Writes a checkpoint beside the path and renames it once it is on the disk: whatever happens, the path has the old one or
/// the new one.
pub fn save(stream: &Stream, path: &Path, config: &str) -> PyResult<()> {
    // A link leads to the file it names, which may be on another disk.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // One name for all: who was killed leaves one file, which the next one replaces.
    name.push(".part");
    let part = path.with_file_name(name);
    written(stream, &part, config).and_then(|()| fs::rename(&part, &path)).and_then(|()| sync(&path)).map_err(|error| {
        let _ = fs::remove_file(&part);
        system_error(&error, &path).unwrap_or_else(|| error.into())
    })
}

fn written(stream: &Stream, part: &Path, config: &str) -> io::Result<()> {
    let mut out = Writer::new(BufWriter::new(File::create(part)?))?;
    out.put(&config)?;
    stream.save(&mut out)?;
    let mut file = out.finish()?;
    file.flush()?;
    file.get_ref().sync_all()
}

/// Puts the new name of a file on the disk, where directories can be written to it.
fn sync(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

fn refused(error: &Core, path: &Path) -> PyErr {
    if let Core::Io(source) = error
        && let Some(error) = system_error(source, path)
    {
        return error;
    }
    CheckpointError::new_err(format!("{}: {error}", path.display()))
}
