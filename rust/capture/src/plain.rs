//! Uncompressed bytes of a file that is no capture: logs use the sources and codecs of captures.

use std::path::{Path, PathBuf};

use super::error::CaptureError;
use super::source::{Input, ReadError, Source};

/// An opened file.
pub struct Plain {
    source: Source,
    name: PathBuf,
    /// Uncompressed bytes so far.
    offset: u64,
}

impl Plain {
    /// Opens an input.
    pub fn open(input: Input) -> Result<Self, CaptureError> {
        let name = input.name();
        let source = Source::open(input).map_err(|source| CaptureError::Io { path: name.clone(), source })?;
        Ok(Self { source, name, offset: 0 })
    }

    /// The file as the caller named it.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Bytes read of the (compressed) file, and its size if known.
    pub fn progress(&self) -> (u64, Option<u64>) {
        self.source.progress()
    }

    /// Reads bytes; 0 at the end, None where the file has nothing for now and the caller may look for signals.
    pub fn read(&mut self, out: &mut [u8]) -> Result<Option<usize>, CaptureError> {
        match self.source.read(out) {
            Ok(n) => {
                self.offset += n as u64;
                Ok(Some(n))
            }
            Err(ReadError::Interrupted | ReadError::Silent | ReadError::Idle) => Ok(None),
            Err(ReadError::Io(source)) => Err(CaptureError::Io { path: self.name.clone(), source }),
            Err(ReadError::Compression(found)) => Err(CaptureError::Format {
                path: self.name.clone(),
                offset: self.offset,
                found,
                expected: "whole compressed data".to_owned(),
            }),
        }
    }
}
