//! Core errors → the exceptions of `conntrack_py.exceptions`.

use std::ffi::OsString;
use std::path::Path;

use arrow_schema::ArrowError;
use conntrack_core::error::CaptureError as Core;
use pyo3::PyErr;
use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyValueError};

mod python {
    pyo3::import_exception!(conntrack_py.exceptions, CaptureError);
    pyo3::import_exception!(conntrack_py.exceptions, CheckpointError);
    pyo3::import_exception!(conntrack_py.exceptions, ConfigError);
    pyo3::import_exception!(conntrack_py.exceptions, FlowError);
    pyo3::import_exception!(conntrack_py.exceptions, IdleError);
    pyo3::import_exception!(conntrack_py.exceptions, PolicyError);
}

pub use python::{CaptureError, CheckpointError, ConfigError, FlowError, IdleError, PolicyError};

/// The exception for a capture that cannot be read. An error of the operating system stays an
/// `OSError` with its own subclass (a missing file is `FileNotFoundError`).
pub fn capture_error(error: Core) -> PyErr {
    let reason = error.reason();
    match error {
        // A Python file object raised; its exception is handed back as it was.
        Core::Io { source, .. } if raised_in_python(&source) => PyErr::from(source),
        Core::Io { path, source } => system_error(&source, &path)
            .unwrap_or_else(|| python::CaptureError::new_err((message(&path, &reason), path.into_os_string()))),
        Core::Format { path, offset, .. } | Core::LinkType { path, offset, .. } => {
            python::CaptureError::new_err((message(&path, &reason), path.into_os_string(), offset))
        }
        Core::Interrupted => PyKeyboardInterrupt::new_err(()),
        _ => python::CaptureError::new_err(reason),
    }
}

/// A message that begins with a file's name, which need not be text.
pub fn message(path: &Path, reason: &str) -> OsString {
    let mut message = path.as_os_str().to_owned();
    message.push(": ");
    message.push(reason);
    message
}

fn raised_in_python(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<PyErr>)
}

/// An error of the operating system as the `OSError` that names the path; None for other errors.
pub fn system_error(error: &std::io::Error, path: &Path) -> Option<PyErr> {
    let code = error.raw_os_error()?;
    let text = error.to_string();
    // Its words without Rust's "(os error n)".
    let words = text.split(" (os error").next().unwrap_or_default().to_owned();
    Some(PyOSError::new_err((code, words, path.as_os_str().to_owned())))
}

/// An Arrow error in Python's terms.
#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub fn arrow_error(error: ArrowError) -> PyErr {
    PyValueError::new_err(error.to_string())
}
