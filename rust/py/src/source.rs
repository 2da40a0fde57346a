//! A Python file object as a source of bytes.

use std::io::{Error, Read};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Reads through the object's `read(n)`, taking the GIL for that.
pub struct PyRead {
    file: Py<PyAny>,
}

impl PyRead {
    /// Wraps a binary file object.
    pub fn new(file: Py<PyAny>) -> Self {
        Self { file }
    }
}

impl Read for PyRead {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        Python::attach(|py| {
            // Who waits in `read` is not woken by a signal that came before.
            py.check_signals().map_err(Error::from)?;
            // A Python exception, KeyboardInterrupt too, travels inside the io::Error and comes out as it was.
            let read = self.file.bind(py).call_method1("read", (into.len(),)).map_err(Error::from)?;
            let bytes =
                read.cast::<PyBytes>().map_err(|_| Error::other("read() gave no bytes: open it in binary mode"))?;
            let bytes = bytes.as_bytes();
            let place = into.get_mut(..bytes.len()).ok_or_else(|| Error::other("read() gave more than asked for"))?;
            place.copy_from_slice(bytes);
            Ok(bytes.len())
        })
    }
}
