//! Merge of several captures: by time where captures overlap, one after another otherwise.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;

use super::damage::{Damage, DamageKind, DamageReport};
use super::reader::{CaptureReader, READ_SIZE};
use super::source::Input;
use super::{Record, RecordBatch};
use crate::error::CaptureError;

/// Read size in bytes for the peek at a file's first record.
const PEEK_SIZE: usize = 16 << 10;

/// Records of any number of captures, in time order.
///
/// Each step takes the earliest of the files' next records; among equal times the first file wins. So the order
/// within a file never changes, even where its times run backwards, and the result does not depend on batch sizes.
/// Files are opened when their first record is due and closed at their end. Thousands of consecutive files need one
/// open file at a time.
pub struct Captures {
    files: Vec<InputFile>,
    strict: bool,
    read_size: usize,
    /// Number of files whose first record was peeked at.
    peeked: usize,
    /// Time of each file's next record, and the file's index.
    heads: BinaryHeap<Reverse<(i64, u32)>>,
    /// File whose batch is used up and whose next batch was not read yet.
    refill: Option<u32>,
}

struct InputFile {
    name: PathBuf,
    size: Option<u64>,
    state: FileState,
    /// Bytes read, set at the close.
    done: u64,
    /// Damage, set at the close.
    damage: DamageReport,
}

enum FileState {
    /// Not peeked at yet.
    New(Input),
    /// A regular file, peeked at and closed again.
    Closed,
    /// Open file; `batch.records[at..]` are pending.
    Open(Box<Open>),
    /// End of the file.
    Done,
}

struct Open {
    reader: CaptureReader,
    batch: RecordBatch,
    at: usize,
}

impl Captures {
    /// Take the captures to read. With `strict` the first damage is an error, as in [`CaptureReader::open`].
    ///
    /// A single capture is opened here; several files are only checked for existence. A file that is no capture is an
    /// error of the first [`Self::next_batch`], which peeks at all files.
    pub fn open(inputs: Vec<Input>, strict: bool) -> Result<Self, CaptureError> {
        let single = inputs.len() == 1;
        let mut files = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.into_iter().enumerate() {
            let name = input.name();
            let mut size = None;
            if let Input::Path(path) = &input {
                let found =
                    std::fs::metadata(path).map_err(|source| CaptureError::Io { path: name.clone(), source })?;
                size = found.is_file().then_some(found.len());
            }
            let state = if single {
                let reader = CaptureReader::new(input, index as u32, strict)?;
                FileState::Open(Box::new(Open { reader, batch: RecordBatch::default(), at: 0 }))
            } else {
                FileState::New(input)
            };
            files.push(InputFile { name, size, state, done: 0, damage: DamageReport::default() });
        }
        Ok(Self { files, strict, read_size: READ_SIZE, peeked: 0, heads: BinaryHeap::new(), refill: None })
    }

    /// Set the read size of each file in bytes, as in [`CaptureReader::with_read_size`].
    #[must_use]
    pub fn with_read_size(mut self, bytes: usize) -> Self {
        self.read_size = bytes.max(1);
        for file in &mut self.files {
            if let FileState::Open(open) = &mut file.state {
                open.reader.read_size = self.read_size;
            }
        }
        self
    }

    /// Number of captures.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// True if there is no capture.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Name of a file by its index, as in [`Record::file`] and in damage details.
    pub fn name(&self, file: u32) -> Option<&std::path::Path> {
        self.files.get(file as usize).map(|file| file.name.as_path())
    }

    /// Damage of all files so far. Counts are exact; details are in file order.
    pub fn damage(&self) -> DamageReport {
        let mut report = DamageReport::default();
        for file in &self.files {
            report.merge(&file.damage);
            if let FileState::Open(open) = &file.state {
                report.merge(open.reader.damage());
            }
        }
        report
    }

    /// Bytes read of all (compressed) files, and their total size if all are regular files.
    pub fn progress(&self) -> (u64, Option<u64>) {
        let done = self.files.iter().map(|file| match &file.state {
            FileState::Open(open) => open.reader.progress().0,
            _ => file.done,
        });
        (done.sum(), self.files.iter().map(|file| file.size).sum())
    }

