//! Progress of a run, and its observer.

use std::ops::ControlFlow;

/// How far a run has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Bytes read of the files as they are on disk.
    pub bytes: u64,
    /// Their size, where all of them have one.
    pub total: Option<u64>,
    /// Packets so far.
    pub packets: u64,
    /// A signal interrupted the reading.
    pub interrupted: bool,
}

/// Told between batches how far a run has come; it may stop it.
pub type Observe<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;
