//! The writer of tables, one after another.

use std::path::Path;

use arrow_schema::ArrowError;
use conntrack_core::sync::Turn;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::connections::Connections;
use crate::write::{Writing, with_path};

/// Writes tables, one after another; an unclosed writer leaves no file.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct Writer {
    writing: Turn<Option<Writing>>,
}

#[pymethods]
impl Writer {
    #[new]
    #[pyo3(signature = (target, format, by=None))]
    fn new(target: &Bound<'_, PyAny>, format: &str, by: Option<&str>) -> PyResult<Self> {
        let writing = Writing::open(target, format, by)?;
        Ok(Self { writing: Turn::new(Box::new(Some(writing))) })
    }

    /// Appends a table.
    fn write(&self, py: Python<'_>, table: &Connections) -> PyResult<()> {
        self.with(py, |mut writing| {
            writing.write(table.table())?;
            Ok(Some(writing))
        })
    }

    /// Completes the file or directory.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |writing| writing.close().map(|()| None))
    }

    /// Removes the written file or directory.
    fn discard(&self, py: Python<'_>) -> PyResult<()> {
        let mut turn = self.writing.take().ok_or_else(busy)?;
        py.detach(|| *turn = None);
        self.writing.give_back(turn);
        Ok(())
    }

    /// True until the writer is closed or discarded.
    fn is_open(&self) -> PyResult<bool> {
        let turn = self.writing.take().ok_or_else(busy)?;
        let is_open = turn.is_some();
        self.writing.give_back(turn);
        Ok(is_open)
    }
}

impl Writer {
    /// Runs `work` on the open target, which an error closes.
    fn with(
        &self,
        py: Python<'_>,
        work: impl FnOnce(Writing) -> Result<Option<Writing>, ArrowError> + Send,
    ) -> PyResult<()> {
        let mut turn = self.writing.take().ok_or_else(busy)?;
        let done = match turn.take() {
            None => Err(PyValueError::new_err("this writer is closed")),
            Some(writing) => {
                let path = writing.path().map(Path::to_owned);
                py.detach(|| work(writing)).map_err(|error| with_path(error, path.as_deref()))
            }
        };
        let done = done.map(|writing| *turn = writing);
        self.writing.give_back(turn);
        done
    }
}

fn busy() -> PyErr {
    PyRuntimeError::new_err("another thread writes to this writer at this moment")
}
