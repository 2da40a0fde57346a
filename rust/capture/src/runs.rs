//! Runs of records in stored order, files or parts of files, and the descriptors and memory of those that are open.

use std::io;
use std::path::Path;

use super::RecordBatch;
use super::damage::DamageReport;
use super::faults::{Failure, Faults};
use super::order::{FoundPart, StoredOrder};
use super::reader::{CaptureReader, PartPlace, READ_SIZE};
use super::source::Input;
use crate::error::CaptureError;

/// Bytes of the read buffers of all open runs together. The first ones that open have larger shares than the last.
pub const BUFFERS: usize = 64 << 20;

/// Minimum size of a read in bytes, with however many open runs.
pub const LEAST_READ: usize = 8 << 10;

/// Descriptors left to the rest of the process, where the limit allows.
pub const RESERVE: usize = 64;

/// Sequence of records in stored order.
pub(super) struct Run {
    /// Index of the file.
    pub(super) file: u32,
    /// Place of the part; None for a whole file.
    part: Option<PartPlace>,
    /// Bytes of the part, as far as known.
    length: u64,
    pub(super) state: RunState,
    pub(super) account: Account,
}

/// Account of a run's reading, complete once the reader is closed.
#[derive(Default)]
pub(super) struct Account {
    /// Bytes read of the (compressed) file.
    pub(super) done: u64,
    damage: Option<Box<DamageReport>>,
    /// Uncompressed bytes and parts.
    size_and_parts: (u64, u64),
    /// Records given to the caller.
    records: u64,
    pub(super) failure: Option<Failure>,
    pub(super) order: StoredOrder,
}

pub(super) enum RunState {
    /// Not peeked at yet.
    New(Input),
    /// Regular file, peeked at and closed again, or a part whose first time is known.
    Closed,
    /// Open reader; `batch.records[at..]` are pending.
    Open(Box<Open>),
    /// Pending records of a part that is read.
    Last(Box<(RecordBatch, usize)>),
    /// End of the run.
    Done,
}

pub(super) struct Open {
    pub(super) reader: CaptureReader,
    pub(super) batch: RecordBatch,
    pub(super) at: usize,
}

impl Open {
    pub(super) fn new(reader: CaptureReader) -> Box<Self> {
        Box::new(Self { reader, batch: RecordBatch::default(), at: 0 })
    }
}

impl Run {
    pub(super) fn whole(file: u32, state: RunState) -> Self {
        Self { file, part: None, length: u64::MAX, state, account: Account::default() }
    }

    pub(super) fn part(file: u32, part: &FoundPart, next: Option<&FoundPart>) -> Self {
        let length = next.map_or(u64::MAX, |next| next.place.start - part.place.start);
        Self { part: Some(part.place), length, ..Self::whole(file, RunState::Closed) }
    }

    /// Open the reader, at a file's begin or at a part's.
    pub(super) fn open(&self, name: &Path, faults: Faults) -> Result<CaptureReader, CaptureError> {
        match self.part {
            Some(place) => CaptureReader::part(name, place, self.file, faults),
            None => CaptureReader::opened(Input::Path(name.to_owned()), self.file, faults),
        }
    }

    /// Size of a read in bytes, where this many runs are open.
    pub(super) fn share(&self, open: usize, most: usize) -> usize {
        let share = (BUFFERS / 2 / open.max(1)).clamp(LEAST_READ, READ_SIZE).min(most);
        // A short part needs no more than its own bytes, and the head of the next one.
        share.min(usize::try_from(self.length).unwrap_or(usize::MAX).saturating_add(64))
    }

    pub(super) fn damage(&self) -> Option<&DamageReport> {
        match &self.state {
            RunState::Open(open) => Some(open.reader.damage()),
            _ => self.account.damage.as_deref(),
        }
    }

    pub(super) fn size_and_parts(&self) -> (u64, u64) {
        match &self.state {
            RunState::Open(open) => (open.reader.size(), open.reader.parts()),
            _ => self.account.size_and_parts,
        }
    }

    pub(super) fn done(&self) -> u64 {
        match &self.state {
            RunState::Open(open) => open.reader.progress().0,
            _ => self.account.done,
        }
    }

    /// Close the reader; records of its last batch stay.
    pub(super) fn close(&mut self) {
        let RunState::Open(open) = std::mem::replace(&mut self.state, RunState::Done) else { return };
        let Open { mut reader, mut batch, at } = *open;
        self.account.records = reader.records();
        self.account.failure = reader.take_failure();
        self.account.done = reader.progress().0;
        self.account.damage = (reader.damage().total() > 0).then(|| Box::new(reader.damage().clone()));
        self.account.size_and_parts = (reader.size(), reader.parts());
        if at < batch.records.len() {
            compact(&mut batch);
            self.state = RunState::Last(Box::new((batch, at)));
        }
    }

