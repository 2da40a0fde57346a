//! Progress of a run, and its observer.

use std::ops::ControlFlow;

/// Progress of a run.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Bytes read from the files, before decompression.
    pub bytes: u64,
    /// Total size of the files, if all have one.
    pub total: Option<u64>,
    /// Packets so far.
    pub packets: u64,
    /// A signal interrupted the reading.
    pub interrupted: bool,
}

/// An observer, called between batches; `Break` stops the run.
pub type Observe<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;
