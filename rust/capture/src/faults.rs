//! Files that cannot be read: an error of the run, or passed over and listed.
//!
//! A file that fails in its middle has given packets by then, and those count: a batch is tracked as it is read.

use std::io::ErrorKind;

use crate::error::CaptureError;

/// Treatment of damage and of files that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The first damage of a file is an error.
    pub strict: bool,
    /// An error ends the reading of its file, not of the others.
    pub skip: bool,
}

/// The strictness alone: every error ends the run.
impl From<bool> for Faults {
    fn from(strict: bool) -> Self {
        Self { strict, skip: false }
    }
}

impl Faults {
    /// True if an error is only its file's. [`ErrorKind::Other`], which no operating system reports, is the caller's
    /// own: an interruption of a reader that has to end the run.
    pub(super) fn pass_over(self, error: &CaptureError) -> bool {
        self.skip
            && match error {
                CaptureError::Interrupted | CaptureError::Restart => false,
                CaptureError::Io { source, .. } => source.kind() != ErrorKind::Other,
                _ => true,
            }
    }
}

/// Error from which on a file was passed over.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: CaptureError,
    /// Byte offset in the uncompressed file up to which the file was read; None where the file could not be opened.
    pub(super) offset: Option<u64>,
}

/// A file that was passed over from an error on.
#[derive(Debug)]
pub struct SkippedFile<'a> {
    /// Index of the file in the source's list of names.
    pub file: u32,
    /// Reason.
    pub error: &'a CaptureError,
    /// Byte offset in the uncompressed file up to which the file was read; None where the file could not be opened.
    pub offset: Option<u64>,
    /// Records before the error, which are used.
    pub records: u64,
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use super::super::testing::*;
    use super::super::{Captures, Input, RecordBatch};
    use super::*;

    const SKIP: Faults = Faults { strict: false, skip: true };

    /// Gives some bytes, then an error of a kind.
    struct Failing(io::Cursor<Vec<u8>>, ErrorKind);

    impl Read for Failing {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            match self.0.read(out)? {
                0 => Err(self.1.into()),
                n => Ok(n),
            }
        }
    }

    fn failing(bytes: &[u8], kind: ErrorKind) -> Input {
        input("failing", Failing(io::Cursor::new(bytes.to_vec()), kind))
    }

    fn read_all(inputs: Vec<Input>, faults: Faults) -> (Vec<u32>, Captures, Option<CaptureError>) {
        let mut captures = Captures::open(inputs, faults).expect("nothing is opened in vain");
        let (mut batch, mut files) = (RecordBatch::default(), Vec::new());
        let error = loop {
            match captures.next_batch(&mut batch) {
                Ok(true) => files.extend(batch.records.iter().map(|record| record.file)),
                Ok(false) => break None,
                Err(error) => break Some(error),
            }
        };
        (files, captures, error)
    }

    fn listed(captures: &Captures) -> Vec<(u32, u64, Option<u64>)> {
        captures.skipped().map(|one| (one.file, one.records, one.offset)).collect()
    }

    #[test]
    fn every_kind_of_bad_file_among_good_ones() {
        let (good, whole) = (|| input("good", Dribble::new(&sample(2), 9, false)), sample(4));
        let bad = || {
            vec![
                Input::named("no/such/file"),
                input("elf", &b"\x7fELF and more"[..]),
                failing(&whole, ErrorKind::TimedOut),
                failing(b"", ErrorKind::PermissionDenied),
                Input::named(std::env::temp_dir()),
            ]
        };
        let inputs = || [vec![good()], bad(), vec![good()]].into_iter().flatten().collect::<Vec<_>>();
        let (files, captures, error) = read_all(inputs(), SKIP);
        assert!(error.is_none());
        assert_eq!([0, 3, 6].map(|file| files.iter().filter(|one| **one == file).count()), [2, 4, 2]);
        let end = whole.len() as u64;
        assert_eq!(
            listed(&captures),
            [(1, 0, None), (2, 0, Some(0)), (3, 4, Some(end)), (4, 0, Some(0)), (5, 0, Some(0))]
        );
        // Each alone gives the same, and without others.
        for (at, one) in bad().into_iter().enumerate() {
            let (files, captures, error) = read_all(vec![one], SKIP);
            assert_eq!((files.len(), error.is_none()), (if at == 2 { 4 } else { 0 }, true));
            assert_eq!(listed(&captures).len(), 1);
        }
        let (_, captures, error) = read_all(vec![good(), failing(&whole, ErrorKind::TimedOut)], Faults::default());
        assert_eq!((error.is_some(), captures.skipped().count()), (true, 0));
    }

    #[test]
    fn strict_reading_ends_a_file_at_its_first_damage() {
        let cut = sample(3);
        let cut = &cut[..cut.len() - 1];
        let inputs =
            || vec![input("cut", Dribble::new(cut, 9, true)), input("good", Dribble::new(&sample(3), 9, true))];
        let (mut files, mut captures) =
            (Vec::new(), Captures::open(inputs(), Faults { strict: true, skip: true }).unwrap());
        let mut batch = RecordBatch::default();
        loop {
            match captures.next_batch(&mut batch) {
                Ok(true) => files.extend(batch.records.iter().map(|record| record.file)),
                Ok(false) => break,
                Err(error) => assert!(matches!(error, CaptureError::Interrupted)),
            }
        }
        assert_eq!(files.iter().filter(|file| **file == 0).count(), 2);
        assert_eq!(files.len(), 5);
        assert_eq!(captures.skipped().map(|one| (one.file, one.records)).collect::<Vec<_>>(), [(0, 2)]);
    }

    /// Captures with parts merged by time, read to the end: file and time of each record.
    fn read_in_parts(inputs: Vec<Input>, faults: Faults, at_restart: impl Fn()) -> (Vec<(u32, i64)>, Captures) {
        let mut captures = Captures::open(inputs, faults).expect("nothing is opened in vain").with_read_size(64);
        captures.merge_parts();
        let (mut batch, mut records) = (RecordBatch::default(), Vec::new());
        loop {
            match captures.next_batch(&mut batch) {
                Ok(true) => records.extend(batch.records.iter().map(|record| (record.file, record.ts))),
                Ok(false) => return (records, captures),
                Err(CaptureError::Restart) => {
                    records.clear();
                    at_restart();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn part(seconds: &[u32]) -> Vec<u8> {
        let mut file = PcapFile::plain();
        for &sec in seconds {
            file.packet(T0 + sec, 0, &payload(sec));
        }
        file.bytes
    }

    fn seconds(records: &[(u32, i64)]) -> Vec<(u32, i64)> {
        records.iter().map(|(file, ts)| (*file, ts / 1_000_000_000 - i64::from(T0))).collect()
    }

    #[test]
    fn of_a_file_of_parts_counts_what_is_stored_before_the_damage() {
        // The third part has the damage, and the fourth is behind.
        let file = [part(&[10, 20, 30]), part(&[5, 25]), part(&[3]), vec![0xff; 300], part(&[1, 2])].concat();
        let folder = Folder::new("skip-parts");
        let good = || folder.write("good", &part(&[0, 12, 40]));
        let strict = Faults { strict: true, skip: true };
        let (stored, captures, error) =
            read_all(vec![good(), input("pipe", std::io::Cursor::new(file.clone()))], strict);
        assert!(error.is_none());
        let expected = listed(&captures);
        assert_eq!((expected.len(), expected[0].0, expected[0].1), (1, 1, 6));
        let inputs = vec![good(), folder.write("parts", &file), Input::named("no/such/file")];
        let (records, captures) = read_in_parts(inputs, strict, || {});
        let listed = listed(&captures);
        assert_eq!((listed.len(), listed[0], listed[1]), (2, expected[0], (2, 0, None)));
        assert_eq!(captures.merged_and_early_parts(), (3, 0));
        assert_eq!(seconds(&records), [(0, 0), (1, 3), (1, 5), (1, 10), (0, 12), (1, 20), (1, 25), (1, 30), (0, 40)]);
        assert_eq!(stored.len(), records.len());
        assert_eq!(captures.progress().0, captures.progress().1.expect("regular files"));
    }

    #[test]
    fn files_that_are_not_there_do_not_keep_parts_from_their_order() {
        let folder = Folder::new("skip-missing");
        for bad in [Input::named("no/such/file"), Input::Refused { name: "dir".into(), reason: "a reason".into() }] {
            let parts = folder.write("parts", &[part(&[10, 20]), part(&[5, 25])].concat());
            let (records, captures) = read_in_parts(vec![parts, bad], SKIP, || {});
            assert_eq!(seconds(&records), [(0, 5), (0, 10), (0, 20), (0, 25)]);
            assert_eq!((captures.merged_and_early_parts(), listed(&captures)), ((2, 0), vec![(1, 0, None)]));
        }
        let refused = vec![Input::Refused { name: "dir".into(), reason: "a reason".into() }];
        let error = Captures::open(refused, Faults::default()).err().expect("an error of the run");
        assert_eq!(error.reason(), "a reason");
    }

    #[test]
    fn a_file_of_parts_that_goes_away_is_passed_over() {
        let folder = Folder::new("skip-gone");
        let inputs = || {
            let parts = [part(&[10, 20]), part(&[5, 25]), part(&[6])].concat();
            vec![folder.write("good", &part(&[0, 12])), folder.write("parts", &parts)]
        };
        let names: Vec<_> = inputs().iter().map(Input::name).collect();
        let (records, captures) = read_in_parts(inputs(), SKIP, || std::fs::remove_file(&names[1]).expect("a file"));
        assert_eq!(seconds(&records), [(0, 0), (0, 12)]);
        let skipped: Vec<_> = captures.skipped().collect();
        assert_eq!((skipped.len(), skipped[0].file, skipped[0].records), (1, 1, 0));
        assert!(matches!(skipped[0].error, CaptureError::Io { .. }));
        // Neither the first part nor a later one is an end without a reason.
        let mut captures = Captures::open(inputs(), Faults::default()).expect("the files exist").with_read_size(64);
        captures.merge_parts_at_once();
        let mut batch = RecordBatch::default();
        let error = loop {
            match captures.next_batch(&mut batch) {
                Err(CaptureError::Restart) => std::fs::remove_file(&names[1]).expect("a file"),
                Ok(true) => {}
                Ok(false) => panic!("the file is gone"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, CaptureError::Io { .. }));
    }

    #[test]
    fn what_the_caller_raises_is_never_passed_over() {
        let (_, captures, error) = read_all(vec![failing(&sample(2), ErrorKind::Other)], SKIP);
        assert!(matches!(error, Some(CaptureError::Io { .. })));
        assert_eq!(captures.skipped().count(), 0);
    }
}
