//! Core errors → the exceptions of `conntrack_py.exceptions`.

use conntrack_core::error::CaptureError as Core;
use pyo3::PyErr;
use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError};

mod python {
    pyo3::import_exception!(conntrack_py.exceptions, CaptureError);
    pyo3::import_exception!(conntrack_py.exceptions, ConfigError);
}

pub use python::ConfigError;

/// The exception for a capture that cannot be read. What the system refused stays an `OSError` with its own subclass
/// (a missing file is `FileNotFoundError`).
pub fn capture_error(error: Core) -> PyErr {
    let message = error.to_string();
    match error {
        // A Python file object raised; its exception is handed back as it was.
        Core::Io { source, .. } if raised_in_python(&source) => PyErr::from(source),
        Core::Io { path, source } => match source.raw_os_error() {
            Some(code) => PyOSError::new_err((code, system_message(&source), path.to_string_lossy().into_owned())),
            None => python::CaptureError::new_err((message, path.to_string_lossy().into_owned())),
        },
        Core::Format { path, offset, .. } | Core::LinkType { path, offset, .. } => {
            python::CaptureError::new_err((message, path.to_string_lossy().into_owned(), offset))
        }
        Core::Interrupted => PyKeyboardInterrupt::new_err(()),
        _ => python::CaptureError::new_err(message),
    }
}

fn raised_in_python(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<PyErr>)
}

/// The system's words without Rust's "(os error n)".
pub fn system_message(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
