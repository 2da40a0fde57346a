//! Merge of several captures: by time where captures overlap, one after another otherwise.

mod account;
mod opening;
mod parts;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;

use super::damage::DamageReport;
use super::faults::{Failure, Faults};
use super::order::{FoundPart, Parts, Scanning};
use super::reader::{CaptureReader, READ_SIZE};
use super::runs::{Descriptors, Open, Run, RunState};
use super::source::{Input, refusal};
use super::{Record, RecordBatch};
use crate::error::CaptureError;

/// Records of any number of captures, in time order.
///
/// Each step takes the earliest of the files' next records; among equal times the first file wins. So the order
/// within a file never changes, even where its times run backwards, and the result does not depend on batch sizes.
/// Files are opened when their first record is due and closed at their end. Thousands of consecutive files need one
/// open file at a time, and thousands of overlapping ones no more descriptors than the process may have.
///
/// Parts of a file are merged as files are, if the caller can begin again; see [`Self::merge_parts`].
pub struct Captures {
    files: Vec<InputFile>,
    /// Files and parts of files, in their order.
    runs: Vec<Run>,
    faults: Faults,
    read_size: usize,
    /// Number of runs whose first record was peeked at.
    peeked: usize,
    /// Time of each run's next record, and the run's index.
    heads: BinaryHeap<Reverse<(i64, u32)>>,
    /// Run whose batch is used up and whose next batch was not read yet.
    refill: Option<u32>,
    descriptors: Descriptors,
    /// Number of open runs.
    open: usize,
    /// The caller can begin again, and all files can be read again.
    merges_parts: bool,
    /// Files to scan for parts, the last one first.
    to_scan: Vec<u32>,
    scanning: Option<Box<Scanning>>,
    /// Parts of the files that have to be merged.
    found: Vec<(u32, Vec<FoundPart>)>,
}

struct InputFile {
    name: PathBuf,
    size: Option<u64>,
    /// Reason why there is nothing to read.
    missing: Option<Failure>,
    parts: Parts,
    /// Damage found before the file was opened.
    damage: DamageReport,
}

impl Captures {
    /// Take the captures to read. With `strict` the first damage is an error, and with `skip` an error ends only its
    /// file, as in [`CaptureReader::open`].
    ///
    /// A single capture is opened here; several files are only checked for existence. A file that is no capture is an
    /// error of the first [`Self::next_batch`], which peeks at all files.
    pub fn open(inputs: Vec<Input>, faults: impl Into<Faults>) -> Result<Self, CaptureError> {
        let (single, faults) = (inputs.len() == 1, faults.into());
        let (mut files, mut runs) = (Vec::with_capacity(inputs.len()), Vec::with_capacity(inputs.len()));
        for (index, input) in inputs.into_iter().enumerate() {
            let mut file = InputFile::new(input.name());
            file.find(&input, faults)?;
            let state = match &file.missing {
                Some(_) => RunState::Done,
                None if single => RunState::Open(Open::new(CaptureReader::new(input, index as u32, faults)?)),
                None => RunState::New(input),
            };
            runs.push(Run::whole(index as u32, state));
            files.push(file);
        }
        Ok(Self {
            files,
            open: runs.iter().filter(|run| matches!(run.state, RunState::Open(_))).count(),
            runs,
            faults,
            read_size: READ_SIZE,
            peeked: 0,
            heads: BinaryHeap::new(),
            refill: None,
            descriptors: Descriptors::default(),
            merges_parts: false,
            to_scan: Vec::new(),
            scanning: None,
            found: Vec::new(),
        })
    }

    /// Set the read size of each file in bytes, as in [`CaptureReader::with_read_size`].
    #[must_use]
    pub fn with_read_size(mut self, bytes: usize) -> Self {
        self.read_size = bytes.max(1);
        for run in &mut self.runs {
            if let RunState::Open(open) = &mut run.state {
                open.reader.read_size = self.read_size;
            }
        }
        self
    }

    /// Test for captures that can be read again: regular files.
    pub fn may_begin_anew(&self) -> bool {
        self.files.iter().all(|file| file.size.is_some())
    }

    /// The captures from their beginning, opened by name; see [`Self::may_begin_anew`].
    pub fn again(&self) -> Result<Self, CaptureError> {
        let inputs = self.files.iter().map(|file| Input::Path(file.name.clone())).collect();
        let mut captures = Self::open(inputs, self.faults)?.with_read_size(self.read_size);
        if self.merges_parts {
            captures.merge_parts();
        }
        Ok(captures)
    }

