//! Starts of ranges in a capture, and walks that prove them; see the core.

use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use conntrack_core::capture::Input;
use conntrack_core::capture::split::{self, Start, Step};
use conntrack_core::error::CaptureError;
use conntrack_core::sync::Turn;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::capture_error;
use crate::source::PyRead;

/// Start and head of a range, and the end unless the file's.
pub type Range = (u64, Vec<u8>, Option<u64>);

/// The source of a range: a file by name, or a file object that stands at the start.
fn source(name: &PathBuf, file: Option<Py<PyAny>>, start: u64) -> Result<Box<dyn Read + Send>, CaptureError> {
    let Some(file) = file else {
        let open = || {
            let mut file = std::fs::File::open(name)?;
            file.seek(SeekFrom::Start(start)).map(|_| file)
        };
        return match open() {
            Ok(file) => Ok(Box::new(file)),
            Err(source) => Err(CaptureError::Io { path: name.clone(), source }),
        };
    };
    Ok(Box::new(PyRead::new(file, name.clone())))
}

/// Input of a range.
pub fn input(name: PathBuf, file: Option<Py<PyAny>>, (offset, head, end): Range) -> Result<Input, CaptureError> {
    let source = source(&name, file, offset)?;
    Ok(split::range(name, source, &Start { offset, head, before: 0 }, end))
}

/// Header of a capture by its first bytes; None if the capture cannot be split.
#[pyfunction]
pub fn range_header<'py>(py: Python<'py>, first: &[u8]) -> Option<Bound<'py, PyBytes>> {
    split::header(first).map(|header| PyBytes::new(py, &header))
}

/// Guess of the first start in data from an offset of a file: offset, head, and offset of the record in front.
#[pyfunction]
pub fn find_start<'py>(
    py: Python<'py>,
    first: Vec<u8>,
    data: Vec<u8>,
    offset: u64,
) -> Option<(u64, Bound<'py, PyBytes>, u64)> {
    let found = py.detach(|| split::find(&first, &data, offset))?;
    Some((found.offset, PyBytes::new(py, &found.head), found.before))
}

/// Walk from a start to the first target that is a start.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct Walk {
    walk: Turn<split::Walk>,
}

#[pymethods]
impl Walk {
    #[classattr]
    const FRONT: usize = split::FRONT;
    #[classattr]
    const WINDOW: usize = split::WINDOW;

    #[new]
    fn new(
        name: PathBuf,
        file: Option<Py<PyAny>>,
        start: (u64, Vec<u8>),
        targets: Vec<(u64, u64)>,
        first: &[u8],
    ) -> PyResult<Self> {
        let (offset, head) = start;
        let source = source(&name, file, offset).map_err(capture_error)?;
        let start = Start { offset, head, before: 0 };
        let walk = split::Walk::new(name, source, &start, targets, first).map_err(capture_error)?;
        Ok(Self { walk: Turn::new(Box::new(walk)) })
    }

    /// Walk on: a word and an offset.
    fn step(&self, py: Python<'_>) -> PyResult<(&'static str, u64)> {
        let mut turn = self.walk.take().ok_or_else(|| PyRuntimeError::new_err("another thread walks"))?;
        let step = py.detach(|| turn.step());
        self.walk.give_back(turn);
        py.check_signals()?;
        Ok(match step.map_err(capture_error)? {
            Step::More(at) => ("more", at),
            Step::Part(at) => ("part", at),
            Step::Landed(at) => ("landed", at),
            Step::Ended(at) => ("ended", at),
        })
    }
}
