//! Errors for the person who reads them: file, offset, found and expected content.

use std::path::PathBuf;

/// Reasons why a capture cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// An I/O error of the operating system; a missing file is `io::ErrorKind::NotFound`.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file as the caller named it (`-` is standard input).
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// Malformed contents. Raised always for the head of a file, and for later damage only with `strict`.
    #[error("{}: offset {offset}: found {found}, expected {expected}", path.display())]
    Format {
        /// The file as the caller named it.
        path: PathBuf,
        /// Byte offset in the uncompressed capture.
        offset: u64,
        /// Found content.
        found: String,
        /// Expected content.
        expected: String,
    },
    /// A link type without a decoder.
    #[error("{}: offset {offset}: link type {linktype} ({name}) is not supported; supported are {supported}", path.display())]
    LinkType {
        /// The file as the caller named it.
        path: PathBuf,
        /// Byte offset of the header that names the link type.
        offset: u64,
        /// The LINKTYPE_ number.
        linktype: u16,
        /// Registered name of the link type, or `unknown`.
        name: &'static str,
        /// Names of all supported link types.
        supported: String,
    },
    /// A signal arrived during a read; the caller decides about continuation.
    #[error("interrupted")]
    Interrupted,
}
