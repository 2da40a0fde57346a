//! Files whose captures overlap in time: found by a scan, and read part by part.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::super::damage::DamageReport;
use super::super::order::{FoundPart, MOST_PARTS, Parts, Scanning};
use super::super::reader::CaptureReader;
use super::super::runs::{Descriptors, Run, RunState};
use super::super::source::Input;
use super::{Captures, InputFile};
use crate::error::CaptureError;

impl Captures {
    /// Merge the parts of regular files by time, where they overlap. That is found out in the middle: then
    /// [`Self::next_batch`] fails with [`CaptureError::Restart`], and goes on with the first record. Without effect if an
    /// input cannot be read again.
    pub fn merge_parts(&mut self) {
        self.merges_parts = self.files.iter().all(|file| file.size.is_some());
    }

    /// Variant of [`Self::merge_parts`] that looks for parts before the first record.
    pub fn merge_parts_at_once(&mut self) {
        self.merge_parts();
        if self.merges_parts {
            self.to_scan = (0..self.files.len() as u32).rev().collect();
        }
    }

    /// Note the order of a run's parts, by the batch that was just read.
    pub(super) fn note_order(&mut self, index: usize) {
        let Run { state: RunState::Open(open), account, file, .. } = &mut self.runs[index] else { return };
        if !self.merges_parts {
            account.order.note(&open.batch.records, open.reader.marks());
        } else if !open.batch.parts.is_empty() {
            let file = *file;
            self.meet_parts(file);
        }
    }

    /// Have a file scanned whose second part begins.
    #[cold]
    pub(super) fn meet_parts(&mut self, file: u32) {
        if self.files[file as usize].parts == Parts::Unknown && !self.to_scan.contains(&file) {
            self.to_scan.push(file);
        }
    }

    /// Go on with the scan of files for their parts. [`CaptureError::Restart`] once parts are found to overlap.
    #[cold]
    pub(super) fn scan(&mut self) -> Result<(), CaptureError> {
        let Some(scanning) = &mut self.scanning else {
            let Some(file) = self.to_scan.pop() else { return Ok(()) };
            let Self { files, runs, descriptors, faults, .. } = self;
            let InputFile { name, parts, .. } = &mut files[file as usize];
            // The reading itself tells why a file cannot be opened.
            match descriptors.open(runs, |_| CaptureReader::opened(Input::Path(name.clone()), file, *faults)) {
                Ok(reader) => {
                    self.scanning = Some(Box::new(Scanning::new(file, reader)));
                    return Ok(());
                }
                Err(_) => *parts = Parts::Sorted,
            }
            return self.end_scan();
        };
        if scanning.step()? {
            return Ok(());
        }
        let Some(scanned) = self.scanning.take() else { return Ok(()) };
        let (file, used) = (scanned.file, self.found.iter().map(|(_, parts)| parts.len()).sum());
        let (order, places) = scanned.finish(MOST_PARTS.saturating_sub(used));
        self.files[file as usize].parts = order;
        if order == Parts::Merged {
            if self.found.is_empty() {
                // One restart is enough: the other files are scanned before.
                let unknown = |file: &u32| self.files[*file as usize].parts == Parts::Unknown;
                self.to_scan = (0..self.files.len() as u32).filter(unknown).collect();
            }
            self.found.push((file, places));
        }
        self.end_scan()
    }

    /// Begin again once all files are scanned, if parts were found.
    fn end_scan(&mut self) -> Result<(), CaptureError> {
        if !self.to_scan.is_empty() || self.found.is_empty() {
            return Ok(());
        }
        self.begin_again();
        Err(CaptureError::Restart)
    }

    /// Begin with the first record again, with the parts found.
    fn begin_again(&mut self) {
        let found: BTreeMap<u32, Vec<FoundPart>> = std::mem::take(&mut self.found).into_iter().collect();
        self.runs.clear();
        self.heads.clear();
        for (file, index) in self.files.iter_mut().zip(0..) {
            file.damage = DamageReport::default();
            let Some(parts) = found.get(&index) else {
                let state = match file.missing {
                    Some(_) => RunState::Done,
                    None => RunState::New(Input::Path(file.name.clone())),
                };
                self.runs.push(Run::whole(index, state));
                continue;
            };
            for (number, part) in parts.iter().enumerate() {
                // A part without records is read first, for its damage.
                self.heads.push(Reverse((part.first.unwrap_or(i64::MIN), self.runs.len() as u32)));
                self.runs.push(Run::part(index, part, parts.get(number + 1)));
            }
        }
        (self.peeked, self.refill, self.open, self.descriptors) = (0, None, 0, Descriptors::default());
    }
}
