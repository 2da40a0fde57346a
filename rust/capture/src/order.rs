//! Order of the parts of a file: captures one behind the other, and pcapng sections.
//!
//! Only a reading of the whole file tells whether its parts overlap in time. So the reading goes on as stored until the
//! second part begins. Then a scan ahead notes the place and the times of every part, and a file whose parts overlap is
//! read again from its begin, part by part. A file of one part, as nearly every one, costs nothing.

use conntrack_base::time::timed;

use super::reader::{CaptureReader, PartPlace};
use super::{Record, RecordBatch};
use crate::error::CaptureError;

/// Maximum number of parts of all files that are merged by time.
pub const MOST_PARTS: usize = 65_536;

/// Maximum number of times that a compressed file is read again to reach its parts.
pub const MOST_REREADS: u64 = 16;

/// Bytes that may always be read again to reach the parts of a compressed file.
pub const MOST_REREAD: u64 = 1 << 30;

/// Order of a file's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parts {
    /// Not known yet, or only one.
    Unknown,
    /// Stored in time order.
    Sorted,
    /// Overlapping, and merged.
    Merged,
    /// Overlapping, but read as stored; the number of parts that begin before the end of earlier ones.
    AsStored(u64),
}

/// A part found by a scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundPart {
    pub(super) place: PartPlace,
    /// Time of the first record; None without records.
    pub(super) first: Option<i64>,
}

/// Count of parts that begin before the end of earlier ones, while a file is read as stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredOrder {
    latest: i64,
    pub(super) early: u64,
}

impl Default for StoredOrder {
    fn default() -> Self {
        Self { latest: i64::MIN, early: 0 }
    }
}

impl StoredOrder {
    /// Note the records of a batch, and the indexes of those that begin a part.
    pub(super) fn note(&mut self, records: &[Record], marks: &[(u64, u32)]) {
        let mut noted = 0;
        let mut earlier = None;
        for &(_, index) in marks.iter().filter(|(_, index)| earlier.replace(*index) != Some(*index)) {
            let Some(first) = records.get(index as usize) else { break };
            self.pass(&records[noted..index as usize]);
            self.early += u64::from(first.ts < self.latest);
            noted = index as usize;
        }
        self.pass(&records[noted..]);
    }

    fn pass(&mut self, records: &[Record]) {
        self.latest = records.iter().fold(self.latest, |latest, record| latest.max(record.ts));
    }
}

/// Scan of a file for its parts.
pub(super) struct Scanning {
    pub(super) file: u32,
    reader: CaptureReader,
    batch: RecordBatch,
    /// Offsets of the parts, and times of their first records.
    parts: Vec<(u64, Option<i64>)>,
    too_many: bool,
    latest: i64,
    early: u64,
}

impl Scanning {
    pub(super) fn new(file: u32, reader: CaptureReader) -> Self {
        let parts = vec![(0, None)];
        Self { file, reader, batch: RecordBatch::default(), parts, too_many: false, latest: i64::MIN, early: 0 }
    }

    /// Read on; false at the end of the file. Errors end the scan, and are those of the reading itself later.
    pub(super) fn step(&mut self) -> Result<bool, CaptureError> {
        let more = match self.reader.next_batch(&mut self.batch) {
            Ok(more) => more,
            Err(CaptureError::Interrupted) => return Err(CaptureError::Interrupted),
            Err(_) => false,
        };
        let batch = std::mem::take(&mut self.batch);
        let marks = self.reader.marks().to_vec();
        let mut marks = marks.iter().peekable();
        for (record, index) in batch.records.iter().zip(0..) {
            while let Some(&(start, _)) = marks.next_if(|mark| mark.1 <= index) {
                self.begin(start);
            }
            if let Some((_, first @ None)) = self.parts.last_mut()
                && timed(record.ts).is_some()
            {
                *first = Some(record.ts);
                self.early += u64::from(record.ts < self.latest);
            }
            self.latest = self.latest.max(record.ts);
        }
        if !more {
            marks.for_each(|&(start, _)| self.begin(start));
        }
        self.batch = batch;
        Ok(more)
    }

    fn begin(&mut self, start: u64) {
        self.too_many |= self.parts.len() >= MOST_PARTS;
        if self.too_many {
            // The place does not matter any more, the times do.
            self.parts.clear();
        }
        self.parts.push((start, None));
    }

