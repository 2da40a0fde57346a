//! Account of the reading: names, damage, sizes, parts, and the files that were passed over.

use std::path::Path;

use super::super::damage::DamageReport;
use super::super::faults::{Faults, SkippedFile};
use super::super::order::Parts;
use super::super::runs::Run;
use super::{Captures, InputFile};

impl Captures {
    /// Number of captures.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// True if there is no capture.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Name of a file by its index, as in [`crate::Record::file`] and in damage details.
    pub fn name(&self, file: u32) -> Option<&Path> {
        self.files.get(file as usize).map(|file| file.name.as_path())
    }

    /// Each file, with its runs.
    fn files(&self) -> impl Iterator<Item = (&InputFile, &[Run])> {
        self.files.iter().zip(self.runs.chunk_by(|a, b| a.file == b.file))
    }

    /// Damage of all files so far. Counts are exact; details are in file order.
    pub fn damage(&self) -> DamageReport {
        let mut report = DamageReport::default();
        for (file, runs) in self.files() {
            report.merge(&file.damage);
            runs.iter().filter_map(Run::damage).for_each(|damage| report.merge(damage));
        }
        report
    }

    /// Uncompressed bytes of all files so far, as in [`crate::CaptureReader::size`], and the number of their captures, as
    /// in [`crate::CaptureReader::parts`].
    pub fn size_and_parts(&self) -> (u64, u64) {
        self.runs.iter().map(Run::size_and_parts).fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1))
    }

    /// Number of parts merged by time because their file's parts overlap, and of parts that begin before the end of
    /// earlier ones and were read as stored.
    pub fn merged_and_early_parts(&self) -> (u64, u64) {
        let merged = |run: &&Run| self.files[run.file as usize].parts == Parts::Merged;
        let early = self.runs.iter().map(|run| match self.files[run.file as usize].parts {
            Parts::AsStored(early) => early,
            Parts::Unknown => run.account.order.early,
            Parts::Sorted | Parts::Merged => 0,
        });
        (self.runs.iter().filter(merged).count() as u64, early.sum())
    }

    /// Files passed over so far, in file order.
    pub fn skipped(&self) -> impl Iterator<Item = SkippedFile<'_>> {
        self.files().zip(0..).filter_map(|((file, runs), number)| {
            // Runs are in stored order: the first error is where the file was left.
            let failure = file.missing.as_ref().or_else(|| runs.iter().find_map(Run::failure))?;
            let records = runs.iter().map(Run::records).sum();
            Some(SkippedFile { file: number, error: &failure.error, offset: failure.offset, records })
        })
    }

    /// Treatment of damage and of files that cannot be read.
    pub fn faults(&self) -> Faults {
        self.faults
    }

    /// Bytes read of all (compressed) files, and their total size if all are regular files.
    pub fn progress(&self) -> (u64, Option<u64>) {
        let (mut all, mut total) = (0_u64, Some(0_u64));
        for (file, runs) in self.files() {
            let done: u64 = runs.iter().map(Run::done).sum();
            // Nothing more is read of a file that was passed over, and its size may not be known.
            let size = if runs.iter().any(|run| run.failure().is_some()) { Some(done) } else { file.size };
            // Bytes that several parts need are read for each.
            all += size.map_or(done, |size| size.min(done));
            total = total.zip(size).map(|(total, size)| total + size);
        }
        (all, total)
    }
}