    /// Records so far.
    pub(super) fn records(&self) -> u64 {
        match &self.state {
            RunState::Open(open) => open.reader.records(),
            _ => self.account.records,
        }
    }

    /// Error from which on the run was passed over.
    pub(super) fn failure(&self) -> Option<&Failure> {
        match &self.state {
            RunState::Open(open) => open.reader.failure(),
            _ => self.account.failure.as_ref(),
        }
    }

    /// Forget the records of a closed run that are not given yet.
    pub(super) fn drop_pending(&mut self) {
        if let RunState::Last(last) = std::mem::replace(&mut self.state, RunState::Done) {
            self.account.records -= (last.0.records.len() - last.1) as u64;
        }
    }

    /// Offset in the uncompressed file up to which a closed run was read; None for a file that was never open.
    pub(super) fn end(&self) -> Option<u64> {
        let start = self.part.map_or(0, |part| part.start);
        Some(start + self.account.size_and_parts.0).filter(|&end| end > 0)
    }

    /// Pending records, with the index of the first.
    pub(super) fn pending(&mut self) -> Option<(&mut RecordBatch, &mut usize)> {
        match &mut self.state {
            RunState::Open(open) => Some((&mut open.batch, &mut open.at)),
            RunState::Last(last) => Some((&mut last.0, &mut last.1)),
            _ => None,
        }
    }
}

/// Release the bytes around the records.
fn compact(batch: &mut RecordBatch) {
    let start = batch.records.iter().map(|record| record.start).min().unwrap_or(0);
    let end = batch.records.iter().map(|record| record.start + record.caplen).max().unwrap_or(0);
    batch.data = batch.data.get(start as usize..end as usize).map(<[u8]>::to_vec).unwrap_or_default();
    batch.records.iter_mut().for_each(|record| record.start -= start);
    batch.records.shrink_to_fit();
}

/// Descriptors of open runs. Beyond the process's limit, all are given back at once and opened again one by one, at the
/// offset where each reading stopped.
#[derive(Default)]
pub(super) struct Descriptors {
    /// Runs of regular files with a descriptor.
    held: Vec<u32>,
    /// Maximum number of descriptors held; None: not asked yet.
    most: Option<usize>,
    raised: bool,
}

impl Descriptors {
    /// Note a descriptor.
    pub(super) fn hold(&mut self, run: u32) {
        self.held.push(run);
    }

    /// Forget the descriptor of a closed run.
    pub(super) fn release(&mut self, run: u32) {
        if let Some(at) = self.held.iter().rposition(|&held| held == run) {
            self.held.swap_remove(at);
        }
    }

    /// Open a file, with the room that it needs.
    pub(super) fn open<T>(
        &mut self,
        runs: &mut [Run],
        mut open: impl FnMut(&mut [Run]) -> Result<T, CaptureError>,
    ) -> Result<T, CaptureError> {
        let most = *self.most.get_or_insert_with(allowed);
        if self.held.len() >= most && !self.raise() {
            self.park(runs);
        }
        loop {
            match open(runs) {
                Err(CaptureError::Io { source, .. }) if is_exhausted(&source) && self.make_room(runs) => {}
                opened => return opened,
            }
        }
    }

    /// Make room where the process has no descriptor left; false if nothing helps.
    fn make_room(&mut self, runs: &mut [Run]) -> bool {
        if self.raise() {
            return true;
        }
        let held = self.held.len();
        self.most = Some((held / 2).max(1));
        self.park(runs);
        held > 0
    }

    /// Raise the soft limit to the hard one. True if that made room.
    fn raise(&mut self) -> bool {
        if std::mem::replace(&mut self.raised, true) || !raise_limit() {
            return false;
        }
        self.most = Some(allowed());
        true
    }

    fn park(&mut self, runs: &mut [Run]) {
        for run in self.held.drain(..) {
            if let Some(Run { state: RunState::Open(open), .. }) = runs.get_mut(run as usize) {
                open.reader.source().park();
            }
        }
    }
}

/// True for the error of a process or a system without free descriptors.
#[cfg(unix)]
fn is_exhausted(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(rustix::io::Errno::from_raw_os_error),
        Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE)
    )
}

#[cfg(not(unix))]
fn is_exhausted(_: &io::Error) -> bool {
    false
}

/// Number of descriptors that the soft limit leaves.
#[cfg(unix)]
fn allowed() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    limit - RESERVE.min(limit / 2)
}

#[cfg(not(unix))]
fn allowed() -> usize {
    256
}

/// Raise the soft limit of descriptors to the hard one; false if they are equal.
#[cfg(unix)]
fn raise_limit() -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_ok()
}

#[cfg(not(unix))]
fn raise_limit() -> bool {
    false
}
