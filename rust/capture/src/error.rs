//! Errors for the person who reads them: file, offset, found and expected content.

use std::path::{Path, PathBuf};

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
    /// Captures within a file overlap in time: the next batch begins with the first record again, and all are merged.
    /// Only for callers of [`crate::Captures::merge_parts`].
    #[error("captures within a file overlap in time")]
    Restart,
    /// A signal arrived during a read; the caller decides about continuation.
    #[error("interrupted")]
    Interrupted,
}

impl CaptureError {
    /// The file as the caller named it.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Io { path, .. } | Self::Format { path, .. } | Self::LinkType { path, .. } => Some(path),
            Self::Interrupted | Self::Restart => None,
        }
    }

    /// Byte offset in the uncompressed capture, where known.
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Format { offset, .. } | Self::LinkType { offset, .. } => Some(*offset),
            Self::Io { .. } | Self::Interrupted | Self::Restart => None,
        }
    }

    /// The message without the name of the file, which need not be text, and without the number of a system's error.
    pub fn reason(&self) -> String {
        let message = self.to_string();
        let named = self.path().map(|path| format!("{}: ", path.display()));
        let reason = named.and_then(|named| message.strip_prefix(&named)).unwrap_or(&message);
        match self {
            Self::Io { source, .. } if source.raw_os_error().is_some() => {
                reason.split(" (os error").next().unwrap_or_default().to_owned()
            }
            _ => reason.to_owned(),
        }
    }
}
