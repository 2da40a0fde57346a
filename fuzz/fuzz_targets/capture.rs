//! Arbitrary bytes as a capture: reading terminates, records lie inside their batch, and the read size has no effect.
//! Merging the parts of a file by time changes the order of records, and nothing else.
#![no_main]

use std::io::Cursor;
use std::path::Path;

use conntrack_core::capture::{CaptureReader, Captures, Input, Record, RecordBatch};
use conntrack_core::error::CaptureError;
use libfuzzer_sys::fuzz_target;

/// Records as stored, the number of parts, and true where an error ended the reading.
fn records(data: &[u8], piece: usize) -> (Vec<(Record, Vec<u8>)>, u64, bool) {
    let input = Input::Reader { name: "fuzz".into(), reader: Box::new(Cursor::new(data.to_vec())) };
    let Ok(reader) = CaptureReader::new(input, 0, false) else { return (Vec::new(), 0, true) };
    let mut reader = reader.with_read_size(piece);
    let mut batch = RecordBatch::default();
    let mut all = Vec::new();
    loop {
        let Ok(more) = reader.next_batch(&mut batch) else { return (all, reader.parts(), true) };
        // Only the index of a record in the buffer depends on the read size.
        all.extend(batch.records.iter().map(|record| (Record { start: 0, ..*record }, batch.bytes(record).to_vec())));
        if !more {
            break;
        }
    }
    (all, reader.parts(), false)
}

/// Records of a file whose parts are merged by time, if they overlap, and the places of damage. An error of a part may
/// come before the records of parts stored in front of it.
fn merged(path: &Path, piece: usize) -> Option<(Vec<(Record, Vec<u8>)>, u64)> {
    let mut captures = Captures::open(vec![Input::Path(path.to_owned())], false).ok()?.with_read_size(piece);
    captures.merge_parts();
    let (mut batch, mut all, mut restarted) = (RecordBatch::default(), Vec::new(), false);
    loop {
        match captures.next_batch(&mut batch) {
            Ok(more) => {
                all.extend(batch.records.iter().map(|r| (Record { start: 0, ..*r }, batch.bytes(r).to_vec())));
                if !more {
                    break;
                }
            }
            Err(CaptureError::Restart) => {
                assert!(!std::mem::replace(&mut restarted, true), "one restart is enough");
                all.clear();
            }
            Err(error) => panic!("an error only where parts are merged: {error:?}"),
        }
    }
    restarted.then(|| (all, captures.damage().total()))
}

/// A file for each process of the fuzzer.
fn file(data: &[u8]) -> Option<std::path::PathBuf> {
    let path = std::env::temp_dir().join(format!("conntrack-fuzz-{}", std::process::id()));
    std::fs::write(&path, data).ok()?;
    Some(path)
}

fuzz_target!(|data: &[u8]| {
    let (mut stored, parts, fails) = records(data, 1 << 18);
    assert_eq!((stored.clone(), parts, fails), records(data, 512));
    if parts < 2 || fails {
        return;
    }
    if let Some(path) = file(data)
        && let Some((mut all, damage)) = merged(&path, 1 << 18)
    {
        assert_eq!(Some((all.clone(), damage)), merged(&path, 300));
        all.sort_by_key(|(record, _)| record.offset);
        stored.sort_by_key(|(record, _)| record.offset);
        assert_eq!(all, stored);
    }
});