    /// Replace the contents of `batch` by the next records; false at the end. See [`CaptureReader::next_batch`].
    pub fn next_batch(&mut self, batch: &mut RecordBatch) -> Result<bool, CaptureError> {
        batch.records.clear();
        if let [InputFile { state: FileState::Open(only), .. }] = self.files.as_mut_slice() {
            return only.reader.next_batch(batch);
        }
        while self.peeked < self.files.len() {
            self.peek(self.peeked)?;
            self.peeked += 1;
        }
        let mut used = 0;
        loop {
            if let Some(file) = self.refill {
                if !batch.records.is_empty() {
                    return Ok(true);
                }
                // Return an empty batch too: the caller may want to stop while long damage is skipped.
                if !self.load(file)? {
                    return Ok(true);
                }
                self.refill = None;
            }
            let Some(Reverse((_, file))) = self.heads.pop() else { return Ok(!batch.records.is_empty()) };
            let next = self.heads.peek().map(|&Reverse(head)| head);
            let before = |record: &Record| next.is_none_or(|next| (record.ts, file) < next);
            let FileState::Open(open) = &mut self.files[file as usize].state else {
                // The file's first record is due: open the file.
                self.refill = Some(file);
                continue;
            };
            let rest = &open.batch.records[open.at..];
            if batch.records.is_empty() && open.at == 0 && rest.iter().all(before) {
                std::mem::swap(batch, &mut open.batch);
                open.batch.records.clear();
                self.refill = Some(file);
                return Ok(true);
            }
            let run = rest.iter().take_while(|record| before(record)).count();
            for record in &rest[..run] {
                append(batch, &mut used, record, open.batch.bytes(record));
            }
            open.at += run;
            match open.batch.records.get(open.at) {
                Some(record) => self.heads.push(Reverse((record.ts, file))),
                None => self.refill = Some(file),
            }
            if used >= READ_SIZE {
                return Ok(true);
            }
        }
    }

    /// Read the time of a file's first record, and close the file if a reopen is possible.
    fn peek(&mut self, index: usize) -> Result<(), CaptureError> {
        let file = &mut self.files[index];
        if file.size == Some(0) && !self.strict {
            // An empty file, as a capturing program has just created: the reading of earlier files goes on.
            file.state = FileState::Done;
            file.damage.push(Damage { file: index as u32, offset: 0, bytes: 0, kind: DamageKind::TruncatedFile });
        }
        if matches!(file.state, FileState::New(_))
            && let FileState::New(input) = std::mem::replace(&mut file.state, FileState::Done)
        {
            let reader = CaptureReader::new(input, index as u32, self.strict)?.with_read_size(PEEK_SIZE);
            file.state = FileState::Open(Box::new(Open { reader, batch: RecordBatch::default(), at: 0 }));
        }
        // After an interruption the peek continues with its reader.
        while let FileState::Open(open) = &mut file.state {
            let more = open.reader.next_batch(&mut open.batch)?;
            match open.batch.records.first() {
                Some(first) => {
                    self.heads.push(Reverse((first.ts, index as u32)));
                    open.reader.read_size = self.read_size;
                    if open.reader.is_regular() {
                        file.state = FileState::Closed;
                    }
                    break;
                }
                None if more => {}
                None => file.close(),
            }
        }
        Ok(())
    }

    /// Read a file's next batch and enter its first record's time. False for an empty batch that is not the last.
    fn load(&mut self, index: u32) -> Result<bool, CaptureError> {
        let file = &mut self.files[index as usize];
        if matches!(file.state, FileState::Closed) {
            // A file that cannot be reopened does not stop the reading of later files.
            file.state = FileState::Done;
            let reader = CaptureReader::open(&file.name, index, self.strict)?.with_read_size(self.read_size);
            file.state = FileState::Open(Box::new(Open { reader, batch: RecordBatch::default(), at: 0 }));
        }
        let FileState::Open(open) = &mut file.state else { return Ok(true) };
        open.at = 0;
        let more = open.reader.next_batch(&mut open.batch)?;
        match open.batch.records.first() {
            Some(first) => self.heads.push(Reverse((first.ts, index))),
            None if more => return Ok(false),
            None => file.close(),
        }
        Ok(true)
    }
}

impl InputFile {
    fn close(&mut self) {
        if let FileState::Open(open) = std::mem::replace(&mut self.state, FileState::Done) {
            self.done = open.reader.progress().0;
            self.damage = open.reader.damage().clone();
        }
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

    /// A temporary folder of a test, removed on drop.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("conntrack-capture-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a folder for temporary files");
            Self(path)
        }

        fn write(&self, name: &str, bytes: &[u8]) -> Input {
            let path = self.0.join(name);
            std::fs::write(&path, bytes).expect("a temporary file");
            Input::named(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
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
            let open = captures.files.iter().filter(|f| matches!(f.state, FileState::Open(_))).count();
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
        assert_eq!(format_error(&all).1, "first bytes 7f 45 4c 46");
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
