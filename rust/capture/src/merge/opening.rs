//! Runs that open, load their next batch, close, and fail.

use std::cmp::Reverse;

use super::super::damage::{Damage, DamageKind};
use super::super::faults::Failure;
use super::super::reader::{CaptureReader, READ_SIZE};
use super::super::runs::{Open, RunState};
use super::super::source::Input;
use super::Captures;
use crate::error::CaptureError;

/// Read size in bytes for the peek at a file's first record.
const PEEK_SIZE: usize = 16 << 10;

impl Captures {
    /// Read the time of a run's first record, and close the file if a reopen is possible.
    pub(super) fn peek(&mut self, index: usize) -> Result<(), CaptureError> {
        let run = &mut self.runs[index];
        let file = &mut self.files[run.file as usize];
        if matches!(run.state, RunState::New(_)) && file.size == Some(0) && !self.faults.strict {
            // An empty file, as a capturing program has just created: the reading of earlier files goes on.
            run.state = RunState::Done;
            file.damage.push(Damage { file: run.file, offset: 0, bytes: 0, kind: DamageKind::TruncatedFile });
        }
        if matches!(run.state, RunState::New(_)) {
            self.open_new(index as u32)?;
        }
        // After an interruption the peek continues with its reader.
        while let RunState::Open(open) = &mut self.runs[index].state {
            let more = open.reader.next_batch(&mut open.batch)?;
            match open.batch.records.first() {
                Some(first) => {
                    self.heads.push(Reverse((first.ts, index as u32)));
                    open.reader.read_size = self.read_size;
                    if open.reader.is_regular() {
                        self.runs[index].state = RunState::Closed;
                        self.open -= 1;
                    } else {
                        self.note_order(index);
                    }
                    break;
                }
                None if more => {}
                None => self.close(index as u32),
            }
        }
        Ok(())
    }

    fn open_new(&mut self, index: u32) -> Result<(), CaptureError> {
        let Self { files, runs, descriptors, faults, .. } = self;
        let run = &mut runs[index as usize];
        let RunState::New(input) = std::mem::replace(&mut run.state, RunState::Done) else { return Ok(()) };
        // A reader is no input twice: only files by name are opened again.
        let (mut input, number, faults) = (Some(input), run.file, *faults);
        let name = &files[number as usize].name;
        let opened = descriptors.open(runs, |_| {
            CaptureReader::opened(input.take().unwrap_or_else(|| Input::Path(name.clone())), number, faults)
        });
        if let Some(reader) = self.opened(index, opened)? {
            self.runs[index as usize].state = RunState::Open(Open::new(reader.with_read_size(PEEK_SIZE)));
            self.open += 1;
        }
        Ok(())
    }

    /// Read a run's next batch and enter its first record's time. False for an empty batch that is not the last.
    pub(super) fn load(&mut self, index: u32) -> Result<bool, CaptureError> {
        self.ensure_open(index)?;
        let run = &mut self.runs[index as usize];
        let share = run.share(self.open, self.read_size);
        let RunState::Open(open) = &mut run.state else {
            run.state = RunState::Done;
            return Ok(true);
        };
        open.at = 0;
        open.reader.read_size = share;
        let more = open.reader.next_batch(&mut open.batch)?;
        let (ended, fails) = (open.reader.has_ended(), open.reader.failure().is_some());
        let first = open.batch.records.first().map(|first| first.ts);
        if first.is_some() {
            self.note_order(index as usize);
        }
        if ended || first.is_none() && !more {
            self.close(index);
        }
        if fails {
            self.pass_over_behind(index);
        }
        match first {
            Some(first) => self.heads.push(Reverse((first, index))),
            None if more => return Ok(false),
            None => {}
        }
        Ok(true)
    }

    /// Open a run that is closed or whose descriptor was given back.
    fn ensure_open(&mut self, index: u32) -> Result<(), CaptureError> {
        let Self { files, runs, descriptors, faults, open, .. } = self;
        let run = &mut runs[index as usize];
        let name = &files[run.file as usize].name;
        match &run.state {
            RunState::Open(one) if one.reader.is_parked() => {
                let opened = descriptors.open(runs, |runs| match &mut runs[index as usize].state {
                    RunState::Open(open) => {
                        let opened = open.reader.source().unpark();
                        opened.map_err(|source| CaptureError::Io { path: name.clone(), source })
                    }
                    _ => Ok(()),
                });
                if self.opened(index, opened)?.is_some() {
                    self.descriptors.hold(index);
                }
            }
            RunState::Closed => {
                // A file that cannot be reopened does not stop the reading of later files.
                run.state = RunState::Done;
                let (faults, room) = (*faults, *open + 1);
                let opened = descriptors.open(runs, |runs| runs[index as usize].open(name, faults));
                if let Some(mut reader) = self.opened(index, opened)? {
                    self.descriptors.hold(index);
                    let run = &mut self.runs[index as usize];
                    reader.source().limit_head(run.share(room, READ_SIZE));
                    run.state = RunState::Open(Open::new(reader));
                    self.open += 1;
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn close(&mut self, index: u32) {
        let run = &mut self.runs[index as usize];
        self.open -= usize::from(matches!(run.state, RunState::Open(_)));
        run.close();
        self.descriptors.release(index);
    }

    /// Result of an open; None where the file is passed over.
    fn opened<T>(&mut self, index: u32, opened: Result<T, CaptureError>) -> Result<Option<T>, CaptureError> {
        let error = match opened {
            Err(error) if self.faults.pass_over(&error) => error,
            opened => return opened.map(Some),
        };
        self.close(index);
        let run = &mut self.runs[index as usize];
        run.account.failure = Some(Failure { error, offset: run.end() });
        self.pass_over_behind(index);
        Ok(None)
    }

    /// Pass over the parts of a file behind the one that failed. What is stored before the error counts, as in a file
    /// that is read as stored.
    fn pass_over_behind(&mut self, index: u32) {
        let file = self.runs[index as usize].file;
        for behind in index + 1..self.runs.len() as u32 {
            if self.runs[behind as usize].file != file {
                break;
            }
            self.close(behind);
            self.runs[behind as usize].drop_pending();
        }
    }
}
