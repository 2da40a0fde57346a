//! Memory that Rust owns and Python looks at without copying.

use std::ffi::{c_int, c_void};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;

/// Read-only bytes, offered through the buffer protocol. `numpy.frombuffer` makes an array of them without a copy.
#[pyclass(frozen, module = "conntrack_py._native")]
pub struct Buffer {
    bytes: arrow_buffer::Buffer,
}

impl Buffer {
    /// Takes (shares) the bytes.
    pub fn new(bytes: arrow_buffer::Buffer) -> Self {
        Self { bytes }
    }
}

#[pymethods]
impl Buffer {
    fn __len__(&self) -> usize {
        self.bytes.len()
    }

    /// # Safety
    ///
    /// Called by CPython with a valid `view`, as the buffer protocol demands.
    #[expect(clippy::needless_pass_by_value, reason = "the signature PyO3 asks for")]
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE {
            return Err(PyBufferError::new_err("this memory is read-only"));
        }
        let (start, len) = {
            let bytes = &slf.get().bytes;
            (bytes.as_ptr().cast_mut().cast::<c_void>(), bytes.len() as ffi::Py_ssize_t)
        };
        // SAFETY: `view` is CPython's and valid. The memory is immutable, does not move, and lives as long as the
        // object: PyBuffer_FillInfo makes `view` hold a reference to it. Read-only was asked for above.
        let status = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, len, 1, flags) };
        if status == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
