//! A Python file object as a source of bytes.
//!
//! An `Exception` of `read` is an error of the file, which `on_error = "skip"` passes over. Other exceptions
//! (KeyboardInterrupt and the like), and those of a signal handler, end the run and come out as they were.

use std::io::{Error, ErrorKind, Read};
use std::path::PathBuf;

use conntrack_core::capture::Input;
use pyo3::exceptions::{PyException, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::errors::{CaptureError, IdleError, message};

/// A file name, with None to read the file, a binary file object to read instead, or the reason not to read it as text.
pub type Source = (PathBuf, Option<Py<PyAny>>);

/// Inputs of the core.
pub fn inputs(py: Python<'_>, sources: Vec<Source>) -> Vec<Input> {
    let input = |(name, file): Source| match file {
        Some(file) => match file.bind(py).cast::<PyString>().map(ToString::to_string) {
            Ok(reason) => Input::Refused { name, reason },
            Err(_) => Input::Reader { reader: Box::new(PyRead::new(file, name.clone())), name },
        },
        None => Input::named(name),
    };
    sources.into_iter().map(input).collect()
}

/// Reads through the object's `read(n)`, taking the GIL for that.
pub struct PyRead {
    file: Py<PyAny>,
    name: PathBuf,
}

impl PyRead {
    /// A reader of a binary file object, with a name for messages.
    pub fn new(file: Py<PyAny>, name: PathBuf) -> Self {
        Self { file, name }
    }

    /// An exception of `read` inside the error that carries the exception.
    fn raised(&self, py: Python<'_>, error: PyErr) -> Error {
        if error.is_instance_of::<PyStopIteration>(py) {
            // Whoever loops over batches would take the exception for the end.
            let reason = "read() raised StopIteration, expected bytes, and b\"\" at the end";
            let named = CaptureError::new_err((message(&self.name, reason), self.name.as_os_str().to_owned()));
            named.set_cause(py, Some(error));
            return Error::new(ErrorKind::InvalidData, named);
        }
        if error.is_instance_of::<IdleError>(py) {
            return ErrorKind::WouldBlock.into();
        }
        let is_of_the_file = error.is_instance_of::<PyException>(py);
        Error::new(if is_of_the_file { ErrorKind::InvalidData } else { ErrorKind::Other }, error)
    }
}

impl Read for PyRead {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        Python::attach(|py| {
            // Who waits in `read` is not woken by a signal that came before.
            py.check_signals().map_err(Error::other)?;
            let read = self.file.bind(py).call_method1("read", (into.len(),));
            let read = read.map_err(|error| self.raised(py, error))?;
            let refused = |reason| Err(Error::new(ErrorKind::InvalidData, reason));
            let Ok(bytes) = read.cast::<PyBytes>() else {
                let remedy = match &read {
                    read if read.is_none() => "a file that never blocks cannot be waited for",
                    read if read.is_instance_of::<PyString>() => "open the file in binary mode, 'rb'",
                    _ => "convert with bytes()",
                };
                let found = read.get_type().name().map(|name| name.to_string()).unwrap_or_default();
                return refused(format!("read() returned {found}, expected bytes: {remedy}"));
            };
            let bytes = bytes.as_bytes();
            let Some(place) = into.get_mut(..bytes.len()) else {
                return refused(format!("read({}) returned {} bytes, expected no more", into.len(), bytes.len()));
            };
            place.copy_from_slice(bytes);
            Ok(bytes.len())
        })
    }
}
