//! Errors written for the person who sees them: the file, the offset, what was found, what was expected.

use std::path::PathBuf;

/// Why a capture could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// The operating system refused; a missing file is `io::ErrorKind::NotFound`.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file as the caller named it (`-` is standard input).
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are not what a capture holds there. Raised for the file's head always, for later damage only when
    /// `strict` is set.
    #[error("{}: offset {offset}: found {found}, expected {expected}", path.display())]
    Format {
        /// The file as the caller named it.
        path: PathBuf,
        /// Byte offset in the uncompressed capture.
        offset: u64,
        /// What was found.
        found: String,
        /// What should have been there.
        expected: String,
    },
    /// A link type this crate cannot decode.
    #[error("{}: offset {offset}: link type {linktype} ({name}) is not supported; supported are {supported}", path.display())]
    LinkType {
        /// The file as the caller named it.
        path: PathBuf,
        /// Byte offset of the header that names the link type.
        offset: u64,
        /// The LINKTYPE_ number.
        linktype: u16,
        /// Its registered name, or `unknown`.
        name: &'static str,
        /// The names of all supported link types.
        supported: String,
    },
    /// A signal arrived while reading; the caller decides whether to go on.
    #[error("interrupted")]
    Interrupted,
}