    /// Replace the contents of `batch` by the next records; false at the end. See [`CaptureReader::next_batch`].
    pub fn next_batch(&mut self, batch: &mut RecordBatch) -> Result<bool, CaptureError> {
        batch.records.clear();
        batch.parts.clear();
        if !self.to_scan.is_empty() || self.scanning.is_some() {
            return self.scan().map(|()| true);
        }
        if let [Run { state: RunState::Open(only), account, .. }] = self.runs.as_mut_slice() {
            let more = only.reader.next_batch(batch)?;
            if !self.merges_parts {
                account.order.note(&batch.records, only.reader.marks());
            } else if !batch.parts.is_empty() {
                self.meet_parts(0);
            }
            return Ok(more);
        }
        while self.peeked < self.runs.len() {
            self.peek(self.peeked)?;
            self.peeked += 1;
        }
        self.merge(batch)
    }

    fn merge(&mut self, batch: &mut RecordBatch) -> Result<bool, CaptureError> {
        let mut used = 0;
        loop {
            if let Some(run) = self.refill {
                if !batch.records.is_empty() {
                    return Ok(true);
                }
                // Return an empty batch too: the caller may want to stop while long damage is skipped.
                if !self.load(run)? {
                    return Ok(true);
                }
                self.refill = None;
            }
            let Some(Reverse((_, run))) = self.heads.pop() else { return Ok(!batch.records.is_empty()) };
            let next = self.heads.peek().map(|&Reverse(head)| head);
            let before = |record: &Record| next.is_none_or(|next| (record.ts, run) < next);
            let Some((pending, at)) = self.runs[run as usize].pending() else {
                // The run's first record is due: open the file.
                self.refill = Some(run);
                continue;
            };
            let rest = &pending.records[*at..];
            if batch.records.is_empty() && *at == 0 && rest.iter().all(before) {
                std::mem::swap(batch, pending);
                pending.records.clear();
                self.refill = Some(run);
                return Ok(true);
            }
            let taken = rest.iter().take_while(|record| before(record)).count();
            for record in &rest[..taken] {
                append(batch, &mut used, record, pending.bytes(record));
            }
            if let (false, Some(last)) = (pending.parts.is_empty(), rest[..taken].last()) {
                let begun = pending.parts.iter().take_while(|part| part.1 <= last.offset).count();
                batch.parts.extend(pending.parts.drain(..begun));
            }
            *at += taken;
            match pending.records.get(*at) {
                Some(record) => self.heads.push(Reverse((record.ts, run))),
                None => self.refill = Some(run),
            }
            if used >= READ_SIZE {
                return Ok(true);
            }
        }
    }
}

impl InputFile {
    fn new(name: PathBuf) -> Self {
        Self { name, size: None, missing: None, parts: Parts::Unknown, damage: DamageReport::default() }
    }