    /// The order of the parts, with their places if they can be merged; `room`: the number of parts that may be.
    pub(super) fn finish(self, room: usize) -> (Parts, Vec<FoundPart>) {
        if self.early == 0 {
            return (Parts::Sorted, Vec::new());
        }
        let compressed = self.reader.is_compressed();
        let reread = self.parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.0));
        let is_costly = compressed && reread > MOST_REREAD.max(self.reader.size().saturating_mul(MOST_REREADS));
        if self.too_many || self.parts.len() > room || is_costly {
            return (Parts::AsStored(self.early), Vec::new());
        }
        let found = |&(start, first): &_| FoundPart { place: PartPlace { start, compressed }, first };
        (Parts::Merged, self.parts.iter().map(found).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::super::testing::*;
    use super::super::{Captures, Input};
    use super::*;

    /// A part: format and byte order, and milliseconds of the packets.
    type Part = (u8, Vec<u32>);

    fn part((format, times): &Part) -> Vec<u8> {
        if *format == 8 {
            let mut file = snoop_file(4);
            for ms in times {
                snoop_packet(&mut file, T0 + ms / 1000, ms % 1000 * 1000, 1500, &payload(*ms));
            }
            return file;
        }
        let big = format & 1 != 0;
        if format & 2 == 0 {
            let mut file = PcapFile::new(if format & 4 == 0 { 0xa1b2_c3d4 } else { 0xa1b2_3c4d }, big);
            for ms in times {
                file.packet(T0 + ms / 1000, ms % 1000 * if format & 4 == 0 { 1000 } else { 1_000_000 }, &payload(*ms));
            }
            return file.bytes;
        }
        let mut file = PcapngFile::new(big);
        file.interface(if format & 4 == 0 { 1 } else { 101 }, 0, &[]);
        for ms in times {
            file.packet(0, u64::from(T0) * 1_000_000 + u64::from(*ms) * 1000, &payload(*ms));
        }
        file.bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).and_then(|()| gzip.finish()).expect("compression to memory")
    }

    /// Time, link type and bytes of each record.
    fn contents(all: &All) -> Vec<(i64, u16, &[u8])> {
        all.records.iter().map(|r| (r.ts, r.linktype.0, &r.bytes[..])).collect()
    }

    /// Check that a file of parts gives the same as the parts in files of their own.
    fn check(name: &str, parts: &[Part], compress: fn(&[u8]) -> Vec<u8>) -> Captures {
        let folder = Folder::new(name);
        let parts: Vec<Vec<u8>> = parts.iter().map(part).collect();
        let apart = parts.iter().enumerate().map(|(i, bytes)| folder.write(&i.to_string(), bytes)).collect();
        let expected = read_merged(apart, READ_SIZES[0]);
        let whole = parts.concat();
        let mut last = None;
        for read_size in READ_SIZES {
            let (all, captures, restarts) = read_parts(vec![folder.write("all", &compress(&whole))], read_size);
            assert_eq!(contents(&all), contents(&expected), "read size {read_size}");
            assert_eq!((all.damage.total(), all.error.is_none()), (0, true));
            assert_eq!(captures.size_and_parts(), (whole.len() as u64, parts.len() as u64));
            let merged = captures.merged_and_early_parts();
            assert_eq!(merged, (if restarts == 0 { 0 } else { parts.len() as u64 }, 0));
            assert!(restarts <= 1);
            last = Some(captures);
        }
        last.expect("a reading")
    }

    const READ_SIZES: [usize; 3] = [256 << 10, 100, 3000];

    fn parts() -> impl Strategy<Value = Vec<Part>> {
        let times = (0..3000_u32, proptest::collection::vec(-3..60_i32, 0..12)).prop_map(|(first, steps)| {
            let mut at = first;
            steps
                .into_iter()
                .map(|step| {
                    at = at.saturating_add_signed(step);
                    at
                })
                .collect::<Vec<_>>()
        });
        proptest::collection::vec((0..9_u8, times), 1..9)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn parts_give_what_files_of_their_own_give(parts in parts(), compressed: bool) {
            if compressed {
                check("gzip-parts", &parts, gzip);
            } else {
                check("parts", &parts, <[u8]>::to_vec);
            }
        }
    }

    #[test]
    fn a_thousand_parts_of_a_packet() {
        let parts: Vec<Part> = (0..1000).map(|i| ((i % 9) as u8, vec![i * 7919 % 1000])).collect();
        let captures = check("thousand", &parts, <[u8]>::to_vec);
        assert_eq!(captures.merged_and_early_parts(), (1000, 0));
    }

    #[test]
    fn parts_in_order_are_read_once() {
        let parts: Vec<Part> = (0..50).map(|i| ((i % 9) as u8, (i * 20..=i * 20 + 20).collect())).collect();
        let folder = Folder::new("sorted");
        let whole = parts.iter().map(part).collect::<Vec<_>>().concat();
        let (all, captures, restarts) = read_parts(vec![folder.write("all", &whole)], 1000);
        assert_eq!((all.records.len(), restarts, captures.merged_and_early_parts()), (50 * 21, 0, (0, 0)));
    }

    #[test]
    fn parts_of_one_among_several_files() {
        let folder = Folder::new("several");
        let overlapping = [part(&(0, vec![10, 20, 30])), part(&(3, vec![5, 25]))].concat();
        let inputs = || {
            let sorted = [part(&(0, vec![1, 2])), part(&(0, vec![2, 40]))].concat();
            vec![folder.write("a", &sorted), folder.write("b", &overlapping), folder.write("c", &overlapping)]
        };
        let (all, captures, restarts) = read_parts(inputs(), 64);
        let ms = |r: &Got| (r.file, (r.ts / 1_000_000 - i64::from(T0) * 1000) as u32);
        let expected = [
            (0, 1),
            (0, 2),
            (0, 2),
            (1, 5),
            (2, 5),
            (1, 10),
            (2, 10),
            (1, 20),
            (2, 20),
            (1, 25),
            (2, 25),
            (1, 30),
            (2, 30),
            (0, 40),
        ];
        assert_eq!(all.records.iter().map(ms).collect::<Vec<_>>(), expected);
        assert_eq!((restarts, captures.merged_and_early_parts()), (1, (4, 0)));

        let mut at_once = Captures::open(inputs(), false).expect("the inputs open");
        at_once.merge_parts_at_once();
        let (mut batch, mut records, mut restarts) = (RecordBatch::default(), Vec::new(), 0);
        loop {
            match at_once.next_batch(&mut batch) {
                Ok(false) => break,
                Ok(true) => collect(&batch, &mut records),
                Err(CaptureError::Restart) => restarts += 1,
                Err(e) => panic!("{e}"),
            }
            assert!(restarts > 0 || records.is_empty(), "nothing was given before");
        }
        assert_eq!(records, all.records);
    }

    #[test]
    fn a_pipe_is_read_as_stored_and_says_so() {
        for (parts, early) in [
            (vec![(0, vec![10, 20, 15]), (3, vec![19, 30]), (0, vec![]), (2, vec![29]), (0, vec![30])], 2),
            (vec![(0, vec![10, 20]), (0, vec![20, 30]), (3, vec![30])], 0),
        ] {
            let whole = parts.iter().map(part).collect::<Vec<_>>().concat();
            let times: Vec<u32> = parts.iter().flat_map(|(_, times)| times.clone()).collect();
            for step in [1, 50, usize::MAX] {
                let inputs: Vec<Input> = vec![input("pipe", Dribble::new(&whole, step, true))];
                let (all, captures, restarts) = read_parts(inputs, 300);
                let got: Vec<u32> =
                    all.records.iter().map(|r| (r.ts / 1_000_000 - i64::from(T0) * 1000) as u32).collect();
                assert_eq!((got, restarts, captures.merged_and_early_parts()), (times.clone(), 0, (0, early)));
            }
        }
    }

    #[test]
    fn too_many_or_too_costly_parts_are_read_as_stored() {
        let reader = || CaptureReader::open("no/such/file".as_ref(), 0, false);
        assert!(reader().is_err());
        let folder = Folder::new("costly");
        let Input::Path(path) = folder.write("two", &[part(&(0, vec![9])), part(&(0, vec![3]))].concat()) else {
            panic!("a file by name")
        };
        for (room, expected) in [(2, Parts::Merged), (1, Parts::AsStored(1))] {
            let mut scanning = Scanning::new(0, CaptureReader::open(&path, 0, false).expect("the file opens"));
            while scanning.step().expect("no signal") {}
            assert_eq!(scanning.finish(room).0, expected);
        }
    }
}
