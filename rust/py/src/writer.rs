//! The writer of tables, one after another.

use std::path::{Path, PathBuf};

use arrow_schema::ArrowError;
use conntrack_core::sync::Turn;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::connections::Connections;
use crate::home::Home;
use crate::write::{Manner, Parts, Sizes, Writing, with_path};

/// Writes tables, one after another; an unclosed writer leaves no file.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct Writer {
    writing: Turn<Option<Writing>>,
    home: Home,
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.home.is_here()
            && let Some(turn) = self.writing.take()
        {
            // A forked child that made no call: the parent writes the buffers, and removes the file.
            std::mem::forget(turn);
        }
    }
}

#[pymethods]
impl Writer {
    #[new]
    #[pyo3(signature = (target, format, by=None, grow=None, parts=None))]
    fn new(
        target: &Bound<'_, PyAny>,
        format: &str,
        by: Option<&str>,
        grow: Option<u64>,
        parts: Option<(Option<u64>, Option<u64>)>,
    ) -> PyResult<Self> {
        let manner = match (grow, parts) {
            (Some(at), _) => Manner::Grow(at),
            (None, Some((rows, bytes))) => Manner::Parts(Sizes { rows, bytes }),
            (None, None) => Manner::Whole,
        };
        let writing = Writing::open(target, format, by, manner)?;
        Ok(Self { writing: Turn::new(Box::new(Some(writing))), home: Home::default() })
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

    /// Completes all parts but that of `kept`.
    #[pyo3(signature = (kept=None))]
    fn end_parts(&self, py: Python<'_>, kept: Option<i64>) -> PyResult<()> {
        self.with_parts(py, |parts| parts.end_all(kept))
    }

    /// Number of complete parts without their name.
    fn waiting_parts(&self, py: Python<'_>) -> PyResult<usize> {
        self.with_parts(py, |parts| Ok(parts.waiting()))
    }

    /// Gives the complete parts their names.
    fn publish_parts(&self, py: Python<'_>) -> PyResult<Vec<PathBuf>> {
        self.with_parts(py, Parts::publish)
    }

    /// Path and length on the disk of each part without its name.
    fn marks(&self, py: Python<'_>) -> PyResult<Vec<(PathBuf, u64)>> {
        self.with_parts(py, Parts::marks)
    }

    /// Completes, removes or keeps what a killed run has left; each file with what became of it.
    #[pyo3(signature = (marks=None))]
    #[allow(clippy::needless_pass_by_value, reason = "extracted from Python")]
    fn recover(&self, py: Python<'_>, marks: Option<Vec<(PathBuf, u64)>>) -> PyResult<Vec<(PathBuf, &'static str)>> {
        self.with_parts(py, |parts| Ok(parts.recover(marks.as_deref())?))
    }

    /// Removes the written file or directory.
    fn discard(&self, py: Python<'_>) -> PyResult<()> {
        let _visit = self.home.enter("writer")?;
        let mut turn = self.writing.take().ok_or_else(busy)?;
        py.detach(|| *turn = None);
        self.writing.give_back(turn);
        Ok(())
    }

    /// True until the writer is closed or discarded.
    fn is_open(&self) -> PyResult<bool> {
        let _visit = self.home.enter("writer")?;
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
        let _visit = self.home.enter("writer")?;
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

impl Writer {
    /// Runs `work` on the parts of the open target, which an error closes.
    fn with_parts<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Parts) -> Result<T, ArrowError> + Send,
    ) -> PyResult<T> {
        let mut done = None;
        self.with(py, |mut writing| {
            let parts = writing.parts().ok_or_else(|| ArrowError::InvalidArgumentError("no parts".to_owned()))?;
            done = Some(work(parts)?);
            Ok(Some(writing))
        })?;
        done.ok_or_else(busy)
    }
}

fn busy() -> PyErr {
    PyRuntimeError::new_err("another thread writes to this writer at this moment")
}
