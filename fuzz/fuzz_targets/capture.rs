//! Arbitrary bytes as a capture: reading terminates, records lie inside their batch, and the read size has no effect.
#![no_main]

use std::io::Cursor;

use conntrack_core::capture::{CaptureReader, Input, Record, RecordBatch};
use libfuzzer_sys::fuzz_target;

fn records(data: &[u8], piece: usize) -> Vec<(Record, Vec<u8>)> {
    let input = Input::Reader { name: "fuzz".into(), reader: Box::new(Cursor::new(data.to_vec())) };
    let Ok(reader) = CaptureReader::new(input, 0, false) else { return Vec::new() };
    let mut reader = reader.with_read_size(piece);
    let mut batch = RecordBatch::default();
    let mut all = Vec::new();
    while let Ok(more) = reader.next_batch(&mut batch) {
        // Only the index of a record in the buffer depends on the read size.
        all.extend(batch.records.iter().map(|record| (Record { start: 0, ..*record }, batch.bytes(record).to_vec())));
        if !more {
            break;
        }
    }
    all
}

fuzz_target!(|data: &[u8]| {
    assert_eq!(records(data, 1 << 18), records(data, 512));
});