    /// Look for a file by name. One that is not there, or is refused, is missing if errors are passed over.
    fn find(&mut self, input: &Input, faults: Faults) -> Result<(), CaptureError> {
        let found = match input {
            Input::Path(path) => std::fs::metadata(path),
            Input::Refused { reason, .. } => Err(refusal(reason)),
            Input::Stdin | Input::Reader { .. } | Input::Range { .. } => return Ok(()),
        };
        match found.map_err(|source| CaptureError::Io { path: self.name.clone(), source }) {
            Ok(found) => self.size = found.is_file().then_some(found.len()),
            Err(error) if faults.pass_over(&error) => {
                self.missing = Some(Failure { error, offset: None });
                self.size = Some(0);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Copy a record behind the `used` bytes of a batch.
fn append(batch: &mut RecordBatch, used: &mut usize, record: &Record, bytes: &[u8]) {
    let end = *used + bytes.len();
    if batch.data.len() < end {
        batch.data.resize(end.next_multiple_of(READ_SIZE), 0);
    }
    batch.data[*used..end].copy_from_slice(bytes);
    batch.records.push(Record { start: *used as u32, ..*record });
    *used = end;
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    /// A capture of packets at these milliseconds.
    fn at(times: &[u32]) -> Vec<u8> {
        let mut file = PcapFile::plain();
        for &ms in times {
            file.packet(T0 + ms / 1000, ms % 1000 * 1000, &payload(ms));
        }
        file.bytes
    }

    /// The (file, millisecond) pairs of the merged records, checked to be independent of the read size.
    fn merged(files: &[&[u32]]) -> Vec<(u32, u32)> {
        let captures: Vec<Vec<u8>> = files.iter().map(|times| at(times)).collect();
        let inputs = |step, interrupts| {
            let inputs = captures.iter().map(|bytes| input("test", Dribble::new(bytes, step, interrupts)));
            inputs.collect::<Vec<_>>()
        };
        let all = read_merged(inputs(usize::MAX, false), READ_SIZE);
        for (step, interrupts, read_size) in [(1, true, 1), (100, false, 300), (usize::MAX, true, 64)] {
            let other = read_merged(inputs(step, interrupts), read_size);
            assert_eq!(all.records, other.records, "step {step}, read size {read_size}");
        }
        let base = i64::from(T0) * 1_000_000_000;
        let got = all.records.iter().map(|r| (r.file, ((r.ts - base) / 1_000_000) as u32));
        let got: Vec<_> = got.collect();
        for (record, (_, ms)) in all.records.iter().zip(&got) {
            assert_eq!(record.bytes, payload(*ms));
        }
        got
    }

    #[test]
    fn overlapping_following_and_equal() {
        assert_eq!(merged(&[]), []);
        assert_eq!(merged(&[&[1, 2, 3]]), [(0, 1), (0, 2), (0, 3)]);
        assert_eq!(merged(&[&[1, 4, 5], &[2, 3, 6]]), [(0, 1), (1, 2), (1, 3), (0, 4), (0, 5), (1, 6)]);
        assert_eq!(merged(&[&[7, 8], &[1, 2], &[], &[4]]), [(1, 1), (1, 2), (3, 4), (0, 7), (0, 8)]);
        assert_eq!(merged(&[&[5, 5], &[5, 6], &[4, 5]]), [(2, 4), (0, 5), (0, 5), (1, 5), (2, 5), (1, 6)]);
    }

    #[test]
    fn order_within_a_file_never_changes() {
        let got = merged(&[&[3, 9, 1, 2], &[4, 10, 8]]);
        assert_eq!(got, [(0, 3), (1, 4), (0, 9), (0, 1), (0, 2), (1, 10), (1, 8)]);
    }

    #[test]
    fn many_batches() {
        let (even, odd): (Vec<u32>, Vec<u32>) = (0..4000).partition(|ms| ms % 2 == 0);
        let later: Vec<u32> = (4000..9000).collect();
        let got = merged(&[&later, &odd, &even]);
        assert!(got.iter().map(|&(_, ms)| ms).eq(0..9000));
    }

    #[test]
    fn rotated_files_are_opened_one_at_a_time() {
        let folder = Folder::new("rotated");
        let per_file = 40;
        let names: Vec<u32> = (0..50).rev().collect();
        let mut inputs = Vec::new();
        let mut size = 0;
        for name in &names {
            let bytes = at(&(name * per_file..(name + 1) * per_file).collect::<Vec<_>>());
            size += bytes.len() as u64;
            inputs.push(folder.write(&name.to_string(), &bytes));
        }
        let mut captures = Captures::open(inputs, false).expect("the files exist");
        assert_eq!(captures.progress(), (0, Some(size)));
        let mut batch = RecordBatch::default();
        let mut records = Vec::new();
        while captures.next_batch(&mut batch).expect("sound files") {
            collect(&batch, &mut records);
            let open = captures.runs.iter().filter(|run| matches!(run.state, RunState::Open(_))).count();
            assert!(open <= 1, "{open} files are open");
        }
        assert!(records.iter().map(|r| r.file).eq((0..50 * per_file).map(|i| 49 - i / per_file)));
        assert!(records.is_sorted_by_key(|r| r.ts));
        assert_eq!(captures.progress(), (size, Some(size)));
        assert!(captures.name(49).is_some_and(|name| name.ends_with("0")));
    }

    #[test]
    fn a_single_file_goes_straight_through() {
        let folder = Folder::new("single");
        let bytes = sample(100);
        let mut captures = Captures::open(vec![folder.write("one", &bytes)], false).expect("the file exists");
        // `open` opened the file, so no second open is needed.
        drop(folder);
        let mut batch = RecordBatch::default();
        assert!(captures.next_batch(&mut batch).expect("a sound file"));
        assert_eq!((batch.records.len(), captures.len(), captures.is_empty()), (100, 1, false));
        assert!(!captures.next_batch(&mut batch).expect("a sound file"));
        assert_eq!(captures.progress(), (bytes.len() as u64, Some(bytes.len() as u64)));
    }

    #[test]
    fn missing_and_foreign_files() {
        let missing = vec![Input::named("no/such/file"), Input::named("nor/this")];
        match Captures::open(missing, false) {
            Err(CaptureError::Io { path, source }) => {
                assert_eq!((path.as_path(), source.kind()), ("no/such/file".as_ref(), std::io::ErrorKind::NotFound));
            }
            _ => panic!("a missing file is an error"),
        }
        let inputs = vec![input("good", Dribble::new(&sample(3), 9, false)), input("bad", &b"\x7fELF"[..])];
        let all = read_merged(inputs, READ_SIZE);
        assert!(all.records.is_empty());
        assert_eq!(format_error(&all).1, "an ELF program (first bytes 7f 45 4c 46)");
    }

    #[test]
    fn damage_of_all_files() {
        let cut = |n| {
            let bytes = sample(n);
            input("cut", Dribble::new(&bytes[..bytes.len() - 1], usize::MAX, false))
        };
        let all = read_merged(vec![cut(2), input("empty", Dribble::new(&sample(0), 1, false)), cut(9)], 100);
        assert_eq!((all.records.len(), all.damage.total()), (1 + 8, 2));
        assert!(all.damage.details().iter().map(|d| d.file).eq([0, 2]));
    }
}
